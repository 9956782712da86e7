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
 * Collects one answer's body in one buffer: the caller's if that is large enough, or else a fresh
 * one of the length that the head promises. Sizes are checked before memory is taken, and once more
 * while bytes arrive.
 *
 * <p>The JDK's own timer ends with the head of an answer, so this keeps the time of the body.
 */
final class AnswerHandler implements BodyHandler<ByteBuffer> {
  /** More than anybody writes to explain a failure. */
  private static final int ERROR_BYTES_MAX = 1024 * 1024;

  /** What to begin with where the head promises nothing. */
  private static final int UNKNOWN_LENGTH_BYTES = 16 * 1024;

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
    boolean isError = head.statusCode() != 200;
    Collector begun = new Collector(isError);
    collector = begun;
    body.whenComplete((done, failure) -> begun.stop());
    String encoding = head.headers().firstValue("Content-Encoding").orElse("identity");
    long length = contentLength(head.headers());
    boolean isChunked = head.headers().firstValue("Transfer-Encoding").isPresent();
    if (isChunked && length >= 0) {
      // One reader believes the one, the next the other: what is left over would be an answer.
      body.completeExceptionally(
          new IOException("the answer has both a Transfer-Encoding and a Content-Length"));
    } else if (!isError && !encoding.equalsIgnoreCase("identity")) {
      body.completeExceptionally(
          new IOException("the answer is encoded as " + encoding + ", which nobody asked for"));
    } else if (length > begun.bytesMax) {
      begun.tooLarge(length + " bytes");
    } else {
      begun.begin((int) length);
    }
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
    final int bytesMax;
    private final boolean isError;
    private ByteBuffer buffer = ByteBuffer.allocate(0);
    private boolean stopped;
    private Flow.Subscription subscription;

    Collector(boolean isError) {
      this.isError = isError;
      int most = AnswerHandler.this.bytesMax;
      bytesMax = isError ? Math.min(most, ERROR_BYTES_MAX) : most;
    }

    synchronized void begin(int length) {
      if (into != null && !isError && length <= into.remaining()) {
        buffer = into.slice();
      } else {
        allocate(length >= 0 ? length : Math.min(UNKNOWN_LENGTH_BYTES, bytesMax));
      }
    }

    void tooLarge(String got) {
      if (isError) {
        // The status says enough; what this server wants to explain does not matter that much.
        body.complete(ByteBuffer.allocate(0));
      } else {
        body.completeExceptionally(
            new IOException(
                "expected an answer of at most %d bytes, got %s".formatted(bytesMax, got)));
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
      for (ByteBuffer part : parts) {
        if (!stopped) {
          makeRoom(part.remaining());
        }
        if (stopped) {
          return;
        }
        buffer.put(part);
      }
    }

    @Override
    public void onError(Throwable reason) {
      body.completeExceptionally(reason);
    }

    @Override
    public synchronized void onComplete() {
      if (!stopped) {
        body.complete(buffer.flip());
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

    private void makeRoom(int more) {
      long wanted = (long) buffer.position() + more;
      if (wanted > bytesMax) {
        tooLarge("more");
      }
      if (stopped || wanted <= buffer.capacity()) {
        return;
      }
      ByteBuffer full = buffer;
      allocate((int) Math.min(bytesMax, Math.max(wanted, 2L * full.capacity())));
      if (!stopped) {
        buffer.put(full.flip());
      }
    }

    private void allocate(int bytes) {
      try {
        buffer = ByteBuffer.allocate(bytes);
      } catch (OutOfMemoryError e) {
        // One array that does not fit, on a server's word: an answer to refuse, no reason to die.
        body.completeExceptionally(
            new IOException("no memory for an answer of " + bytes + " bytes", e));
      }
    }
  }
}
