package org.graphpipe;

import java.io.IOException;
import java.net.Proxy;
import java.net.ProxySelector;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpTimeoutException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;

/**
 * Asks one model of a GraphPipe server.
 *
 * <pre>{@code
 * Client client = Client.of("http://127.0.0.1:9000");
 * Tensor answer = client.execute(Tensor.fromArray(new float[][] {{1, 2, 3}}));
 * float[][] rows = (float[][]) answer.toArray();
 * }</pre>
 *
 * <p>Calls go out as HTTP/1.1 POSTs over connections that are kept and used again. Each takes at
 * most its timeout, from the call to the last byte of the answer; the server is told, in the header
 * {@code GraphPipe-Timeout-Ms}, and may stop working when the time is up. A model may not be safe
 * to run twice: a request is sent again, once, only where a kept connection turns out closed before
 * the whole request went out and before any byte of an answer. Redirects are not followed and
 * answers not decompressed.
 *
 * <p>Plain {@code http://} goes over sockets of the client's own, on the calling thread. {@code
 * https://}, a proxy of the JVM's settings, and a client given to {@link Builder#httpClient} go by
 * {@link HttpClient}, and there a request is never sent again. ({@code
 * -Djdk.httpclient.enableAllMethodRetry} is stopped here. Opening a connection may be tried twice,
 * before anything is sent.)
 *
 * <p>Instances are meant to be shared between threads. They need no closing: connections end when
 * they have been idle for half a minute. {@link #close} ends them at once.
 */
public final class Client implements AutoCloseable {
  /** How long a call takes at most, where nobody says otherwise. */
  public static final Duration TIMEOUT_DEFAULT = Duration.ofSeconds(60);

  /** How large an answer is at most, where nobody says otherwise: 1 GiB. */
  public static final int RESPONSE_BYTES_MAX_DEFAULT = 1 << 30;

  private static final int MESSAGE_CHARS_MAX = 4096;

  private final Transport transport;
  private final Duration timeout;
  private volatile boolean closed;

  private Client(Builder builder) {
    transport = transport(builder);
    timeout = builder.timeout;
  }

  /**
   * A client with nothing but defaults.
   *
   * @param url where the model answers, such as {@code http://127.0.0.1:9000} or {@code
   *     https://host/models/digits}
   * @return a client; it connects with its first call
   * @throws IllegalArgumentException if this is no http or https URL
   */
  public static Client of(String url) {
    return builder(url).build();
  }

