package org.graphpipe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.net.httpserver.Headers;
import java.io.IOException;
import java.io.InputStream;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketAddress;
import java.net.SocketTimeoutException;
import java.net.StandardProtocolFamily;
import java.net.URI;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicReference;
import javax.net.ssl.SSLSocket;
import org.graphpipe.FakeServer.Answer;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** How connections are made: TLS, proxies, Unix sockets, several addresses; and who calls whom. */
@Timeout(60)
class ConnectionTest {
  private static final Tensor ONE = Tensor.of(new float[] {1, 2, 3}, 1, 3);
  private static final byte[] BODY =
      Writer.write(new InferResponse(List.of(ONE), List.of())).toByteBuffer().array();

  @Test
  void aCertificateOfAnotherNameOrOfNobodysTrustIsNoConnection() throws Exception {
    try (FakeServer server = FakeServer.echo()) {
      int plain = Target.parse(server.url()).port();
      int port = TestTls.front(TestTls.LOCALHOST, plain);
      try (Client stranger = Client.of("https://localhost:" + port)) {
        ConnectException e = assertThrows(ConnectException.class, () -> stranger.execute(ONE));
        assertTrue(e.getMessage().contains("localhost:" + port), e.getMessage());
        assertTrue(GraphPipeException.safeToRetry(e));
      }
      var other = TestTls.context("SAN=dns:elsewhere.example");
      String url = "https://localhost:" + TestTls.front(other, plain);
      try (Client trusting = Client.builder(url).sslContext(other).build()) {
        assertThrows(ConnectException.class, () -> trusting.execute(ONE));
      }
    }
  }

  @Test
  void aPlainServerBehindHttpsAndASilentOneEndInTime() throws Exception {
    try (RawServer plain =
            new RawServer(
                connection -> {
                  connection.getInputStream().readNBytes(5);
                  connection.getOutputStream().write("HTTP/1.1 400 What\r\n\r\n".getBytes());
                });
        Client wrong = Client.of(plain.url().replace("http:", "https:"))) {
      assertThrows(ConnectException.class, () -> wrong.execute(ONE));
    }
    try (RawServer silent = new RawServer(connection -> Thread.sleep(20_000));
        Client client =
            Client.builder(silent.url().replace("http:", "https:"))
                .connectTimeout(Duration.ofMillis(200))
                .build()) {
      ConnectException e = assertThrows(ConnectException.class, () -> client.execute(ONE));
      assertTrue(e.getMessage().contains("none within 200 ms"), e.getMessage());
      var async =
          assertThrows(Exception.class, () -> client.inferAsync(InferRequest.of(ONE)).get());
      assertTrue(GraphPipeException.safeToRetry(async));
    }
  }

  @Test
  void whoeverCutsATlsConnectionDoesNotMakeAnAnswerEnd() throws Exception {
    for (boolean saysGoodbye : new boolean[] {true, false}) {
      try (RawServer server =
              new RawServer(
                  connection -> {
                    SSLSocket secure =
                        (SSLSocket)
                            TestTls.LOCALHOST
                                .getSocketFactory()
                                .createSocket(connection, "localhost", 0, false);
                    secure.setUseClientMode(false);
                    head(secure.getInputStream());
                    // The end of the connection is the end of the body.
                    secure.getOutputStream().write("HTTP/1.1 200 OK\r\n\r\n".getBytes());
                    secure.getOutputStream().write(BODY);
                    if (saysGoodbye) {
                      secure.shutdownOutput();
                    }
                  });
          Client client =
              Client.builder(server.url().replace("http:", "https:"))
                  .sslContext(TestTls.LOCALHOST)
                  .build()) {
        if (saysGoodbye) {
          assertEquals(ONE, client.execute(ONE));
        } else {
          assertThrows(IOException.class, () -> client.execute(ONE));
        }
      }
    }
  }

  @Test
  void unixSocketsAreSpokenTo(@TempDir Path folder) throws Exception {
    Path path = folder.resolve("gp.sock");
    BlockingQueue<String> asked = new LinkedBlockingQueue<>();
    try (ServerSocketChannel listener = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
      listener.bind(UnixDomainSocketAddress.of(path));
      TestTls.daemon(
          () -> {
            while (true) {
              try (SocketChannel connection = listener.accept()) {
                asked.add(head(Channels.newInputStream(connection)));
                connection.write(ByteBuffer.wrap(good()));
              }
            }
          });
      try (Client client = Client.of("unix:" + path + ":/models/digits")) {
        assertEquals(ONE, client.execute(ONE));
        assertTrue(asked.take().startsWith("POST /models/digits HTTP/1.1\r\nHost: localhost\r\n"));
        assertEquals("Client[unix:" + path + ":/models/digits]", client.toString());
      }
      try (Client client = Client.of("unix:" + path)) {
        assertEquals(List.of(ONE), client.inferAsync(InferRequest.of(ONE)).get());
      }
    }
    try (Client nobody = Client.of("unix:" + folder.resolve("none.sock"))) {
      assertThrows(ConnectException.class, () -> nobody.execute(ONE));
    }
  }

