package org.graphpipe;

import java.io.IOException;
import java.net.SocketAddress;
import java.net.http.HttpTimeoutException;
import java.nio.ByteBuffer;
import java.nio.channels.Selector;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/**
 * HTTP/1.1 over connections of our own, one call at a time on each. A call that blocks is sent and
 * received on its caller's thread; all others are an {@link Engine}'s. {@code java.net.http} hands
 * each event from its selector's thread to the caller's: a call of 1 KB took it 4 to 6 times as
 * long as a raw socket ({@code PairedCalls} in benchmarks/ compares). Here it is also known how
 * much of a request was sent, on which the right to send it again depends.
 */
final class Transport {
  private final Route route;
  private final RequestHead heads;
  private final int bytesMax;
  private final ConnectionPool pool = new ConnectionPool(ConnectionPool.IDLE_MAX);
  private final Engine engine;
  private final Semaphore asyncPlaces;
  private final Semaphore allPlaces; // null where only asynchronous calls need one

  /**
   * A transport without connections as yet.
   *
   * @param connectionsMax how many at once
   * @param isForAll whether that holds for calls that block, too
   */
  Transport(Route route, RequestHead heads, int bytesMax, int connectionsMax, boolean isForAll) {
    this.route = route;
    this.heads = heads;
    this.bytesMax = bytesMax;
    engine = new Engine(route, pool);
    asyncPlaces = new Semaphore(connectionsMax, true);
    allPlaces = isForAll ? asyncPlaces : null;
  }

  /**
   * Sends a request and waits for the whole answer.
   *
   * @param headers of this request alone
   * @param into where a good answer goes if it fits from position to limit; may be null. When this
   *     returns nobody writes there any more.
   * @throws HttpTimeoutException if the time was up
   * @throws IOException if there is no whole answer, for this reason or others
   * @throws InterruptedException if the thread was interrupted; the exchange is ended
   */
  Answer send(
      EncodedMessage message, Map<String, String> headers, Duration timeout, ByteBuffer into)
      throws IOException, InterruptedException {
    Deadline deadline = new Deadline(timeout);
    byte[] head = heads.of(message.bytes(), timeout, headers);
    deadline.check();
    if (VirtualThreads.isCurrent()) {
      return await(new AsyncCall(head, message, bytesMax, into, deadline, allPlaces));
    }
    if (allPlaces == null) {
      return exchange(head, message, into, deadline);
    }
    if (!allPlaces.tryAcquire(deadline.endNanos() - System.nanoTime(), TimeUnit.NANOSECONDS)) {
      throw deadline.late();
    }
    try {
      return exchange(head, message, into, deadline);
    } finally {
      allPlaces.release();
      engine.placeLeft();
    }
  }

  /** Does the same elsewhere, as soon as there is a place for it. */
  AsyncCall sendAsync(EncodedMessage message, Map<String, String> headers, Duration timeout) {
    Deadline deadline = new Deadline(timeout);
    byte[] head = heads.of(message.bytes(), timeout, headers);
    AsyncCall call = new AsyncCall(head, message, bytesMax, null, deadline, asyncPlaces);
    try {
      engine.submit(call);
    } catch (IOException | Error e) {
      call.result().completeExceptionally(e instanceof IOException io ? describe(io) : e);
    }
    return call;
  }

  /** Ends a call, if it is not over, and closes its connection. */
  void cancel(AsyncCall call) {
    if (!call.result().isDone()) {
      engine.cancel(call);
    }
  }

  /** Closes the connections that no call is using; those in use are closed after their calls. */
  void close() {
    pool.close();
    engine.close();
  }

  /** How many connections wait for a call. */
  int idleConnections() {
    return pool.size();
  }

  /** Parks the thread, which costs a virtual one nothing, while the engine works. */
  private Answer await(AsyncCall call) throws IOException, InterruptedException {
    try {
      engine.submit(call);
    } catch (IOException e) {
      throw describe(e);
    }
    try {
      return call.result().get();
    } catch (InterruptedException e) {
      engine.cancel(call);
      call.result().handle((answer, failure) -> null).join(); // nobody writes to into any more
      throw e;
    } catch (ExecutionException e) {
      if (e.getCause() instanceof IOException io) {
        throw io;
      }
      if (e.getCause() instanceof RuntimeException runtime) {
        throw runtime;
      }
      throw new IOException("the call broke off", e.getCause());
    }
  }

  private Answer exchange(byte[] head, EncodedMessage message, ByteBuffer into, Deadline deadline)
      throws IOException, InterruptedException {
    Connection kept = pool.take();
    if (kept != null) {
      try {
        return exchange(kept, head, message, into, deadline);
      } catch (NotSentException e) {
        // The server had closed it, and cannot have read the request: once more, on a new one.
      }
    }
    return exchange(open(route, deadline), head, message, into, deadline);
  }

  private Answer exchange(
      Connection connection,
      byte[] head,
      EncodedMessage message,
      ByteBuffer into,
      Deadline deadline)
      throws IOException, InterruptedException {
    Exchange exchange = new Exchange(connection, head, message, bytesMax, into);
    try {
      for (int ops = exchange.advance(); ops != 0; ops = exchange.advance()) {
        connection.await(ops, deadline);
      }
      return exchange.answer();
    } finally {
      if (exchange.isReusable()) {
        pool.put(connection);
      } else {
        connection.close();
      }
    }
  }

  /** Makes a connection, on this thread. */
  static Connection open(Route route, Deadline deadline) throws IOException, InterruptedException {
    List<SocketAddress> addresses = route.addresses();
    deadline.check();
    Selector selector;
    try {
      selector = Selector.open();
    } catch (IOException e) {
      throw route.unreachable(e);
    }
    Opening opening = new Opening(route, addresses);
    Connection connection = null;
    try {
      while (connection == null) {
        connection = opening.advance(selector, null);
        if (connection == null) {
          deadline.await(selector, opening.wakeNanos());
        }
      }
      connection.adopt(selector);
      return connection;
    } finally {
      if (connection == null) {
        opening.close();
        selector.close();
      }
    }
  }

  private IOException describe(IOException e) {
    return e instanceof java.net.ConnectException ? e : route.unreachable(e);
  }
}
