package org.graphpipe;

import java.io.IOException;
import java.net.http.HttpTimeoutException;
import java.nio.channels.Selector;
import java.time.Duration;

/**
 * Until when one call may wait. Every wait of its thread goes through here, so that none outlives
 * the call's time or an interrupt.
 */
final class Deadline {
  private static final long NANOS_PER_MS = 1_000_000;

  private final Duration timeout;
  private final long endNanos;

  /** The time starts now. */
  Deadline(Duration timeout) {
    this.timeout = timeout;
    endNanos = endNanos(timeout);
  }

  /** So much later than now, by {@link System#nanoTime}. */
  static long endNanos(Duration timeout) {
    return System.nanoTime() + saturatedNanos(timeout);
  }

  /** The words for a call that took too long. */
  HttpTimeoutException late() {
    return new HttpTimeoutException(
        "no whole answer within " + RequestHead.timeoutMs(timeout) + " ms");
  }

  /** When the time is up, by {@link System#nanoTime}. */
  long endNanos() {
    return endNanos;
  }

  /**
   * Does nothing while there is time, and somebody to wait for the answer.
   *
   * @throws HttpTimeoutException if the time is up
   * @throws InterruptedException if the thread was interrupted
   */
  void check() throws HttpTimeoutException, InterruptedException {
    if (Thread.interrupted()) {
      throw new InterruptedException("interrupted in the middle of a call");
    }
    if (endNanos - System.nanoTime() <= 0) {
      throw late();
    }
  }

  /** Waits until one of the selector's channels is ready; now and then it returns before that. */
  void await(Selector selector) throws IOException, InterruptedException {
    await(selector, endNanos);
  }

  /** Waits no longer than until then, by {@link System#nanoTime}. */
  void await(Selector selector, long untilNanos) throws IOException, InterruptedException {
    check();
    long now = System.nanoTime();
    long leftMs = Math.min(untilNanos - now, endNanos - now) / NANOS_PER_MS + 1;
    selector.select(key -> {}, Math.max(1, leftMs));
    check();
  }

  private static long saturatedNanos(Duration duration) {
    // Half of the range, so that a deadline reckoned from nanoTime cannot overflow.
    Duration longest = Duration.ofNanos(Long.MAX_VALUE / 2);
    return (duration.compareTo(longest) < 0 ? duration : longest).toNanos();
  }
}