  @Test
  void aLoginInTheUrlIsSentAndNeverShown() throws Exception {
    AtomicReference<Headers> seen = new AtomicReference<>();
    try (FakeServer server =
        new FakeServer(
            asked -> {
              seen.set(asked.headers());
              return Answer.of(ONE);
            })) {
      String url = server.url().replace("://", "://ada:love%20lace@") + "/?key=hidden";
      try (Client client = Client.of(url)) {
        client.execute(ONE);
        assertEquals("Basic YWRhOmxvdmUgbGFjZQ==", seen.get().getFirst("Authorization"));
        assertFalse(client.toString().matches(".*(ada|lace|hidden).*"), client.toString());
      }
      try (Client client = Client.builder(url).apiKey("k1").build()) {
        client.execute(ONE);
        assertEquals("Bearer k1", seen.get().getFirst("Authorization"));
        client.infer(InferRequest.builder().input(ONE).header("authorization", "Own").build());
        assertEquals(List.of("Own"), seen.get().get("Authorization"));
      }
    }
    var refused =
        assertThrows(IllegalArgumentException.class, () -> Client.of("ftp://ada:secret@host"));
    assertFalse(refused.getMessage().contains("secret"), refused.getMessage());
  }

  @Test
  void aCallsHeaderTakesThePlaceOfItsClientsAndNoneFramesTheMessage() throws Exception {
    AtomicReference<Headers> seen = new AtomicReference<>();
    try (FakeServer server =
            new FakeServer(
                asked -> {
                  seen.set(asked.headers());
                  return Answer.of(ONE);
                });
        Client client = Client.builder(server.url()).header("X-Team", "a").build()) {
      InferRequest.Builder request = InferRequest.builder().input(ONE);
      client.inferAsync(request.header("x-team", "b").header("traceparent", "t").build()).get();
      assertEquals(List.of("b"), seen.get().get("X-Team"));
      assertEquals(List.of("t"), seen.get().get("traceparent"));
      client.execute(ONE);
      assertEquals(List.of("a"), seen.get().get("X-Team"));
      for (String name : List.of("content-length", "Host", "TE", "Connection", "a b", "", "x:")) {
        assertThrows(IllegalArgumentException.class, () -> request.header(name, "1"), name);
      }
      for (String value : List.of("a\r\nb: c", "\0", "\u007f")) {
        assertThrows(IllegalArgumentException.class, () -> request.header("x", value));
        assertThrows(
            IllegalArgumentException.class, () -> Client.builder("http://a").apiKey(value));
      }
    }
  }

  @Test
  void aProxyGetsTheWholeUrlAndItsOwnLogin() throws Exception {
    BlockingQueue<String> asked = new LinkedBlockingQueue<>();
    try (RawServer proxy =
        new RawServer(
            connection -> {
              asked.add(head(connection.getInputStream()));
              connection.getOutputStream().write(good());
            })) {
      URI at = URI.create(proxy.url().replace("://", "://me:pw@"));
      try (Client client = Client.builder("http://un_der.invalid/m").proxy(at).build()) {
        assertEquals(ONE, client.execute(ONE));
        String head = asked.take();
        assertTrue(head.startsWith("POST http://un_der.invalid/m HTTP/1.1\r\n"), head);
        assertTrue(head.contains("\r\nHost: un_der.invalid\r\n"), head);
        assertTrue(head.contains("\r\nProxy-Authorization: Basic bWU6cHc=\r\n"), head);
      }
    }
  }

  @Test
  void httpsGoesThroughATunnelOfTheProxys() throws Exception {
    BlockingQueue<String> asked = new LinkedBlockingQueue<>();
    try (FakeServer server = FakeServer.echo();
        RawServer proxy =
            new RawServer(
                connection -> {
                  String head = head(connection.getInputStream());
                  asked.add(head);
                  int port = Integer.parseInt(head.split("[: ]")[2]);
                  connection
                      .getOutputStream()
                      .write("HTTP/1.1 200 Connection established\r\n\r\n".getBytes());
                  try (Socket server1 = new Socket(InetAddress.getLoopbackAddress(), port)) {
                    TestTls.daemon(
                        () -> server1.getInputStream().transferTo(connection.getOutputStream()));
                    connection.getInputStream().transferTo(server1.getOutputStream());
                  }
                });
        RawServer refusing =
            new RawServer(
                connection -> {
                  head(connection.getInputStream());
                  connection
                      .getOutputStream()
                      .write("HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n".getBytes());
                })) {
      int port = TestTls.front(TestTls.LOCALHOST, Target.parse(server.url()).port());
      Client.Builder builder =
          Client.builder("https://localhost:" + port).sslContext(TestTls.LOCALHOST);
      try (Client client = builder.proxy(URI.create(proxy.url())).build()) {
        assertEquals(ONE, client.execute(ONE));
        assertEquals(List.of(ONE), client.inferAsync(InferRequest.of(ONE)).get());
        assertTrue(asked.take().startsWith("CONNECT localhost:" + port + " HTTP/1.1\r\n"));
      }
      try (Client client = builder.proxy(URI.create(refusing.url())).build()) {
        ConnectException e = assertThrows(ConnectException.class, () -> client.execute(ONE));
        assertTrue(e.getMessage().contains("it answered 407 Who are you"), e.getMessage());
      }
      try (Client client = builder.noProxy().build()) {
        assertEquals(ONE, client.execute(ONE));
      }
    }
  }

