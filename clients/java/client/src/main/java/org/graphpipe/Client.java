package org.graphpipe;

import java.io.IOException;
import java.net.ConnectException;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpTimeoutException;
import java.nio.ByteBuffer;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import javax.net.ssl.SSLContext;

/**
 * Asks one model of a GraphPipe server.
 *
 * <pre>{@code
 * Client client = Client.of("http://127.0.0.1:9000");
 * Tensor answer = client.execute(Tensor.fromArray(new float[][] {{1, 2, 3}}));
 * float[][] rows = (float[][]) answer.toArray();
 * }</pre>
 *
 * <p>Calls go out as HTTP/1.1 POSTs over connections of the client's own, which are kept and used
 * again, with TLS for {@code https://} and over Unix sockets for {@code unix:}. A blocking call
 * works on the thread that makes it; the others, and those of virtual threads, share one thread of
 * the client's. Each takes at most its timeout, from the call to the last byte of the answer; the
 * server is told, in the header {@code GraphPipe-Timeout-Ms}, and may stop working when the time is
 * up. A model may not be safe to run twice: a request is sent again, once, only where a kept
 * connection turns out closed before the whole request went out and before any byte of an answer.
 * Redirects are not followed and answers not decompressed.
 *
 * <p>Instances are meant to be shared between threads. They need no closing: connections end when
 * they have been idle for half a minute. {@link #close} ends them at once.
 */
public final class Client implements AutoCloseable {
  /** How long a call takes at most, where nobody says otherwise. */
  public static final Duration TIMEOUT_DEFAULT = Duration.ofSeconds(60);

  /** How long a connection may take to be made, where nobody says otherwise. */
  public static final Duration CONNECT_TIMEOUT_DEFAULT = Duration.ofSeconds(30);

  /** How large an answer is at most, where nobody says otherwise: 1 GiB. */
  public static final int ANSWER_BYTES_MAX_DEFAULT = 1 << 30;

  /** How many connections asynchronous calls use at once, where nobody says otherwise. */
  public static final int CONNECTIONS_MAX_DEFAULT = 100;

  /** What a call for metadata has of its own: nothing. */
  private static final InferRequest NOTHING_ASKED = InferRequest.of();

  private final Target target;
  private final Transport transport;
  private final Duration timeout;
  private final Executor executor;
  private volatile boolean closed;

  private Client(Builder builder) {
    target = builder.target;
    transport = builder.transport();
    timeout = builder.timeout;
    executor =
        builder.executor != null
            ? builder.executor
            : new CompletableFuture<Void>().defaultExecutor();
  }

  /**
   * A client with nothing but defaults.
   *
   * @param url where the model answers, such as {@code http://127.0.0.1:9000}, {@code
   *     https://host/models/digits}, {@code unix:/run/gp.sock} or {@code
   *     unix:/run/gp.sock:/models/digits}. A login in it is sent as Basic, and never shown.
   * @return a client; it connects with its first call
   * @throws IllegalArgumentException if this is no http, https or unix URL
   */
  public static Client of(String url) {
    return builder(url).build();
  }

  /**
   * Starts a client.
   *
   * @param url where the model answers, such as {@code http://127.0.0.1:9000}, {@code
   *     https://host/models/digits}, {@code unix:/run/gp.sock} or {@code
   *     unix:/run/gp.sock:/models/digits}. A login in it is sent as Basic, and never shown.
   * @return a builder with nothing but defaults
   * @throws IllegalArgumentException if this is no http, https or unix URL
   */
  public static Builder builder(String url) {
    return new Builder(Target.parse(url));
  }

  /**
   * Runs the model once and returns its outputs in the order they were asked for, or all default
   * outputs if none were. Blocks for at most the request's timeout, or else the client's, and never
   * retries. The returned tensors share one buffer.
   *
   * @param request what to ask
   * @return the outputs
   * @throws GraphPipeException if the server read the request and refused or failed it
   * @throws HttpTimeoutException if the time was up
   * @throws ConnectException if no connection was made; the model has not run
   * @throws MalformedMessageException if the answer is no GraphPipe message
   * @throws IOException if no answer was understood, for these reasons or others
   * @throws InterruptedException if the thread was interrupted; the exchange is ended
   * @throws IllegalArgumentException if the request cannot be sent: see {@link
   *     Writer#write(InferRequest)}
   */
  public List<Tensor> infer(InferRequest request) throws IOException, InterruptedException {
    return outputs(call(Writer.write(request), request, null));
  }

