package org.graphpipe;

import java.io.IOException;
import java.net.http.HttpHeaders;
import java.net.http.HttpResponse.BodyHandler;
import java.net.http.HttpResponse.BodySubscriber;
import java.net.http.HttpResponse.ResponseInfo;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;

/**
 * Collects one answer that {@code java.net.http} receives.
 *
 * <p>The JDK's own timer ends with the head of an answer, so this keeps the time of the body.
 */
final class AnswerHandler implements BodyHandler<ByteBuffer> {
  private final int bytesMax;
  private final ByteBuffer into;
  private final long deadlineNanos;

  /** Completed with the body. Whoever fails it ends the transfer. */
  private final CompletableFuture<ByteBuffer> body = new CompletableFuture<>();

  private volatile Collector collector;

  /**
   * A handler for one call.
   *
   * @param into where a good answer goes if it fits from position to limit; may be null
   * @param deadlineNanos when the last byte must be in, by {@link System#nanoTime}
   */
  AnswerHandler(int bytesMax, ByteBuffer into, long deadlineNanos) {
    this.bytesMax = bytesMax;
    this.into = into;
    this.deadlineNanos = deadlineNanos;
  }

  /** Stops taking bytes: when this returns nobody writes to the caller's buffer any more. */
  void stop() {
    body.cancel(false);
    Collector begun = collector;
    if (begun != null) {
      begun.stop();
    }
  }

  @Override
  public BodySubscriber<ByteBuffer> apply(ResponseInfo head) {
    Collector begun = new Collector();
    collector = begun;
    body.whenComplete((done, failure) -> begun.stop());
    begun.begin(head.statusCode(), head.headers());
    return begun;
  }

  /** The promised length of the body; below 0 where nothing is promised. */
  private static long contentLength(HttpHeaders headers) {
    try {
      return headers.firstValueAsLong("Content-Length").orElse(-1);
    } catch (NumberFormatException e) {
      return -1;
    }
  }

  private final class Collector implements BodySubscriber<ByteBuffer> {
    private AnswerBody collected;
    private boolean stopped;
    private Flow.Subscription subscription;

    synchronized void begin(int status, HttpHeaders headers) {
      try {
        long length = contentLength(headers);
        boolean isChunked = headers.firstValue("Transfer-Encoding").isPresent();
        String encoding = headers.firstValue("Content-Encoding").orElse("");
        AnswerHead.check(status, length, isChunked, encoding);
        collected = new AnswerBody(status, length, bytesMax, into);
        finishIfGivenUp();
      } catch (IOException e) {
        body.completeExceptionally(e);
      }
    }

    @Override
    public CompletionStage<ByteBuffer> getBody() {
      return body;
    }

    @Override
    public synchronized void onSubscribe(Flow.Subscription subscription) {
      this.subscription = subscription;
      if (stopped) {
        subscription.cancel();
        return;
      }
      subscription.request(Long.MAX_VALUE);
      // A small answer is often in by now, and needs no timer.
      if (!body.isDone()) {
        body.orTimeout(deadlineNanos - System.nanoTime(), TimeUnit.NANOSECONDS);
      }
    }

    @Override
    public synchronized void onNext(List<ByteBuffer> parts) {
      try {
        for (ByteBuffer part : parts) {
          if (stopped) {
            return;
          }
          collected.put(part);
          finishIfGivenUp();
        }
      } catch (IOException e) {
        body.completeExceptionally(e);
      }
    }

    @Override
    public void onError(Throwable reason) {
      body.completeExceptionally(reason);
    }

    @Override
    public synchronized void onComplete() {
      if (!stopped) {
        body.complete(collected.finish());
      }
    }

    /** The body is in, or will never be: takes no more of it. */
    synchronized void stop() {
      if (!stopped) {
        stopped = true;
        if (subscription != null) {
          subscription.cancel();
        }
      }
    }

    private void finishIfGivenUp() {
      if (collected.isGivenUp()) {
        body.complete(collected.finish());
      }
    }
  }
}