  /**
   * Starts a client.
   *
   * @param url where the model answers, such as {@code http://127.0.0.1:9000} or {@code
   *     https://host/models/digits}
   * @return a builder with nothing but defaults
   * @throws IllegalArgumentException if this is no http or https URL
   */
  public static Builder builder(String url) {
    return new Builder(parse(url));
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
   * @throws MalformedMessageException if the answer is no GraphPipe message
   * @throws IOException if no answer was understood, for these reasons or others
   * @throws InterruptedException if the thread was interrupted; the exchange is ended
   * @throws IllegalArgumentException if the request cannot be sent: see {@link
   *     Writer#write(InferRequest)}
   */
  public List<Tensor> infer(InferRequest request) throws IOException, InterruptedException {
    return outputs(call(Writer.write(request), timeoutOf(request), null));
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
    return outputs(call(Writer.write(request), timeoutOf(request), buffer));
  }

  /**
   * Runs the model once, without blocking.
   *
   * @param request what to ask; its tensors must not change until the future is done
   * @return the outputs, or, as the cause of {@link ExecutionException}, what {@link #infer}
   *     throws. Cancelling or otherwise completing it ends the exchange and closes its connection.
   * @throws IllegalArgumentException if the request cannot be sent: see {@link
   *     Writer#write(InferRequest)}
   */
  public CompletableFuture<List<Tensor>> inferAsync(InferRequest request) {
    return callAsync(Writer.write(request), timeoutOf(request), Client::outputs);
  }

  /**
   * Runs a model of one input and one output.
   *
   * @param input the tensor for the server's default input
   * @return the only output; it stands alone in its buffer
   * @throws GraphPipeException if the server read the request and refused or failed it
   * @throws HttpTimeoutException if the time was up
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
   * @throws MalformedMessageException if the answer is no GraphPipe message
   * @throws IOException if no answer was understood, for these reasons or others
   * @throws InterruptedException if the thread was interrupted; the exchange is ended
   */
  public Metadata metadata() throws IOException, InterruptedException {
    return Reader.readMetadata(bodyOf(call(Writer.metadataRequest(), timeout, null)));
  }

  /**
   * Closes the connections that no call is using, and those in use when their calls are done. To
   * call afterwards gives {@link IllegalStateException}; to close again does nothing. An {@link
   * HttpClient} is left alone: its connections end by themselves.
   */
  @Override
  public void close() {
    closed = true;
    transport.close();
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

  private Answer call(EncodedMessage message, Duration timeout, ByteBuffer into)
      throws IOException, InterruptedException {
    requireOpen();
    return transport.send(message, timeout, into);
  }

  private <T> CompletableFuture<T> callAsync(
      EncodedMessage message, Duration timeout, Understanding<T> understanding) {
    requireOpen();
    CompletableFuture<Answer> exchange = transport.sendAsync(message, timeout);
    CompletableFuture<T> result = new CompletableFuture<>();
    exchange.whenComplete(
        (answer, failure) -> {
          try {
            if (failure != null) {
              result.completeExceptionally(failure);
            } else {
              result.complete(understanding.of(answer));
            }
          } catch (Throwable e) {
            result.completeExceptionally(e);
          }
        });
    result.whenComplete((value, failure) -> exchange.cancel(true));
    return result;
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
      throw refusal(message.errors().get(0), answer.status());
    }
    return message.outputs();
  }

  /** The body of an answer that is none of refusal. */
  private static ByteBuffer bodyOf(Answer answer) {
    int status = answer.status();
    if (status == 200) {
      return answer.body();
    }
    String type = answer.contentType().toLowerCase(Locale.ROOT).split(";", 2)[0].strip();
    if (type.equals(Transport.ERROR_TYPE)) {
      try {
        List<InferResponse.Failure> errors = Reader.readInferResponse(answer.body()).errors();
        if (!errors.isEmpty()) {
          throw refusal(errors.get(0), status);
        }
      } catch (MalformedMessageException e) {
        throw new GraphPipeException(
            GraphPipeException.codeOfStatus(status),
            status,
            "the server says no, and why cannot be read: " + e.getMessage());
      }
    }
    throw new GraphPipeException(
        GraphPipeException.codeOfStatus(status), status, text(answer.body(), status));
  }

  private static GraphPipeException refusal(InferResponse.Failure failure, int status) {
    return new GraphPipeException(failure.code(), status, failure.message());
  }

  /** The words of a server that speaks no FlatBuffers here. */
  private static String text(ByteBuffer body, int status) {
    String text = StandardCharsets.UTF_8.decode(body).toString().strip();
    if (text.isEmpty()) {
      return "the server says no, without a word: status " + status;
    }
    return text.length() <= MESSAGE_CHARS_MAX ? text : text.substring(0, MESSAGE_CHARS_MAX) + "...";
  }

  /** Plain HTTP goes its own way, unless the user or the JVM's settings ask for more. */
  private static Transport transport(Builder builder) {
    List<String> headers = List.copyOf(builder.headers);
    boolean isPlain = builder.url.getScheme().equalsIgnoreCase("http") && !isProxied(builder.url);
    if (builder.http == null && isPlain) {
      return new SocketTransport(builder.url, headers, builder.responseBytesMax, builder.executor);
    }
    HttpClient http =
        builder.http != null ? builder.http : HttpClientTransport.newHttpClient(builder.executor);
    return new HttpClientTransport(builder.url, headers, builder.responseBytesMax, http);
  }

  /** Whether the JVM's settings, such as {@code -Dhttp.proxyHost}, put a proxy in between. */
  private static boolean isProxied(URI url) {
    ProxySelector selector = ProxySelector.getDefault();
    List<Proxy> proxies = selector == null ? List.of() : selector.select(url);
    return !proxies.isEmpty() && proxies.get(0).type() != Proxy.Type.DIRECT;
  }

  private static URI parse(String url) {
    if (url.startsWith("unix:")) {
      throw new IllegalArgumentException(
          "Java's HTTP client does not speak over Unix sockets; let the server listen on"
              + " 127.0.0.1 instead of "
              + url);
    }
    try {
      URI uri = new URI(url);
      String scheme = uri.getScheme() == null ? "" : uri.getScheme().toLowerCase(Locale.ROOT);
      boolean isHttp = scheme.equals("http") || scheme.equals("https");
      if (isHttp && uri.getHost() != null && uri.getPort() != 0 && uri.getPort() <= 65535) {
        return uri;
      }
    } catch (URISyntaxException e) {
      throw new IllegalArgumentException("expected an http or https URL, got " + url, e);
    }
    throw new IllegalArgumentException("expected an http or https URL, got " + url);
  }

  /** Collects a client. Not for use by several threads at once. */
  public static final class Builder {
    private final URI url;
    private Duration timeout = TIMEOUT_DEFAULT;
    private int responseBytesMax = RESPONSE_BYTES_MAX_DEFAULT;
    private Executor executor;
    private HttpClient http;
    private final List<String> headers = new ArrayList<>();

    private Builder(URI url) {
      this.url = url;
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
     * Sets how large an answer may be. A larger one is refused, before memory is taken for it where
     * its head says its length.
     *
     * @param bytes at least 1; 1 GiB where this is not called
     * @return this
     * @throws IllegalArgumentException if the number is not positive
     */
    public Builder maxResponseBytes(int bytes) {
      if (bytes <= 0) {
        throw new IllegalArgumentException("expected a limit above zero, got " + bytes);
      }
      responseBytesMax = bytes;
      return this;
    }

    /**
     * Sets the threads that {@link Client#inferAsync} works on, and where {@link HttpClient} is
     * used all of its work. Blocking calls over plain HTTP need none. To wait for a free thread is
     * part of a call's time.
     *
     * @param executor instead of daemon threads that come and go as needed
     * @return this
     */
    public Builder executor(Executor executor) {
      this.executor = Objects.requireNonNull(executor, "executor");
      return this;
    }

    /**
     * Sets the HTTP client to use: for TLS settings, proxies, logins, or to share connections
     * between clients. Each call is HTTP/1.1 whatever it prefers. Where it follows redirects or
     * logs in, it may send a request again because the server told it to.
     *
     * @param httpClient brings its own executor
     * @return this
     */
    public Builder httpClient(HttpClient httpClient) {
      http = Objects.requireNonNull(httpClient, "httpClient");
      return this;
    }

    /**
     * Adds a header to each request, such as {@code Authorization}.
     *
     * @param name the header's name; one given twice has its last value
     * @param value the header's value
     * @return this
     * @throws IllegalArgumentException if this is no header, or one that the JDK keeps for itself
     */
    public Builder header(String name, String value) {
      HttpRequest.newBuilder(url).header(name, value);
      headers.add(name);
      headers.add(value);
      return this;
    }

    /**
     * Makes the client; nothing is sent yet.
     *
     * @return the client
     * @throws IllegalStateException if both an executor and an HTTP client were set
     */
    public Client build() {
      if (executor != null && http != null) {
        throw new IllegalStateException("the HTTP client brings its own executor: set only one");
      }
      return new Client(this);
    }
  }
}
