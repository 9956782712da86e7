package org.graphpipe;

import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;

/** What {@link ManyCallsTest} runs in processes of their own. */
final class ManyCalls {
  private static final InferRequest REQUEST = InferRequest.of(DelayServer.ANSWER);

  private ManyCalls() {}

  public static void main(String[] args) throws Exception {
    try (Client client = Client.of(args[1])) {
      switch (args[0]) {
        case "async" -> async(client);
        case "hungry" -> hungry(client);
        default -> virtual(client);
      }
    }
  }

  private static void async(Client client) throws Exception {
    List<CompletableFuture<List<Tensor>>> calls = new ArrayList<>();
    for (int i = 0; i < 2000; i++) {
      calls.add(client.inferAsync(REQUEST));
    }
    for (CompletableFuture<List<Tensor>> call : calls) {
      call.get();
    }
    System.out.println("answered " + calls.size());
  }

  /** More calls that block than files may be open; says what the first failure was. */
  private static void hungry(Client client) throws Exception {
    AtomicReference<Exception> failure = new AtomicReference<>();
    CountDownLatch done = new CountDownLatch(300);
    for (int i = 0; i < 300; i++) {
      TestTls.daemon(
          () -> {
            try {
              client.infer(REQUEST);
            } catch (Exception e) {
              failure.compareAndSet(null, e);
            } finally {
              done.countDown();
            }
          });
    }
    done.await();
    System.out.println(failure.get());
  }

  /** A thousand virtual threads, each with a call that blocks: the best of some rounds. */
  private static void virtual(Client client) throws Exception {
    double best = Double.MAX_VALUE;
    for (int round = 0; round < 4; round++) {
      long start = System.nanoTime();
      CountDownLatch done = new CountDownLatch(1000);
      AtomicReference<Exception> failure = new AtomicReference<>();
      for (int i = 0; i < 1000; i++) {
        startVirtualThread(
            () -> {
              try {
                client.infer(REQUEST);
              } catch (Exception e) {
                failure.set(e);
              }
              done.countDown();
            });
      }
      done.await();
      if (failure.get() != null) {
        throw failure.get();
      }
      best = Math.min(best, (System.nanoTime() - start) / 1e9);
    }
    int threads = ManagementFactory.getThreadMXBean().getPeakThreadCount();
    System.out.printf(Locale.ROOT, "seconds %.3f threads %d%n", best, threads);
  }

  private static void startVirtualThread(Runnable work) throws Exception {
    Thread.class.getMethod("startVirtualThread", Runnable.class).invoke(null, work);
  }
}