  @Test
  void aDeadAddressCostsAHeadStartAndNoTimeout() throws Exception {
    List<Socket> waiting = new ArrayList<>();
    try (ServerSocket full = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
        FakeServer server = FakeServer.echo();
        Selector selector = Selector.open()) {
      fill(full, waiting);
      List<SocketAddress> addresses =
          List.of(
              full.getLocalSocketAddress(),
              new InetSocketAddress("127.0.0.1", Target.parse(server.url()).port()));
      long start = System.nanoTime();
      try (Dial dial = new Dial(addresses)) {
        SocketChannel channel = dial.advance(selector, null);
        while (channel == null) {
          selector.select(key -> {}, 50);
          channel = dial.advance(selector, null);
        }
        assertEquals(addresses.get(1), channel.getRemoteAddress());
        channel.close();
      }
      long tookMs = (System.nanoTime() - start) / 1_000_000;
      assertTrue(tookMs >= 240 && tookMs < 5000, tookMs + " ms");
    } finally {
      for (Socket one : waiting) {
        one.close();
      }
    }
  }

  @Test
  void aPageOfAProxysIsToldInWords() throws Exception {
    Object[][] cases = {
      {413, "nginx/1.25", "nginx answered 413: is its client_max_body_size too small?", 5L},
      {502, "nginx", "nginx answered 502 Bad words", 12L},
      {503, "", "something in between answered 503 Bad words", 6L},
      {429, "nginx", "nginx answered 429 Bad words", 6L},
    };
    for (Object[] expected : cases) {
      String head =
          "HTTP/1.1 %s Bad words\r\nServer: %s\r\nContent-Type: text/html\r\nRetry-After: 7\r\n\r\n"
              .formatted(expected[0], expected[1]);
      try (RawServer server = RawServer.answering(head, "<html>secret</html>".getBytes());
          Client client = Client.of(server.url())) {
        var e = assertThrows(GraphPipeException.class, () -> client.execute(ONE));
        assertEquals(expected[2], e.getMessage());
        assertEquals(expected[3], e.code());
        assertEquals(Duration.ofSeconds(7), e.retryAfter().orElseThrow());
        assertEquals(expected[3].equals(6L), GraphPipeException.safeToRetry(e));
      }
    }
  }

  @Test
  void howLongToWaitIsReadAsSecondsOrADateOfAtMostADay() throws Exception {
    String date = "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n";
    Object[][] cases = {
      {"Retry-After: 0\r\n", Duration.ZERO},
      {"Retry-After: 99999999999999\r\n", Duration.ofDays(1)},
      {date + "Retry-After: Wed, 21 Oct 2015 07:28:30 GMT\r\n", Duration.ofSeconds(30)},
      {date + "Retry-After: Wed, 21 Oct 2015 07:27:30 GMT\r\n", Duration.ZERO},
      {date + "Retry-After: Wed, 21 Oct 2099 07:28:00 GMT\r\n", Duration.ofDays(1)},
      {"Retry-After: soon\r\n", null},
      {"Retry-After: -1\r\n", null},
      {"", null},
    };
    for (Object[] expected : cases) {
      byte[] head = ("HTTP/1.1 503 No\r\n" + expected[0] + "\r\n").getBytes("US-ASCII");
      assertEquals(expected[1], AnswerHead.parse(head, head.length).retryAfter(), "" + expected[0]);
    }
  }

  /** Lets nobody in any more. */
  private static void fill(ServerSocket full, List<Socket> waiting) throws IOException {
    for (int i = 0; i < 20; i++) {
      Socket one = new Socket();
      waiting.add(one);
      try {
        one.connect(full.getLocalSocketAddress(), 200);
      } catch (SocketTimeoutException e) {
        return;
      }
    }
    Assumptions.abort("this system accepts without end");
  }

  private static byte[] good() {
    String head = "HTTP/1.1 200 OK\r\nContent-Length: " + BODY.length + "\r\n\r\n";
    return ByteBuffer.allocate(head.length() + BODY.length)
        .put(head.getBytes(StandardCharsets.US_ASCII))
        .put(BODY)
        .array();
  }

  /** Reads a head and its body; says what the head was. */
  private static String head(InputStream in) throws IOException {
    StringBuilder head = new StringBuilder();
    while (head.indexOf("\r\n\r\n") < 0) {
      int next = in.read();
      if (next < 0) {
        throw new IOException("the client has left");
      }
      head.append((char) next);
    }
    int at = head.indexOf("Content-Length: ");
    if (at >= 0) {
      int from = at + "Content-Length: ".length();
      in.readNBytes(Integer.parseInt(head.substring(from, head.indexOf("\r", from))));
    }
    return head.toString();
  }
}
