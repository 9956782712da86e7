package org.graphpipe;

import java.io.IOException;
import java.net.http.HttpTimeoutException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;

/**
 * Carries a message to the server and brings the answer. There are two: {@link SocketTransport} for
 * plain {@code http://}, and {@link HttpClientTransport} for whatever asks for more than that.
 */
interface Transport {
  /** Tells the server how long the caller waits. */
  String TIMEOUT_HEADER = "GraphPipe-Timeout-Ms";

  /** The media type of a failure that is a message; it is sent only to those who ask for it. */
  String ERROR_TYPE = "application/vnd.graphpipe";

  /** What every request says; a user's header of the same name takes its place. */
  Map<String, String> HEADERS =
      Map.of(
          "Accept", ERROR_TYPE,
          "Content-Type", "application/octet-stream",
          "User-Agent", "graphpipe-java");

  /**
   * Sends a request and waits for the whole answer.
   *
   * @param into where a good answer goes if it fits from position to limit; may be null. When this
   *     returns nobody writes there any more.
   * @throws HttpTimeoutException if the time was up
   * @throws IOException if there is no whole answer, for this reason or others
   * @throws InterruptedException if the thread was interrupted; the exchange is ended
   */
  Answer send(EncodedMessage message, Duration timeout, ByteBuffer into)
      throws IOException, InterruptedException;

  /** Does the same elsewhere. Cancelling the future ends the exchange and closes its connection. */
  CompletableFuture<Answer> sendAsync(EncodedMessage message, Duration timeout);

  /** Closes the connections that no call is using; those in use are closed after their calls. */
  void close();

  /** What {@link #TIMEOUT_HEADER} says. */
  static long timeoutMs(Duration timeout) {
    Duration longest = Duration.ofMillis(Long.MAX_VALUE);
    return timeout.compareTo(longest) < 0 ? Math.max(1, timeout.toMillis()) : Long.MAX_VALUE;
  }

  /** The words for a call that took too long. */
  static HttpTimeoutException late(Duration timeout) {
    return new HttpTimeoutException("no whole answer within " + timeoutMs(timeout) + " ms");
  }
}
