package org.graphpipe;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpTimeoutException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeoutException;

/** HTTP/1.1 by {@link HttpClient}: for TLS, proxies, and clients that a user brings. */
final class HttpClientTransport implements Transport {
  private final URI url;
  private final List<String> headers;
  private final int bytesMax;
  private final HttpClient http;

  /**
   * A transport over somebody's client.
   *
   * @param headers names and values by turns
   */
  HttpClientTransport(URI url, List<String> headers, int bytesMax, HttpClient http) {
    this.url = url;
    this.headers = headers;
    this.bytesMax = bytesMax;
    this.http = http;
  }

  /**
   * A client with nothing but what calls need.
   *
   * @param executor null to run on the thread that watches the connections
   */
  static HttpClient newHttpClient(Executor executor) {
    HttpClient.Builder builder =
        HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .followRedirects(HttpClient.Redirect.NEVER);
    return builder.executor(executor == null ? Runnable::run : executor).build();
  }

  @Override
  public Answer send(EncodedMessage message, Duration timeout, ByteBuffer into)
      throws IOException, InterruptedException {
    AnswerHandler handler = handler(timeout, into);
    try {
      return answer(http.send(httpRequest(message, timeout), handler));
    } catch (IOException | RuntimeException e) {
      throw noAnswer(e, timeout);
    } finally {
      handler.stop();
    }
  }

  @Override
  public CompletableFuture<Answer> sendAsync(EncodedMessage message, Duration timeout) {
    AnswerHandler handler = handler(timeout, null);
    CompletableFuture<HttpResponse<ByteBuffer>> exchange =
        http.sendAsync(httpRequest(message, timeout), handler);
    CompletableFuture<Answer> result = new CompletableFuture<>();
    // On a thread of the common pool: what hangs on the result holds up no connection.
    exchange.whenComplete(
        (response, failure) -> {
          if (failure != null) {
            result.completeExceptionally(noAnswer(failure, timeout));
          } else {
            result.complete(answer(response));
          }
        });
    result.whenComplete(
        (answer, failure) -> {
          if (exchange.cancel(true)) {
            handler.stop();
          }
        });
    return result;
  }

  @Override
  public void close() {
    // The JDK closes connections when they have been idle, or their client is no longer reachable.
  }

  private AnswerHandler handler(Duration timeout, ByteBuffer into) {
    return new AnswerHandler(bytesMax, into, new Deadline(timeout).endNanos());
  }

  private HttpRequest httpRequest(EncodedMessage message, Duration timeout) {
    boolean mayRepeat =
        http.followRedirects() != HttpClient.Redirect.NEVER || http.authenticator().isPresent();
    HttpRequest.Builder request =
        HttpRequest.newBuilder(url)
            .version(HttpClient.Version.HTTP_1_1)
            .timeout(timeout)
            .header(TIMEOUT_HEADER, Long.toString(Transport.timeoutMs(timeout)))
            .POST(new SegmentPublisher(message, mayRepeat));
    HEADERS.forEach(request::setHeader);
    for (int i = 0; i < headers.size(); i += 2) {
      request.setHeader(headers.get(i), headers.get(i + 1));
    }
    return request.build();
  }

  private static Answer answer(HttpResponse<ByteBuffer> response) {
    String type = response.headers().firstValue("Content-Type").orElse("");
    return new Answer(response.statusCode(), type, response.body());
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
      HttpTimeoutException late = Transport.late(timeout);
      late.initCause(cause);
      return late;
    }
    if (cause instanceof IOException known) {
      return known;
    }
    // The JDK answers some broken heads with unchecked exceptions.
    return new IOException("the answer could not be understood: " + cause.getMessage(), cause);
  }
}
