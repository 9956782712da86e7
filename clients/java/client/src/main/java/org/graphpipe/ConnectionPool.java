package org.graphpipe;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** The connections that wait for a call. The one used last is used next, so that the rest age. */
final class ConnectionPool {
  /** A connection that waited longer is closed here, before servers with the usual limits do. */
  static final Duration IDLE_MAX = Duration.ofSeconds(30);

  private final long idleNanosMax;
  private final Deque<Connection> idle = new ArrayDeque<>();
  private boolean sweeping; // a sweep will come
  private boolean closed;

  ConnectionPool(Duration idleMax) {
    idleNanosMax = idleMax.toNanos();
  }

  /** A connection that is still good; null where there is none. */
  Connection take() {
    while (true) {
      Connection kept;
      synchronized (this) {
        kept = idle.pollLast();
      }
      if (kept == null || (!isOld(kept) && kept.isQuiet())) {
        return kept;
      }
      kept.close();
    }
  }

  /** Keeps a connection for the next call. */
  synchronized void put(Connection connection) {
    if (closed) {
      connection.close();
      return;
    }
    connection.idleSince(System.nanoTime());
    idle.addLast(connection);
    sweepLater();
  }

  /** Closes what is here, and whatever comes from now on. */
  synchronized void close() {
    closed = true;
    idle.forEach(Connection::close);
    idle.clear();
  }

  /** How many connections wait. */
  synchronized int size() {
    return idle.size();
  }

  private synchronized void sweep() {
    sweeping = false;
    while (!idle.isEmpty() && isOld(idle.peekFirst())) {
      idle.pollFirst().close();
    }
    sweepLater();
  }

  private void sweepLater() {
    if (!sweeping && !idle.isEmpty()) {
      sweeping = true;
      CompletableFuture.delayedExecutor(idleNanosMax, TimeUnit.NANOSECONDS).execute(this::sweep);
    }
  }

  private boolean isOld(Connection connection) {
    return System.nanoTime() - connection.idleSince() >= idleNanosMax;
  }
}
