package org.graphpipe;

import java.io.IOException;
import java.net.URI;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;

/**
 * Plain HTTP/1.1 over connections of our own, one call at a time on each, sent and received on the
 * caller's thread. {@code java.net.http} hands each event from its selector's thread to the
 * caller's: a call of 1 KB took it 4 to 6 times as long as a raw socket ({@code PairedCalls} in
 * benchmarks/ compares). Here it is also known how much of a request was sent, on which the right
 * to send it again depends.
 */
final class SocketTransport implements Transport {
  private final URI url;
  private final RequestHead heads;
  private final int bytesMax;
  private final ConnectionPool pool = new ConnectionPool(ConnectionPool.IDLE_MAX);
  private final Executor executor;
  private final ExecutorService own; // null where the user brought the executor

  /**
   * A transport without connections as yet.
   *
   * @param url begins with {@code http:}
   * @param headers names and values by turns
   * @param executor for asynchronous calls; null for threads of our own, which end when idle
   */
  SocketTransport(URI url, List<String> headers, int bytesMax, Executor executor) {
    this.url = url;
    this.bytesMax = bytesMax;
    heads = new RequestHead(url, headers);
    own = executor == null ? Executors.newCachedThreadPool(SocketTransport::daemon) : null;
    this.executor = executor == null ? own : executor;
  }

  @Override
  public Answer send(EncodedMessage message, Duration timeout, ByteBuffer into)
      throws IOException, InterruptedException {
    return exchange(message, timeout, into, new Deadline(timeout));
  }

  @Override
  public CompletableFuture<Answer> sendAsync(EncodedMessage message, Duration timeout) {
    Deadline deadline = new Deadline(timeout);
    CompletableFuture<Answer> result = new CompletableFuture<>();
    // Done when a thread takes the call up: to wait for one takes time, too.
    CompletableFuture<Void> begun = new CompletableFuture<>();
    begun
        .orTimeout(deadline.endNanos() - System.nanoTime(), TimeUnit.NANOSECONDS)
        .whenComplete(
            (nothing, late) -> {
              if (late != null) {
                result.completeExceptionally(Transport.late(timeout));
              }
            });
    result.whenComplete(
        (answer, failure) -> {
          if (result.isCancelled()) {
            deadline.cancel();
          }
        });
    try {
      executor.execute(
          () -> {
            begun.complete(null);
            try {
              result.complete(exchange(message, timeout, null, deadline));
            } catch (Throwable e) {
              result.completeExceptionally(e);
            }
          });
    } catch (RejectedExecutionException e) {
      begun.complete(null);
      result.completeExceptionally(new IOException("no thread for the call", e));
    }
    return result;
  }

  @Override
  public void close() {
    pool.close();
    if (own != null) {
      own.shutdown();
    }
  }

  /** How many connections wait for a call. */
  int idleConnections() {
    return pool.size();
  }

  private Answer exchange(
      EncodedMessage message, Duration timeout, ByteBuffer into, Deadline deadline)
      throws IOException, InterruptedException {
    byte[] head = heads.of(message.bytes(), timeout);
    deadline.check();
    Connection kept = pool.take();
    if (kept != null) {
      try {
        return call(kept, head, message, into, deadline);
      } catch (NotSentException e) {
        // The server had closed it, and cannot have read the request: once more, on a new one.
      }
    }
    return call(Connection.open(url, deadline), head, message, into, deadline);
  }

  private Answer call(
      Connection connection,
      byte[] head,
      EncodedMessage message,
      ByteBuffer into,
      Deadline deadline)
      throws IOException, InterruptedException {
    try {
      return connection.call(head, message, bytesMax, into, deadline);
    } finally {
      if (connection.isReusable()) {
        pool.put(connection);
      } else {
        connection.close();
      }
    }
  }

  private static Thread daemon(Runnable work) {
    Thread thread = new Thread(work, "graphpipe-client");
    thread.setDaemon(true);
    return thread;
  }
}