  /**
   * Runs the model once, as {@link #infer} does, and receives the answer into memory of the
   * caller's, which saves the JVM from finding and clearing fresh memory for each large answer.
   *
   * @param request what to ask
   * @param buffer receives the answer's bytes from its position on; its position and limit are left
   *     alone. The returned tensors of numbers look into it: they hold until it is written to
   *     again. An answer that does not fit gets memory of its own. For tensors that start at
   *     multiples of 64 in memory, use {@link ByteBuffer#alignedSlice
   *     ByteBuffer.allocateDirect(n).alignedSlice(64)}.
   * @return the outputs
   * @throws GraphPipeException if the server read the request and refused or failed it
   * @throws HttpTimeoutException if the time was up
   * @throws ConnectException if no connection was made; the model has not run
   * @throws MalformedMessageException if the answer is no GraphPipe message
   * @throws IOException if no answer was understood, for these reasons or others
   * @throws InterruptedException if the thread was interrupted; the exchange is ended
   * @throws IllegalArgumentException if the request cannot be sent, or the buffer not be written to
   */
  public List<Tensor> inferInto(InferRequest request, ByteBuffer buffer)
      throws IOException, InterruptedException {
    if (buffer.isReadOnly()) {
      throw new IllegalArgumentException("the buffer is read-only");
    }
    return outputs(call(Writer.write(request), request, buffer));
  }

  /**
   * Runs the model once, without blocking. At most {@link Builder#connectionsMax} such calls are
   * under way; up to 10,000 more wait for their turn, first come first served, and that is part of
   * their time.
   *
   * @param request what to ask; its tensors must not change until the future is done
   * @return the outputs, or, as the cause of {@link ExecutionException}, what {@link #infer}
   *     throws. Cancelling or otherwise completing it ends the exchange and closes its connection.
   *     Where too many calls wait already, it has failed with a {@link ConnectException}.
   * @throws IllegalArgumentException if the request cannot be sent: see {@link
   *     Writer#write(InferRequest)}
   */
  public CompletableFuture<List<Tensor>> inferAsync(InferRequest request) {
    return callAsync(Writer.write(request), request, Client::outputs);
  }

  /**
   * Runs a model of one input and one output.
   *
   * @param input the tensor for the server's default input
   * @return the only output; it stands alone in its buffer
   * @throws GraphPipeException if the server read the request and refused or failed it
   * @throws HttpTimeoutException if the time was up
   * @throws ConnectException if no connection was made; the model has not run
   * @throws MalformedMessageException if the answer is no GraphPipe message
   * @throws IOException if no answer was understood, for these reasons or others; also if it holds
   *     not exactly one output
   * @throws InterruptedException if the thread was interrupted; the exchange is ended
   * @throws IllegalArgumentException if the request cannot be sent: see {@link
   *     Writer#write(InferRequest)}
   */
  public Tensor execute(Tensor input) throws IOException, InterruptedException {
    List<Tensor> outputs = infer(InferRequest.of(input));
    if (outputs.size() != 1) {
      throw new IOException(
          "expected one output, got " + outputs.size() + ": use infer, and name the output");
    }
    return outputs.get(0);
  }

  /**
   * Asks what the model takes and gives.
   *
   * @return the model's description
   * @throws GraphPipeException if the server read the request and refused or failed it
   * @throws HttpTimeoutException if the time was up
   * @throws ConnectException if no connection was made; the model has not run
   * @throws MalformedMessageException if the answer is no GraphPipe message
   * @throws IOException if no answer was understood, for these reasons or others
   * @throws InterruptedException if the thread was interrupted; the exchange is ended
   */
  public Metadata metadata() throws IOException, InterruptedException {
    return Reader.readMetadata(bodyOf(call(Writer.metadataRequest(), NOTHING_ASKED, null)));
  }

  /**
   * Closes the connections that no call is using, and those in use when their calls are done. To
   * call afterwards gives {@link IllegalStateException}; to close again does nothing. No thread is
   * left when the last call is done.
   */
  @Override
  public void close() {
    closed = true;
    transport.close();
  }

  /** The server's URL, without login and query. */
  @Override
  public String toString() {
    return "Client[" + target + "]";
  }

  static Duration requirePositive(Duration duration) {
    if (duration.isZero() || duration.isNegative()) {
      throw new IllegalArgumentException("expected a timeout above zero, got " + duration);
    }
    return duration;
  }

