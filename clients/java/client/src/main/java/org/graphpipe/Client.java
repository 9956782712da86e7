package org.graphpipe;

import java.io.IOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpTimeoutException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeoutException;

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
 * {@code GraphPipe-Timeout-Ms}, and may stop working when the time is up. A request is never sent
 * twice, since a model may not be safe to run twice. ({@link HttpClient} repeats a POST only when
 * {@code -Djdk.httpclient.enableAllMethodRetry} tells it to; that is stopped here. Opening a
 * connection may be tried twice, before anything is sent.) Redirects are not followed and answers
 * not decompressed.
 *
 * <p>Instances are immutable and meant to be shared between threads. There is nothing to close: the
 * connections end when they have been idle, or when the client is no longer reachable.
 */
public final class Client {
  /** How long a call takes at most, where nobody says otherwise. */
  public static final Duration TIMEOUT_DEFAULT = Duration.ofSeconds(60);

  /** How large an answer is at most, where nobody says otherwise: 1 GiB. */
  public static final int RESPONSE_BYTES_MAX_DEFAULT = 1 << 30;

  private static final String ERROR_TYPE = "application/vnd.graphpipe";
  private static final int MESSAGE_CHARS_MAX = 4096;

  private final URI url;
  private final HttpClient http;
  private final Duration timeout;
  private final int responseBytesMax;
  private final List<String> headers;

  private Client(Builder builder) {
    url = builder.url;
    http = builder.http != null ? builder.http : newHttpClient(builder.executor);
    timeout = builder.timeout;
    responseBytesMax = builder.responseBytesMax;
    headers = List.copyOf(builder.headers);
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

  static Duration requirePositive(Duration duration) {
    if (duration.isZero() || duration.isNegative()) {
      throw new IllegalArgumentException("expected a timeout above zero, got " + duration);
    }
    return duration;
  }

  private Duration timeoutOf(InferRequest request) {
    return request.timeout().orElse(timeout);
  }

  private HttpResponse<ByteBuffer> call(EncodedMessage message, Duration timeout, ByteBuffer into)
      throws IOException, InterruptedException {
    AnswerHandler handler = handler(timeout, into);
    try {
      return http.send(httpRequest(message, timeout), handler);
    } catch (IOException | RuntimeException e) {
      throw noAnswer(e, timeout);
    } finally {
      handler.stop();
    }
  }

  private <T> CompletableFuture<T> callAsync(
      EncodedMessage message, Duration timeout, Understanding<T> understanding) {
    AnswerHandler handler = handler(timeout, null);
    CompletableFuture<HttpResponse<ByteBuffer>> exchange =
        http.sendAsync(httpRequest(message, timeout), handler);
    CompletableFuture<T> result = new CompletableFuture<>();
    // On a thread of the common pool: what hangs on the result holds up no connection.
    exchange.whenComplete(
        (answer, failure) -> {
          try {
            if (failure != null) {
              result.completeExceptionally(noAnswer(failure, timeout));
            } else {
              result.complete(understanding.of(answer));
            }
          } catch (Throwable e) {
            result.completeExceptionally(e);
          }
        });
    result.whenComplete(
        (value, failure) -> {
          if (exchange.cancel(true)) {
            handler.stop();
          }
        });
    return result;
  }

  /** What becomes of an answer. */
  @FunctionalInterface
  private interface Understanding<T> {
    T of(HttpResponse<ByteBuffer> answer) throws IOException;
  }

  private AnswerHandler handler(Duration timeout, ByteBuffer into) {
    return new AnswerHandler(responseBytesMax, into, System.nanoTime() + saturatedNanos(timeout));
  }

  private HttpRequest httpRequest(EncodedMessage message, Duration timeout) {
    boolean mayRepeat =
        http.followRedirects() != HttpClient.Redirect.NEVER || http.authenticator().isPresent();
    HttpRequest.Builder request =
        HttpRequest.newBuilder(url)
            .version(HttpClient.Version.HTTP_1_1)
            .timeout(timeout)
            .header("Accept", ERROR_TYPE)
            .header("Content-Type", "application/octet-stream")
            .header("GraphPipe-Timeout-Ms", Long.toString(Math.max(1, timeout.toMillis())))
            .POST(new SegmentPublisher(message, mayRepeat));
    for (int i = 0; i < headers.size(); i += 2) {
      request.setHeader(headers.get(i), headers.get(i + 1));
    }
    return request.build();
  }

  private static List<Tensor> outputs(HttpResponse<ByteBuffer> answer) throws IOException {
    InferResponse message = Reader.readInferResponse(bodyOf(answer));
    if (!message.errors().isEmpty()) {
      throw refusal(message.errors().get(0), answer.statusCode());
    }
    return message.outputs();
  }

  /** The body of an answer that is none of refusal. */
  private static ByteBuffer bodyOf(HttpResponse<ByteBuffer> answer) {
    int status = answer.statusCode();
    if (status == 200) {
      return answer.body();
    }
    String type = answer.headers().firstValue("Content-Type").orElse("");
    if (type.toLowerCase(Locale.ROOT).split(";", 2)[0].strip().equals(ERROR_TYPE)) {
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

  /** The one place where failures of the JDK's client become ours. */
  private static IOException noAnswer(Throwable failure, Duration timeout) {
    Throwable cause = failure;
    while (cause.getCause() != null
        && (cause instanceof CompletionException || cause instanceof ExecutionException)) {
      cause = cause.getCause();
    }
    if (cause instanceof HttpTimeoutException
        || cause instanceof TimeoutException
        || cause.getCause() instanceof TimeoutException) {
      HttpTimeoutException late =
          new HttpTimeoutException("no whole answer within " + timeout.toMillis() + " ms");
      late.initCause(cause);
      return late;
    }
    if (cause instanceof IOException known) {
      return known;
    }
    // The JDK answers some broken heads with unchecked exceptions.
    return new IOException("the answer could not be understood: " + cause.getMessage(), cause);
  }

  private static long saturatedNanos(Duration duration) {
    // Half of the range, so that a deadline reckoned from nanoTime cannot overflow.
    Duration longest = Duration.ofNanos(Long.MAX_VALUE / 2);
    return (duration.compareTo(longest) < 0 ? duration : longest).toNanos();
  }

  private static HttpClient newHttpClient(Executor executor) {
    HttpClient.Builder builder =
        HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .followRedirects(HttpClient.Redirect.NEVER);
    return builder.executor(executor == null ? Runnable::run : executor).build();
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
     * Sets the threads that the client's HTTP work runs on.
     *
     * @param executor instead of the cached daemon threads of {@link HttpClient}
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
