package org.graphpipe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.ProxySelector;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketAddress;
import java.net.SocketTimeoutException;
import java.net.URI;
import java.net.http.HttpTimeoutException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.graphpipe.FakeServer.Answer;
import org.graphpipe.FakeServer.Asked;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The client's own HTTP, against peers that know what they send to the byte. */
@Timeout(60)
class SocketTransportTest {
  private static final Tensor ONE = Tensor.of(new float[] {1, 2, 3}, 1, 3);
  private static final InferRequest SMALL = InferRequest.of(ONE);
  private static final InferRequest LARGE = InferRequest.of(Tensor.allocate(Type.UINT8, 32 << 20));
  private static final byte[] BODY =
      Writer.write(new InferResponse(List.of(ONE), List.of())).toByteBuffer().array();
  private static final String GOOD_HEAD =
      "HTTP/1.1 200 OK\r\nContent-Length: " + BODY.length + "\r\n\r\n";

  @Test
  void aKeptConnectionThatTheServerClosedIsReplaced() throws Exception {
    AtomicInteger connections = new AtomicInteger();
    Semaphore closed = new Semaphore(0);
    try (RawServer server =
            new RawServer(
                connection -> {
                  connections.incrementAndGet();
                  answer(connection, GOOD_HEAD);
                  connection.close();
                  closed.release();
                });
        Client client = Client.of(server.url())) {
      for (int i = 1; i <= 3; i++) {
        assertEquals(List.of(ONE), client.infer(SMALL));
        closed.acquire();
        assertEquals(i, connections.get());
      }
    }
  }

  @Test
  void aRequestHalfSentOnAKeptConnectionIsSentAgainOnce() throws Exception {
    for (boolean secondIsGood : new boolean[] {true, false}) {
      AtomicInteger connections = new AtomicInteger();
      try (RawServer server =
              new RawServer(
                  connection -> {
                    boolean isFirst = connections.incrementAndGet() == 1;
                    if (isFirst || secondIsGood) {
                      answer(connection, GOOD_HEAD);
                    }
                    if (isFirst || !secondIsGood) {
                      // Takes a little of the request, and resets while the rest is on its way.
                      connection.getInputStream().readNBytes(1000);
                      connection.setSoLinger(true, 0);
                    }
                  });
          Client client = Client.of(server.url())) {
        client.infer(SMALL);
        if (secondIsGood) {
          assertEquals(List.of(ONE), client.infer(LARGE));
        } else {
          assertThrows(IOException.class, () -> client.infer(LARGE));
        }
        assertEquals(2, connections.get());
      }
    }
  }

  @Test
  void aFirstConnectionThatBreaksIsNotTriedAgain() throws Exception {
    AtomicInteger connections = new AtomicInteger();
    try (RawServer server =
            new RawServer(
                connection -> {
                  connections.incrementAndGet();
                  connection.getInputStream().readNBytes(1000);
                });
        Client client = Client.of(server.url())) {
      assertThrows(IOException.class, () -> client.infer(LARGE));
      assertEquals(1, connections.get());
    }
  }

