package org.graphpipe;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;

/** The connections that wait for a call. The one used last is used next, so that the rest age. */
final class ConnectionPool {
  /** A connection that waited longer is closed here, before servers with the usual limits do. */
  static final Duration IDLE_MAX = Duration.ofSeconds(30);

  private final long idleNanosMax;
  private final ReentrantLock lock = new ReentrantLock();
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
      lock.lock();
      try {
        kept = idle.pollLast();
      } finally {
        lock.unlock();
      }
      if (kept == null || (!isOld(kept) && kept.isQuiet())) {
        return kept;
      }
      kept.close();
    }
  }

  /** Keeps a connection for the next call. */
  void put(Connection connection) {
    lock.lock();
    try {
      if (!closed) {
        connection.idleSince(System.nanoTime());
        idle.addLast(connection);
        sweepLater();
        return;
      }
    } finally {
      lock.unlock();
    }
    connection.close();
  }

  /** Closes what is here, and whatever comes from now on. */
  void close() {
    List<Connection> all;
    lock.lock();
    try {
      closed = true;
      all = new ArrayList<>(idle);
      idle.clear();
    } finally {
      lock.unlock();
    }
    all.forEach(Connection::close);
  }

  /** How many connections wait. */
  int size() {
    lock.lock();
    try {
      return idle.size();
    } finally {
      lock.unlock();
    }
  }

  private void sweep() {
    List<Connection> old = new ArrayList<>();
    lock.lock();
    try {
      sweeping = false;
      while (!idle.isEmpty() && isOld(idle.peekFirst())) {
        old.add(idle.pollFirst());
      }
      sweepLater();
    } finally {
      lock.unlock();
    }
    old.forEach(Connection::close);
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
