package org.graphpipe;

import java.io.IOException;
import java.net.http.HttpTimeoutException;
import java.nio.channels.Selector;
import java.time.Duration;
import java.util.concurrent.CancellationException;

/**
 * Until when one call may wait. Every wait of its thread goes through here, so that none outlives
 * the call's time, an interrupt, or the caller's interest.
 */
final class Deadline {
  private static final long NANOS_PER_MS = 1_000_000;

  private final Duration timeout;
  private final long endNanos;
  private volatile boolean cancelled;
  private volatile Selector waiting;

  /** The time starts now. */
  Deadline(Duration timeout) {
    this.timeout = timeout;
    endNanos = System.nanoTime() + saturatedNanos(timeout);
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
   * @throws CancellationException if {@link #cancel} was called
   */
  void check() throws HttpTimeoutException, InterruptedException {
    if (cancelled) {
      throw new CancellationException("nobody waits for the answer any more");
    }
    if (Thread.interrupted()) {
      throw new InterruptedException("interrupted in the middle of a call");
    }
    if (endNanos - System.nanoTime() <= 0) {
      throw Transport.late(timeout);
    }
  }

  /** Waits until one of the selector's channels is ready; now and then it returns before that. */
  void await(Selector selector) throws IOException, InterruptedException {
    // Said before it is asked: whoever cancels wakes this selector, or is seen by the check.
    waiting = selector;
    check();
    long leftMs = (endNanos - System.nanoTime()) / NANOS_PER_MS + 1;
    selector.select(key -> {}, Math.max(1, leftMs));
    check();
  }

  /** Ends the call, whichever thread it waits on. */
  void cancel() {
    cancelled = true;
    Selector selector = waiting;
    if (selector != null) {
      selector.wakeup();
    }
  }

  private static long saturatedNanos(Duration duration) {
    // Half of the range, so that a deadline reckoned from nanoTime cannot overflow.
    Duration longest = Duration.ofNanos(Long.MAX_VALUE / 2);
    return (duration.compareTo(longest) < 0 ? duration : longest).toNanos();
  }
}
