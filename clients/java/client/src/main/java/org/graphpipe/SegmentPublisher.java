package org.graphpipe;

import java.io.IOException;
import java.net.http.HttpRequest;
import java.nio.ByteBuffer;
import java.util.Iterator;
import java.util.Objects;
import java.util.concurrent.Flow;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Sends a message's segments as a request body, in slices and without copying them.
 *
 * <p>Slices, because the JDK copies what is left of a heap buffer to a direct one for every write
 * to the socket: the whole tensor in one piece would be copied whole, again and again.
 */
final class SegmentPublisher implements HttpRequest.BodyPublisher {
  private static final int SLICE_BYTES_MAX = 1024 * 1024;

  private final EncodedMessage message;
  private final boolean mayRepeat;
  private final AtomicBoolean begun = new AtomicBoolean();

  /**
   * A body of a known length.
   *
   * @param mayRepeat whether the body may be sent again, where the server demanded it (a redirect,
   *     a login) before it did anything
   */
  SegmentPublisher(EncodedMessage message, boolean mayRepeat) {
    this.message = message;
    this.mayRepeat = mayRepeat;
  }

  @Override
  public long contentLength() {
    return message.bytes();
  }

  @Override
  public void subscribe(Flow.Subscriber<? super ByteBuffer> subscriber) {
    boolean again = begun.getAndSet(true) && !mayRepeat;
    Slices slices = new Slices(message, subscriber, again);
    subscriber.onSubscribe(slices);
    if (again) {
      // Only -Djdk.httpclient.enableAllMethodRetry comes here: a model may not be safe to run
      // twice.
      subscriber.onError(
          new IOException("the connection was lost, and a request is never sent twice"));
    }
  }

  /** Hands out one slice for each that is asked for. */
  private static final class Slices implements Flow.Subscription {
    private final Flow.Subscriber<? super ByteBuffer> subscriber;
    private final Iterator<ByteBuffer> segments;
    private final AtomicLong demand = new AtomicLong();
    private ByteBuffer segment;
    private volatile boolean done;

    Slices(EncodedMessage message, Flow.Subscriber<? super ByteBuffer> subscriber, boolean done) {
      this.subscriber = Objects.requireNonNull(subscriber, "subscriber");
      this.segments = message.segments().iterator();
      this.segment = segments.next();
      this.done = done;
    }

    @Override
    public void request(long slices) {
      if (slices <= 0) {
        if (!done) {
          done = true;
          subscriber.onError(new IllegalArgumentException("asked for " + slices + " slices"));
        }
        return;
      }
      long before = demand.getAndAccumulate(slices, Slices::addCapped);
      if (before > 0) {
        return; // whoever made it positive is at work, maybe further down this very stack
      }
      do {
        next();
      } while (demand.decrementAndGet() > 0);
    }

    @Override
    public void cancel() {
      done = true;
    }

    private void next() {
      if (done) {
        return;
      }
      int bytes = Math.min(segment.remaining(), SLICE_BYTES_MAX);
      ByteBuffer slice = segment.slice(segment.position(), bytes);
      segment.position(segment.position() + bytes);
      boolean last = !segment.hasRemaining() && !segments.hasNext();
      if (!segment.hasRemaining() && segments.hasNext()) {
        segment = segments.next();
      }
      subscriber.onNext(slice);
      if (last && !done) {
        done = true;
        subscriber.onComplete();
      }
    }

    private static long addCapped(long held, long more) {
      return held + more < 0 ? Long.MAX_VALUE : held + more;
    }
  }
}
