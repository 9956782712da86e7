package org.graphpipe;

import java.io.IOException;
import java.net.ConnectException;
import java.net.SocketAddress;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Queue;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Makes all of a client's calls that no thread waits for, on one thread with one selector. The
 * thread starts with the first call, and ends when it has had nothing to do for some seconds, or
 * when the client is closed and the last call over.
 *
 * <p>Calls that need a place wait for it here, first come first served.
 */
final class Engine {
  /** So many calls may wait for a place. */
  static final int WAITING_MAX = 10_000;

  private static final long IDLE_NANOS = 5_000_000_000L;
  private static final long NANOS_PER_MS = 1_000_000;

  private final Route route;
  private final ConnectionPool pool;

  private final ReentrantLock lock = new ReentrantLock();
  private Selector selector; // of the thread that runs; null where none does. By the lock.
  private final Queue<Runnable> inbox = new ConcurrentLinkedQueue<>();
  private final AtomicInteger queued = new AtomicInteger(); // calls without their place as yet
  private volatile boolean closed;

  // The rest is the thread's own.
  private final Set<AsyncCall> live = new HashSet<>(); // all that are not over
  private final Queue<AsyncCall> waiting = new ArrayDeque<>(); // for a place
  private final List<AsyncCall> nameless = new ArrayList<>(); // wait for the server's addresses
  private final List<AsyncCall> ended = new ArrayList<>(); // over, but not settled
  private final TreeSet<AsyncCall> timers =
      new TreeSet<>(
          (one, other) -> {
            long later = one.scheduledNanos - other.scheduledNanos;
            return later != 0 ? Long.signum(later) : Long.compare(one.number, other.number);
          });
  private long calls;

  Engine(Route route, ConnectionPool pool) {
    this.route = route;
    this.pool = pool;
  }

  /**
   * Makes a call, when there is a place for it.
   *
   * @throws IOException if there are too many calls, or no means for another thread or selector
   */
  void submit(AsyncCall call) throws IOException {
    if (call.places() != null && queued.incrementAndGet() > WAITING_MAX) {
      queued.decrementAndGet();
      throw new ConnectException(
          "no connection to %s: %d calls wait for one already"
              .formatted(route.target().where(), WAITING_MAX));
    }
    try {
      post(() -> admit(call));
    } catch (IOException | Error e) {
      if (call.places() != null) {
        queued.decrementAndGet();
      }
      throw e;
    }
  }

  /** Ends a call, if it is not over, and its exchange. */
  void cancel(AsyncCall call) {
    try {
      post(() -> end(call, new CancellationException("nobody waits for the answer any more")));
    } catch (IOException e) {
      // No thread runs, so no call does.
    }
  }

  /** Hears that somebody else has left a place. */
  void placeLeft() {
    if (queued.get() > 0) {
      try {
        post(this::fill);
      } catch (IOException e) {
        // No thread runs, so no call waits.
      }
    }
  }

  /** Ends the thread when the last call is over. */
  void close() {
    closed = true;
    lock.lock();
    try {
      if (selector != null) {
        selector.wakeup();
      }
    } finally {
      lock.unlock();
    }
  }

  private void post(Runnable work) throws IOException {
    lock.lock();
    try {
      if (selector == null) {
        Selector opened = Selector.open();
        try {
          Thread thread = new Thread(() -> run(opened), "graphpipe-client");
          thread.setDaemon(true);
          thread.start();
        } catch (Error e) {
          opened.close();
          throw e;
        }
        selector = opened;
      }
      inbox.add(work);
      selector.wakeup();
    } finally {
      lock.unlock();
    }
  }

  private void run(Selector mine) {
    try (mine) {
      long idleSince = System.nanoTime();
      while (true) {
        for (Runnable work = inbox.poll(); work != null; work = inbox.poll()) {
          work.run();
        }
        lookAtClock();
        settle();
        if (!live.isEmpty()) {
          idleSince = System.nanoTime();
        } else if (isDone(idleSince)) {
          return;
        }
        mine.select(waitMs());
        for (SelectionKey key : mine.selectedKeys()) {
          if (key.attachment() instanceof AsyncCall call && !call.isOver) {
            step(call);
          }
        }
        mine.selectedKeys().clear();
      }
    } catch (IOException | RuntimeException | Error e) {
      fail(e);
    }
  }

  /** Whether the thread may end; then the next call finds none, and starts another. */
  private boolean isDone(long idleSince) {
    lock.lock();
    try {
      boolean isTime = closed || System.nanoTime() - idleSince >= IDLE_NANOS;
      if (!isTime || !inbox.isEmpty()) {
        return false;
      }
      selector = null;
      return true;
    } finally {
      lock.unlock();
    }
  }