  private Duration timeoutOf(InferRequest request) {
    return request.timeout().orElse(timeout);
  }

  private Answer call(EncodedMessage message, InferRequest request, ByteBuffer into)
      throws IOException, InterruptedException {
    requireOpen();
    return transport.send(message, request.headers(), timeoutOf(request), into);
  }

  private <T> CompletableFuture<T> callAsync(
      EncodedMessage message, InferRequest request, Understanding<T> understanding) {
    requireOpen();
    AsyncCall call = transport.sendAsync(message, request.headers(), timeoutOf(request));
    CompletableFuture<T> result = new CompletableFuture<>();
    // Elsewhere: what hangs on the result may take its time, and others wait for the engine.
    call.result()
        .whenComplete(
            (answer, failure) -> {
              try {
                executor.execute(() -> complete(result, answer, failure, understanding));
              } catch (RejectedExecutionException e) {
                result.completeExceptionally(new IOException("no thread for the answer", e));
              }
            });
    result.whenComplete((value, failure) -> transport.cancel(call));
    return result;
  }

  private static <T> void complete(
      CompletableFuture<T> result,
      Answer answer,
      Throwable failure,
      Understanding<T> understanding) {
    try {
      if (failure != null) {
        result.completeExceptionally(failure);
      } else {
        result.complete(understanding.of(answer));
      }
    } catch (Throwable e) {
      result.completeExceptionally(e);
    }
  }

  /** What becomes of an answer. */
  @FunctionalInterface
  private interface Understanding<T> {
    T of(Answer answer) throws IOException;
  }

  private void requireOpen() {
    if (closed) {
      throw new IllegalStateException("the client is closed");
    }
  }

  private static List<Tensor> outputs(Answer answer) throws IOException {
    InferResponse message = Reader.readInferResponse(bodyOf(answer));
    if (!message.errors().isEmpty()) {
      throw Refusal.of(message.errors().get(0), answer.head());
    }
    return message.outputs();
  }

  /** The body of an answer that is none of refusal. */
  private static ByteBuffer bodyOf(Answer answer) {
    if (answer.head().status() == 200) {
      return answer.body();
    }
    throw Refusal.of(answer);
  }

  /** Collects a client. Not for use by several threads at once. */
  public static final class Builder {
    private final Target target;
    private Duration timeout = TIMEOUT_DEFAULT;
    private Duration connectTimeout = CONNECT_TIMEOUT_DEFAULT;
    private int answerBytesMax = ANSWER_BYTES_MAX_DEFAULT;
    private int connectionsMax; // 0 where nobody said
    private Executor executor;
    private SSLContext sslContext;
    private Target proxy;
    private boolean isProxyChosen;
    private String apiKey;
    private final Headers headers = new Headers();

    private Builder(Target target) {
      this.target = target;
    }

    /**
     * Sets how long a call may take, from its start to the last byte of the answer. A request may
     * have a timeout of its own.
     *
     * @param duration more than zero; 60 seconds where this is not called
     * @return this
     * @throws IllegalArgumentException if the duration is not positive
     */
    public Builder timeout(Duration duration) {
      timeout = requirePositive(duration);
      return this;
    }

    /**
     * Sets how long a connection may take to be made, TLS included. That is part of a call's time.
     *
     * @param duration more than zero; 30 seconds where this is not called
     * @return this
     * @throws IllegalArgumentException if the duration is not positive
     */
    public Builder connectTimeout(Duration duration) {
      connectTimeout = requirePositive(duration);
      return this;
    }

    /**
     * Sets how large an answer may be. A larger one is refused, before memory is taken for it where
     * its head says its length.
     *
     * @param bytes at least 1; 1 GiB where this is not called
     * @return this
     * @throws IllegalArgumentException if the number is not positive
     */
    public Builder answerBytesMax(int bytes) {
      if (bytes <= 0) {
        throw new IllegalArgumentException("expected a limit above zero, got " + bytes);
      }
      answerBytesMax = bytes;
      return this;
    }

    /**
     * Sets how many connections are used at once, by calls of all kinds together. Further calls
     * wait for their turn, first come first served, within their time. Where this is not called,
     * 100 hold for {@link Client#inferAsync} alone: a call that blocks has a thread of its caller's
     * for itself, and needs no other bound.
     *
     * @param connections at least 1
     * @return this
     * @throws IllegalArgumentException if the number is not positive
     */
    public Builder connectionsMax(int connections) {
      if (connections <= 0) {
        throw new IllegalArgumentException("expected at least one connection, got " + connections);
      }
      connectionsMax = connections;
      return this;
    }