  @Test
  void aConnectionIsKeptExactlyWhereTheNextAnswerIsSureToBeTheNext() throws Exception {
    String length = "\r\nContent-Length: " + BODY.length;
    Object[][] cases = {
      {"HTTP/1.1 200 OK" + length, true},
      {"HTTP/1.1 200" + length, true},
      {"HTTP/1.1 200 OK\r\nConnection: Keep-Alive, TE" + length, true},
      {"HTTP/1.1 200 OK\r\nconnection: TE, Close" + length, false},
      {"HTTP/1.0 200 OK" + length, false},
      {"HTTP/1.0 200 OK\r\nConnection: keep-alive" + length, true},
      {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK" + length, true},
    };
    for (Object[] expected : cases) {
      AtomicInteger connections = new AtomicInteger();
      try (RawServer server =
              new RawServer(
                  connection -> {
                    connections.incrementAndGet();
                    while (true) {
                      answer(connection, expected[0] + "\r\n\r\n");
                    }
                  });
          Client client = Client.of(server.url())) {
        assertEquals(List.of(ONE), client.infer(SMALL));
        assertEquals(List.of(ONE), client.infer(SMALL));
        assertEquals((boolean) expected[1] ? 1 : 2, connections.get(), expected[0].toString());
      }
    }
  }

  @Test
  void whatComesBehindAnAnswerIsNobodysAndEndsItsConnection() throws Exception {
    AtomicInteger connections = new AtomicInteger();
    byte[] more = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad".getBytes("US-ASCII");
    byte[] both = joined(BODY, more);
    try (RawServer server =
            new RawServer(
                connection -> {
                  connections.incrementAndGet();
                  while (true) {
                    answer(connection, GOOD_HEAD, both);
                  }
                });
        Client client = Client.of(server.url())) {
      for (int i = 1; i <= 3; i++) {
        assertEquals(List.of(ONE), client.infer(SMALL));
        assertEquals(i, connections.get());
      }
    }
  }

  @Test
  void aHeadThatIsNoneIsRefusedWithItsReason() throws Exception {
    String[][] cases = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "twice"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "twice"},
      {"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "Content-Length is '+5'"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "Content-Length is '5, 5'"},
      {"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "Content-Length is ''"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "Transfer-Encoding is 'gzip"},
      {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "both a Transfer-Encoding and a Content-Length"
      },
      {"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", "header line ' folded: x'"},
      {"HTTP/1.1 200 OK\r\nname : x\r\n\r\n", "header line 'name : x'"},
      {"HTTP/1.1 200 OK\r\na: b\nc: d\r\n\r\n", "header line 'a: b?c: d'"},
      {"HTTP/1.1 200OK\r\n\r\n", "first line 'HTTP/1.1 200OK'"},
      {"HTTP/1.1 020 OK\r\n\r\n", "first line"},
      {"HTTP/1.1 101 Switching\r\n\r\n", "another protocol"},
      {"HTTP/1.1 200 OK\r\nX: " + "x".repeat(70_000), "more than 65536 bytes"},
    };
    for (String[] expected : cases) {
      try (RawServer server = RawServer.stalling(expected[0], new byte[0]);
          Client client = Client.of(server.url())) {
        IOException e = assertThrows(IOException.class, () -> client.infer(SMALL), expected[0]);
        assertTrue(e.getMessage().contains(expected[1]), e.getMessage());
        assertTrue(server.clientHasLeft(), expected[0]);
      }
    }
  }

  @Test
  void chunksThatAreNoneAreRefusedWithTheirReason() throws Exception {
    String trailer = ("T: " + "t".repeat(4000) + "\r\n").repeat(17);
    String[][] cases = {
      {"zz\r\n", "start with its size"},
      {"\r\n", "start with its size"},
      {"1234567890abcdef\r\n", "start with its size"},
      {"-5\r\n", "start with its size"},
      {"5\n", "CR LF"},
      {"3\r\nabcd\r\n", "CR LF|longer than it says"},
      {"3\r\nabc5\r\n", "longer than it says"},
      {"ffffffffffff\r\n", "at most 1000 bytes"},
      {"1\r\na\r\n3e8\r\n", "at most 1000 bytes"},
      {"5;" + "x".repeat(5000), "more than 4096 bytes"},
      {"0\r\n" + trailer, "trailer has more than"},
    };
    for (String[] expected : cases) {
      String head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
      try (RawServer server = RawServer.stalling(head + expected[0], new byte[0]);
          Client client = Client.builder(server.url()).answerBytesMax(1000).build()) {
        IOException e = assertThrows(IOException.class, () -> client.infer(SMALL), expected[0]);
        assertTrue(
            List.of(expected[1].split("\\|")).stream().anyMatch(e.getMessage()::contains),
            expected[0] + " gave " + e.getMessage());
        assertTrue(server.clientHasLeft(), expected[0]);
      }
    }
  }

  @Test
  void anAnswerMayComeByteByByte() throws Exception {
    String chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    byte[] before = (Integer.toHexString(BODY.length) + ";why=not\r\n").getBytes("US-ASCII");
    byte[] behind = "\r\n0\r\nTrailer: x\r\n\r\n".getBytes("US-ASCII");
    byte[] chunk = joined(before, BODY, behind);
    for (String head : List.of(GOOD_HEAD, chunked, "HTTP/1.1 200 OK\r\n\r\n")) {
      byte[] all = joined(head.getBytes("US-ASCII"), head.equals(chunked) ? chunk : BODY);
      try (RawServer server =
              new RawServer(
                  connection -> {
                    connection.setTcpNoDelay(true);
                    RawServer.readRequest(connection.getInputStream());
                    OutputStream out = connection.getOutputStream();
                    for (byte b : all) {
                      out.write(b);
                    }
                  });
          Client client = Client.of(server.url())) {
        assertEquals(List.of(ONE), client.infer(SMALL));
      }
    }
  }

  @Test
  void aHeadThatDripsDoesNotOutliveTheTime() throws Exception {
    try (RawServer server =
            new RawServer(
                connection -> {
                  RawServer.readRequest(connection.getInputStream());
                  connection.getOutputStream().write("HTTP/1.1 200 OK\r\nX: ".getBytes("US-ASCII"));
                  while (true) {
                    connection.getOutputStream().write('x');
                    Thread.sleep(20);
                  }
                });
        Client client = Client.builder(server.url()).timeout(Duration.ofMillis(300)).build()) {
      assertThrows(HttpTimeoutException.class, () -> client.infer(SMALL));
    }
  }

  @Test
  void theTimeIsUpForAServerThatDoesNotAcceptEither() throws Exception {
    List<Socket> waiting = new ArrayList<>();
    try (ServerSocket full = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      boolean isFull = false;
      for (int i = 0; i < 20 && !isFull; i++) {
        Socket one = new Socket();
        waiting.add(one);
        try {
          one.connect(full.getLocalSocketAddress(), 200);
        } catch (SocketTimeoutException e) {
          isFull = true;
        }
      }
      Assumptions.assumeTrue(isFull, "this system accepts without end");
      String url = "http://127.0.0.1:" + full.getLocalPort();
      Client client = Client.builder(url).timeout(Duration.ofMillis(300)).build();
      assertThrows(HttpTimeoutException.class, () -> client.infer(SMALL));
    } finally {
      for (Socket one : waiting) {
        one.close();
      }
    }
  }

  @Test
  void nothingListeningIsAConnectException() throws Exception {
    int port;
    try (ServerSocket taken = new ServerSocket(0)) {
      port = taken.getLocalPort();
    }
    Client client = Client.of("http://user:secret@127.0.0.1:" + port + "/?key=secret");
    ConnectException e = assertThrows(ConnectException.class, () -> client.infer(SMALL));
    assertTrue(e.getMessage().contains("127.0.0.1:" + port), e.getMessage());
    assertFalse(e.getMessage().contains("secret"), e.getMessage());
    Client nowhere = Client.of("http://no-such-host.invalid");
    assertThrows(IOException.class, () -> nowhere.infer(SMALL));
  }

  @Test
  void aRefusalIsHeardThoughTheRequestIsNeverRead() throws Exception {
    for (boolean closes : new boolean[] {true, false}) {
      CountDownLatch done = new CountDownLatch(1);
      try (RawServer server =
              new RawServer(
                  connection -> {
                    connection.getInputStream().readNBytes(1000);
                    String answer = "HTTP/1.1 413 Large\r\nContent-Length: 7\r\n\r\ntoo big";
                    connection.getOutputStream().write(answer.getBytes("US-ASCII"));
                    if (!closes) {
                      done.await();
                    }
                  });
          Client client = Client.of(server.url())) {
        GraphPipeException e =
            assertThrows(GraphPipeException.class, () -> client.infer(LARGE), "closes: " + closes);
        assertEquals("too big", e.getMessage());
      } finally {
        done.countDown();
      }
    }
  }

  @Test
  void aClosedClientKeepsNoConnectionAndMakesNoCall() throws Exception {
    Semaphore left = new Semaphore(0);
    CountDownLatch mayAnswer = new CountDownLatch(1);
    AtomicInteger connections = new AtomicInteger();
    try (RawServer server =
        new RawServer(
            connection -> {
              boolean isFirst = connections.incrementAndGet() == 1;
              RawServer.readRequest(connection.getInputStream());
              if (!isFirst) {
                left.release(); // it is under way
                mayAnswer.await();
              }
              connection.getOutputStream().write(GOOD_HEAD.getBytes("US-ASCII"));
              connection.getOutputStream().write(BODY);
              if (isFirst) {
                RawServer.readRequest(connection.getInputStream());
                left.release(); // the same request again: the second call came here
                mayAnswer.await();
                connection.getOutputStream().write(GOOD_HEAD.getBytes("US-ASCII"));
                connection.getOutputStream().write(BODY);
              }
              if (connection.getInputStream().read() < 0) {
                left.release();
              }
            })) {
      Client client = Client.of(server.url());
      client.infer(SMALL);
      CompletableFuture<List<Tensor>> one = client.inferAsync(SMALL);
      CompletableFuture<List<Tensor>> other = client.inferAsync(SMALL);
      assertTrue(left.tryAcquire(2, 5, TimeUnit.SECONDS), "both are under way");
      client.close();
      client.close();
      mayAnswer.countDown();
      assertEquals(List.of(ONE), one.get());
      assertEquals(List.of(ONE), other.get());
      assertTrue(left.tryAcquire(2, 5, TimeUnit.SECONDS), "both connections are closed");
      assertThrows(IllegalStateException.class, () -> client.infer(SMALL));
      assertThrows(IllegalStateException.class, () -> client.inferAsync(SMALL));
      assertThrows(IllegalStateException.class, client::metadata);
      assertEquals(2, connections.get());
    }
  }

  @Test
  void closingAClientClosesItsIdleConnections() throws Exception {
    try (RawServer server = RawServer.stalling(GOOD_HEAD, BODY)) {
      Client client = Client.of(server.url());
      client.infer(SMALL);
      client.close();
      assertTrue(server.clientHasLeft());
    }
  }

  @Test
  void connectionsThatNobodyTakesAreClosedInTime() throws Exception {
    try (RawServer server = RawServer.stalling("", new byte[0])) {
      ConnectionPool pool = new ConnectionPool(Duration.ofMillis(50));
      Deadline deadline = new Deadline(Duration.ofSeconds(5));
      Route route = new Route(Target.parse(server.url()), null, null, Duration.ofSeconds(5));
      Connection connection = Transport.open(route, deadline);
      pool.put(connection);
      // The peer waits for a request, and is told of the end instead.
      for (int i = 0; i < 100 && pool.size() > 0; i++) {
        Thread.sleep(50);
      }
      assertEquals(0, pool.size());
      assertTrue(server.clientHasLeft());
    }
  }

  @Test
  void callsThatFailLeaveNothingOpen() throws Exception {
    File[] before = new File("/proc/self/fd").listFiles();
    Assumptions.assumeTrue(before != null, "this system shows no descriptors");
    try (RawServer garbage = RawServer.stalling("SSH-2.0\r\n\r\n", new byte[0]);
        RawServer silent = RawServer.stalling("", new byte[0])) {
      Client refusing = Client.of(garbage.url());
      Client late = Client.builder(silent.url()).timeout(Duration.ofMillis(20)).build();
      Client waiting = Client.of(silent.url());
      for (int i = 0; i < 30; i++) {
        assertThrows(IOException.class, () -> refusing.infer(SMALL));
        assertThrows(IOException.class, () -> late.infer(LARGE));
        waiting.inferAsync(SMALL).cancel(true);
        CompletableFuture<List<Tensor>> begun = waiting.inferAsync(SMALL);
        Thread.sleep(5);
        begun.cancel(true);
      }
      int open = Integer.MAX_VALUE;
      for (int i = 0; i < 100 && open > before.length + 10; i++) {
        Thread.sleep(50);
        open = new File("/proc/self/fd").list().length;
      }
      assertTrue(open <= before.length + 10, before.length + " before, now " + open);
    }
  }

  @Test
  void futuresAreCompletedOnTheCallersThreadsOrFailWhereThereAreNone() throws Exception {
    AtomicReference<String> completedOn = new AtomicReference<>();
    try (FakeServer server = FakeServer.echo();
        Client own =
            Client.builder(server.url())
                .executor(task -> new Thread(task, "mine").start())
                .build();
        Client none =
            Client.builder(server.url())
                .executor(
                    task -> {
                      throw new RejectedExecutionException("full");
                    })
                .build()) {
      own.inferAsync(SMALL)
          .thenAccept(answer -> completedOn.set(Thread.currentThread().getName()))
          .get();
      assertEquals("mine", completedOn.get());
      ExecutionException e =
          assertThrows(ExecutionException.class, () -> none.inferAsync(SMALL).get());
      assertInstanceOf(IOException.class, e.getCause());
    }
  }

  @Test
  void aCallWithoutEndingTimeIsPossible() throws Exception {
    try (FakeServer server = FakeServer.echo();
        Client client =
            Client.builder(server.url()).timeout(Duration.ofSeconds(Long.MAX_VALUE)).build()) {
      assertEquals(ONE, client.execute(ONE));
      assertEquals(List.of(ONE), client.inferAsync(SMALL).get());
    }
  }

  @Test
  void theUsersHeadersTakeThePlaceOfOurs() throws Exception {
    AtomicReference<Asked> seen = new AtomicReference<>();
    try (FakeServer server =
            new FakeServer(
                asked -> {
                  seen.set(asked);
                  return Answer.of(ONE);
                });
        Client client =
            Client.builder(server.url() + "/models/\u00e4?q=%20")
                .header("accept", "*/*")
                .header("X", "first")
                .header("x", "last")
                .build()) {
      client.infer(SMALL);
      assertEquals("/models/%C3%A4?q=%20", seen.get().path());
      assertEquals(List.of("*/*"), seen.get().headers().get("Accept"));
      assertEquals(1, seen.get().headers().get("GraphPipe-Timeout-Ms").size());
      assertEquals(List.of("last"), seen.get().headers().get("X"));
      assertEquals(List.of(server.url().substring(7)), seen.get().headers().get("Host"));
    }
  }

  @Test
  void aProxyOfTheJvmsSettingsIsUsed() throws Exception {
    AtomicReference<String> firstLine = new AtomicReference<>("");
    ProxySelector stock = ProxySelector.getDefault();
    try (RawServer proxy =
        new RawServer(
            connection -> {
              InputStream in = connection.getInputStream();
              StringBuilder line = new StringBuilder();
              for (int c = in.read(); c != '\r'; c = in.read()) {
                line.append((char) c);
              }
              firstLine.set(line.toString());
              answer(connection, GOOD_HEAD);
            })) {
      int port = URI.create(proxy.url()).getPort();
      ProxySelector.setDefault(
          new ProxySelector() {
            @Override
            public List<Proxy> select(URI uri) {
              return List.of(new Proxy(Proxy.Type.HTTP, new InetSocketAddress("127.0.0.1", port)));
            }

            @Override
            public void connectFailed(URI uri, SocketAddress address, IOException e) {}
          });
      assertEquals(ONE, Client.of("http://graphpipe.invalid/x").execute(ONE));
      assertTrue(
          firstLine.get().toLowerCase(Locale.ROOT).startsWith("post http://graphpipe.invalid"),
          firstLine.get());
    } finally {
      ProxySelector.setDefault(stock);
    }
  }

  private static void answer(Socket connection, String head) throws IOException {
    answer(connection, head, BODY);
  }

  private static void answer(Socket connection, String head, byte[] body) throws IOException {
    RawServer.readRequest(connection.getInputStream());
    connection.getOutputStream().write(joined(head.getBytes(StandardCharsets.US_ASCII), body));
  }

  private static byte[] joined(byte[]... parts) {
    ByteArrayOutputStream all = new ByteArrayOutputStream();
    for (byte[] part : parts) {
      all.writeBytes(part);
    }
    return all.toByteArray();
  }
}
