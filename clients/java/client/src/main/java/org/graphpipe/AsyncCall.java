package org.graphpipe;

import java.io.IOException;
import java.net.SocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Selector;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Semaphore;

/** A call that an {@link Engine} makes. All but the result belongs to the engine's thread. */
final class AsyncCall {
  private final CompletableFuture<Answer> result = new CompletableFuture<>();
  private final byte[] head;
  private final EncodedMessage message;
  private final int bytesMax;
  private final ByteBuffer into;
  private final Deadline deadline;
  private final Semaphore places;

  private Opening opening;
  private Connection connection;
  private Exchange exchange;
  private Throwable failure;

  /** When the engine looks at it though nothing has come, as the engine has it in its order. */
  long scheduledNanos;

  /** Comes in between two calls of one time. */
  long number;

  boolean holdsPlace;
  boolean isOver;

  /**
   * A call of which nothing has happened yet.
   *
   * @param into where a good answer goes if it fits; may be null. When the result is there nobody
   *     writes to it any more.
   * @param places one of which the call needs; null where it needs none
   */
  AsyncCall(
      byte[] head,
      EncodedMessage message,
      int bytesMax,
      ByteBuffer into,
      Deadline deadline,
      Semaphore places) {
    this.head = head;
    this.message = message;
    this.bytesMax = bytesMax;
    this.into = into;
    this.deadline = deadline;
    this.places = places;
  }

  /** Completed on the engine's thread: what hangs on it must be quick. */
  CompletableFuture<Answer> result() {
    return result;
  }

  Semaphore places() {
    return places;
  }

  boolean isLate() {
    return deadline.endNanos() - System.nanoTime() <= 0;
  }

  IOException late() {
    return deadline.late();
  }

  long wakeNanos() {
    long end = deadline.endNanos();
    return opening != null && opening.wakeNanos() - end < 0 ? opening.wakeNanos() : end;
  }

  /** Whether it needs a new connection. */
  boolean isWithoutConnection() {
    return opening == null && connection == null;
  }

  void open(Route route, List<SocketAddress> addresses) {
    opening = new Opening(route, addresses);
  }

  void use(Connection given) {
    connection = given;
    exchange = new Exchange(given, head, message, bytesMax, into);
  }

  /**
   * Goes on as far as it goes without waiting.
   *
   * @return whether the answer is there
   */
  boolean advance(Selector selector) throws IOException {
    if (opening != null) {
      Connection made = opening.advance(selector, this);
      if (made == null) {
        return false;
      }
      opening = null;
      use(made);
    }
    try {
      int ops = exchange.advance();
      if (ops != 0) {
        connection.watch(selector, ops, this);
      }
      return ops == 0;
    } catch (NotSentException e) {
      // The server had closed it, and cannot have read the request: once more, on a new one.
      connection.close();
      connection = null;
      return false;
    }
  }

  /** Lets go of what cannot be used again, with the reason, or null where the answer is there. */
  void end(Throwable reason, Selector selector) {
    isOver = true;
    failure = reason;
    if (opening != null) {
      opening.close();
    }
    if (connection != null && reason == null && exchange.isReusable()) {
      connection.unwatch(selector);
    } else if (connection != null) {
      connection.close();
      connection = null;
    }
  }

  /** Hands on the connection and the result, when the selector knows the one no more. */
  void settle(ConnectionPool pool) {
    if (connection != null) {
      pool.put(connection);
    }
    if (holdsPlace) {
      places.release();
    }
    if (failure == null) {
      result.complete(exchange.answer());
    } else {
      result.completeExceptionally(failure);
    }
  }
}