    /**
     * Sets the threads on which the futures of {@link Client#inferAsync} are completed: answers are
     * decoded there, and what hangs on them runs there.
     *
     * @param executor instead of the one that {@link CompletableFuture} uses by default
     * @return this
     */
    public Builder executor(Executor executor) {
      this.executor = Objects.requireNonNull(executor, "executor");
      return this;
    }

    /**
     * Sets certificates and roots for {@code https}. The server's certificate must be for its host
     * whatever the context trusts.
     *
     * @param context instead of {@link SSLContext#getDefault}
     * @return this
     */
    public Builder sslContext(SSLContext context) {
      sslContext = Objects.requireNonNull(context, "context");
      return this;
    }

    /**
     * Sends all calls through a proxy, whatever {@link ProxySelector#getDefault} says. That one is
     * asked otherwise, except for loopback and Unix sockets. A server behind {@code https} is
     * reached through a tunnel.
     *
     * @param url such as {@code http://proxy:3128}; a login in it is for the proxy
     * @return this
     * @throws IllegalArgumentException if this is no http URL
     */
    public Builder proxy(URI url) {
      Target chosen = Target.parse(url.toString());
      if (chosen.isSecure() || chosen.socket() != null) {
        throw new IllegalArgumentException(
            "expected a proxy such as http://HOST:PORT, got " + chosen);
      }
      proxy = chosen;
      isProxyChosen = true;
      return this;
    }

    /**
     * Uses no proxy, whatever {@link ProxySelector#getDefault} says.
     *
     * @return this
     */
    public Builder noProxy() {
      proxy = null;
      isProxyChosen = true;
      return this;
    }

    /**
     * Adds a header to each request, in place of the client's own of the same name. {@link
     * InferRequest.Builder#header} is for one call.
     *
     * @param name the header's name; one given twice has its last value
     * @param value the header's value
     * @return this
     * @throws IllegalArgumentException if this is no header, or one that frames the message
     */
    public Builder header(String name, String value) {
      headers.set(name, Objects.requireNonNull(value, "value"));
      return this;
    }

    /**
     * Sends a key with each request: {@code Authorization: Bearer KEY}. It takes the place of a
     * login in the URL, and a header Authorization takes its place.
     *
     * @param key the key
     * @return this
     * @throws IllegalArgumentException if it has control characters
     */
    public Builder apiKey(String key) {
      new Headers().set("Authorization", Objects.requireNonNull(key, "key"));
      apiKey = key;
      return this;
    }

    /**
     * Makes the client; nothing is sent yet.
     *
     * @return the client
     * @throws IllegalArgumentException if this Java has no TLS of its own, and none was given
     */
    public Client build() {
      return new Client(this);
    }

    private Transport transport() {
      Target by = isProxyChosen ? proxy : platformProxy();
      if (target.socket() != null) {
        by = null;
      }
      SSLContext tls = !target.isSecure() ? null : sslContext != null ? sslContext : defaultTls();
      Map<String, String> all = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
      if (apiKey != null) {
        all.put("Authorization", "Bearer " + apiKey);
      }
      all.putAll(headers.copy());
      return new Transport(
          new Route(target, by, tls, connectTimeout),
          new RequestHead(target, target.isSecure() ? null : by, all),
          answerBytesMax,
          connectionsMax > 0 ? connectionsMax : CONNECTIONS_MAX_DEFAULT,
          connectionsMax > 0);
    }

    /**
     * The proxy of the JVM's settings, such as {@code -Dhttp.proxyHost}; null where there is none.
     */
    private Target platformProxy() {
      ProxySelector selector = ProxySelector.getDefault();
      if (selector == null || target.isLoopback()) {
        return null;
      }
      List<Proxy> proxies = selector.select(target.uri());
      if (proxies == null
          || proxies.isEmpty()
          || proxies.get(0).type() != Proxy.Type.HTTP
          || !(proxies.get(0).address() instanceof InetSocketAddress address)) {
        return null;
      }
      String host = address.getHostString();
      String shown = host.contains(":") ? "[" + host + "]" : host;
      return Target.parse("http://" + shown + ":" + address.getPort());
    }

    private static SSLContext defaultTls() {
      try {
        return SSLContext.getDefault();
      } catch (NoSuchAlgorithmException e) {
        throw new IllegalArgumentException("this Java has no TLS: give an sslContext", e);
      }
    }
  }
}