  private long waitMs() {
    if (!inbox.isEmpty()) {
      return 1;
    }
    long nanos = timers.isEmpty() ? IDLE_NANOS : timers.first().scheduledNanos - System.nanoTime();
    return Math.max(1, nanos / NANOS_PER_MS + 1);
  }

  private void admit(AsyncCall call) {
    call.number = calls++;
    live.add(call);
    call.scheduledNanos = call.wakeNanos();
    timers.add(call);
    if (call.places() == null) {
      start(call);
    } else {
      waiting.add(call);
      fill();
    }
  }

  /** Starts the calls that there are places for. */
  private void fill() {
    while (!waiting.isEmpty()) {
      AsyncCall call = waiting.peek();
      if (!call.isOver && !takePlace(call)) {
        return;
      }
      waiting.remove();
      if (!call.isOver) {
        call.holdsPlace = true;
        queued.decrementAndGet();
        start(call);
      }
    }
  }

  private static boolean takePlace(AsyncCall call) {
    try {
      // With a time, the semaphore keeps its order: whoever blocks for a place comes first.
      return call.places().tryAcquire(0, TimeUnit.NANOSECONDS);
    } catch (InterruptedException e) {
      return false; // nobody interrupts this thread
    }
  }

  private void start(AsyncCall call) {
    try {
      Connection kept = pool.take();
      if (kept != null) {
        call.use(kept);
      }
      step(call);
    } catch (RuntimeException | Error e) {
      end(call, e);
    }
  }

  private void step(AsyncCall call) {
    try {
      if (!call.isWithoutConnection() && call.advance(selector)) {
        end(call, null);
        return;
      }
      if (call.isWithoutConnection()) {
        dial(call);
      }
      schedule(call);
    } catch (IOException | RuntimeException | Error e) {
      end(call, e);
    }
  }

  private void dial(AsyncCall call) throws IOException {
    if (route.isNumeric()) {
      call.open(route, route.addresses());
      step(call);
      return;
    }
    // The system may take long to find a name's addresses, and can do it only on a thread.
    nameless.add(call);
    if (nameless.size() == 1) {
      Thread thread = new Thread(this::findAddresses, "graphpipe-names");
      thread.setDaemon(true);
      thread.start();
    }
  }

  private void findAddresses() {
    List<SocketAddress> addresses = List.of();
    Throwable failure = null;
    try {
      addresses = route.addresses();
    } catch (IOException | RuntimeException | Error e) {
      failure = e;
    }
    List<SocketAddress> found = addresses;
    Throwable reason = failure;
    try {
      post(() -> found(found, reason));
    } catch (IOException e) {
      // The thread has ended, and its calls with it.
    }
  }

  private void found(List<SocketAddress> addresses, Throwable failure) {
    List<AsyncCall> calls = new ArrayList<>(nameless);
    nameless.clear();
    for (AsyncCall call : calls) {
      if (failure != null) {
        end(call, failure);
      } else if (!call.isOver) {
        call.open(route, addresses);
        step(call);
      }
    }
  }

  private void schedule(AsyncCall call) {
    long wake = call.wakeNanos();
    if (!call.isOver && call.scheduledNanos != wake) {
      timers.remove(call);
      call.scheduledNanos = wake;
      timers.add(call);
    }
  }

  private void lookAtClock() {
    while (!timers.isEmpty() && timers.first().scheduledNanos - System.nanoTime() <= 0) {
      AsyncCall call = timers.first();
      if (call.isLate()) {
        end(call, call.late());
        continue;
      }
      timers.remove(call);
      call.scheduledNanos = System.nanoTime() + NANOS_PER_MS;
      timers.add(call);
      step(call);
    }
  }

  private void end(AsyncCall call, Throwable failure) {
    if (call.isOver) {
      return;
    }
    if (call.places() != null && !call.holdsPlace) {
      queued.decrementAndGet();
    }
    timers.remove(call);
    live.remove(call);
    nameless.remove(call);
    call.end(failure, selector);
    ended.add(call);
  }

  /** Gives results away, and places to those who wait. */
  private void settle() throws IOException {
    while (!ended.isEmpty()) {
      // The connections must be unknown here before others may use them.
      selector.selectNow();
      selector.selectedKeys().clear();
      List<AsyncCall> calls = new ArrayList<>(ended);
      ended.clear();
      calls.forEach(call -> call.settle(pool));
      fill();
    }
  }

  /** Ends everything, for want of a working selector. */
  private void fail(Throwable failure) {
    lock.lock();
    try {
      for (Runnable work = inbox.poll(); work != null; work = inbox.poll()) {
        work.run();
      }
      List.copyOf(live).forEach(call -> end(call, failure));
      ended.forEach(call -> call.settle(pool));
      ended.clear();
      waiting.clear();
      selector = null;
    } finally {
      lock.unlock();
    }
  }
}
