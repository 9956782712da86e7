package org.graphpipe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.net.ServerSocket;
import java.net.http.HttpTimeoutException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Servers that stall, lie, break off or answer garbage: an IOException each time, and soon. {@link
 * BrokenServerByTlsTest} meets them again by https.
 */
@Timeout(60)
class BrokenServerTest {
  private static final InferRequest REQUEST = InferRequest.of(Tensor.of(new float[] {1}, 1));
  private static final byte[] GOOD =
      Writer.write(new InferResponse(REQUEST.inputs(), List.of())).toByteBuffer().array();
  private static final byte[] NOTHING = {};

  /** How a test comes by its clients. */
  Client.Builder builder(String url) {
    return Client.builder(url);
  }

  private Client client(String url) {
    return builder(url).build();
  }

  @Test
  void aBodyWithoutLengthIsReadToItsEnd() throws Exception {
    try (RawServer server = RawServer.answering("HTTP/1.1 200 OK\r\n\r\n", GOOD)) {
      assertEquals(REQUEST.inputs(), client(server.url()).infer(REQUEST));
    }
    try (RawServer server =
        RawServer.answering(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunked(GOOD, 50))) {
      assertEquals(REQUEST.inputs(), client(server.url()).infer(REQUEST));
      ByteBuffer buffer = ByteBuffer.allocate(GOOD.length);
      assertEquals(REQUEST.inputs(), client(server.url()).inferInto(REQUEST, buffer));
      ByteBuffer small = ByteBuffer.allocate(GOOD.length - 1);
      assertEquals(REQUEST.inputs(), client(server.url()).inferInto(REQUEST, small));
    }
    InferResponse large = new InferResponse(List.of(Samples.large(), Samples.large()), List.of());
    try (RawServer server =
        RawServer.answering(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            chunked(Writer.write(large).toByteBuffer().array(), 1000))) {
      assertEquals(large.outputs(), client(server.url()).infer(REQUEST));
    }
  }

  @Test
  void anAnswerOverTheLimitIsRefusedByItsHead() throws Exception {
    try (RawServer server =
        RawServer.stalling("HTTP/1.1 200 OK\r\nContent-Length: 2000000000\r\n\r\n", GOOD)) {
      IOException e = noAnswer(client(server.url()));
      assertTrue(e.getMessage().contains("2000000000"), e.getMessage());
      assertTrue(server.clientHasLeft(), "the connection is not used again");
    }
    try (RawServer server =
        RawServer.stalling("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n", GOOD)) {
      noAnswer(client(server.url()));
    }
  }

  @Test
  void anAnswerOverTheLimitIsRefusedWhileItArrives() throws Exception {
    for (String head :
        List.of(
            "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")) {
      byte[] body = head.contains("chunked") ? chunked(new byte[1 << 20], 4096) : new byte[1 << 20];
      try (RawServer server = RawServer.stalling(head, body)) {
        Client client = builder(server.url()).answerBytesMax(100_000).build();
        IOException e = noAnswer(client);
        assertTrue(e.getMessage().contains("at most 100000 bytes"), e.getMessage());
      }
    }
    try (RawServer server =
        RawServer.answering(
            "HTTP/1.1 200 OK\r\nContent-Length: " + GOOD.length + "\r\n\r\n", GOOD)) {
      Client exact = builder(server.url()).answerBytesMax(GOOD.length).build();
      assertEquals(REQUEST.inputs(), exact.infer(REQUEST));
      noAnswer(builder(server.url()).answerBytesMax(GOOD.length - 1).build());
    }
  }

  @Test
  void anAnswerThatBreaksOffIsNoAnswer() throws Exception {
    for (int length : new int[] {0, 1, GOOD.length - 1}) {
      byte[] part = Arrays.copyOf(GOOD, length);
      for (String head :
          List.of(
              "HTTP/1.1 200 OK\r\nContent-Length: " + GOOD.length + "\r\n\r\n",
              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                  + Integer.toHexString(GOOD.length)
                  + "\r\n")) {
        try (RawServer server = RawServer.answering(head, part)) {
          noAnswer(client(server.url()));
        }
      }
    }
  }

  @Test
  void aBrokenHeadIsNoAnswer() throws Exception {
    for (String head :
        List.of(
            "",
            "\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 abc OK\r\n\r\n",
            "HTTP/1.1 -20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\n",
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
            "HTTP/1.1 200 OK\r\nb\0d: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\n" + "x".repeat(500_000))) {
      try (RawServer server = RawServer.answering(head, NOTHING)) {
        Client client = builder(server.url()).timeout(Duration.ofSeconds(5)).build();
        noAnswer(client);
        ExecutionException async =
            assertThrows(ExecutionException.class, () -> client.inferAsync(REQUEST).get(), head);
        assertInstanceOf(IOException.class, async.getCause(), head);
      }
    }
  }

  @Test
  void garbageBodiesAreMalformedMessages() throws Exception {
    Random random = new Random(7);
    for (int length : new int[] {0, 3, 4, 100}) {
      byte[] body = new byte[length];
      random.nextBytes(body);
      try (RawServer server =
          RawServer.answering("HTTP/1.1 200 OK\r\nContent-Length: " + length + "\r\n\r\n", body)) {
        assertInstanceOf(MalformedMessageException.class, noAnswer(client(server.url())));
        assertThrows(MalformedMessageException.class, () -> client(server.url()).metadata());
      }
    }
  }

  @Test
  void theTimeIsUpWhereverTheServerStalls() throws Exception {
    for (String head :
        List.of(
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            "HTTP/1.1 500 Oh\r\nContent-Length: 1000\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n")) {
      byte[] body = head.endsWith("\r\n\r\n") ? new byte[10] : NOTHING;
      for (boolean async : new boolean[] {false, true}) {
        try (RawServer server = RawServer.stalling(head, body)) {
          Client client = builder(server.url()).timeout(Duration.ofMillis(300)).build();
          long start = System.nanoTime();
          IOException e = async ? noAnswerAsync(client) : noAnswer(client);
          long tookMs = (System.nanoTime() - start) / 1_000_000;
          assertInstanceOf(HttpTimeoutException.class, e, head);
          assertEquals("no whole answer within 300 ms", e.getMessage());
          assertTrue(tookMs >= 290 && tookMs < 3000, tookMs + " ms, after: " + head);
          assertTrue(server.clientHasLeft(), head);
        }
      }
    }
  }

  @Test
  void aBodyThatDripsDoesNotOutliveTheTime() throws Exception {
    try (RawServer server =
        new RawServer(
            connection -> {
              RawServer.readRequest(connection.getInputStream());
              byte[] head =
                  "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
                      .getBytes(StandardCharsets.US_ASCII);
              connection.getOutputStream().write(head);
              for (int i = 0; i < 1000; i++) {
                connection.getOutputStream().write(0);
                Thread.sleep(20);
              }
            })) {
      Client client = builder(server.url()).timeout(Duration.ofMillis(400)).build();
      assertInstanceOf(HttpTimeoutException.class, noAnswer(client));
    }
  }

  @Test
  void aServerThatReadsNothingCannotHoldTheCaller() throws Exception {
    try (RawServer server = new RawServer(connection -> Thread.sleep(20_000))) {
      Client client = builder(server.url()).timeout(Duration.ofMillis(500)).build();
      InferRequest large = InferRequest.of(Tensor.allocate(Type.UINT8, 64 << 20));
      assertThrows(HttpTimeoutException.class, () -> client.infer(large));
    }
  }

  @Test
  void aRefusalIsHeardWhileTheRequestIsStillBeingSent() throws Exception {
    try (RawServer server =
        new RawServer(
            connection -> {
              String answer =
                  "HTTP/1.1 413 Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big";
              connection.getInputStream().readNBytes(1000);
              connection.getOutputStream().write(answer.getBytes(StandardCharsets.US_ASCII));
              connection.shutdownOutput();
              connection.getInputStream().transferTo(OutputStream.nullOutputStream());
            })) {
      InferRequest large = InferRequest.of(Tensor.allocate(Type.UINT8, 16 << 20));
      GraphPipeException e =
          assertThrows(GraphPipeException.class, () -> client(server.url()).infer(large));
      assertEquals(GraphPipeException.TOO_LARGE, e.code());
      assertEquals("too big", e.getMessage());
    }
  }

  @Test
  void nothingListensThere() throws Exception {
    int port;
    try (ServerSocket taken = new ServerSocket(0)) {
      port = taken.getLocalPort();
    }
    noAnswer(client("http://127.0.0.1:" + port));
    noAnswerAsync(client("http://127.0.0.1:" + port));
  }

  @Test
  void aRequestIsNeverSentTwice() throws Exception {
    // A connection that served one request and then dies without an answer to the second: the very
    // case in which clients like to try again.
    AtomicInteger requests = new AtomicInteger();
    try (RawServer server =
        new RawServer(
            connection -> {
              RawServer.readRequest(connection.getInputStream());
              requests.incrementAndGet();
              connection
                  .getOutputStream()
                  .write(
                      ("HTTP/1.1 200 OK\r\nContent-Length: " + GOOD.length + "\r\n\r\n")
                          .getBytes(StandardCharsets.US_ASCII));
              connection.getOutputStream().write(GOOD);
              RawServer.readRequest(connection.getInputStream());
              requests.incrementAndGet();
            })) {
      Client client = client(server.url());
      client.infer(REQUEST);
      noAnswer(client);
      Thread.sleep(300);
      assertEquals(2, requests.get());
    }
  }

  private static IOException noAnswer(Client client) {
    return assertThrows(IOException.class, () -> client.infer(REQUEST));
  }

  private static IOException noAnswerAsync(Client client) {
    ExecutionException e =
        assertThrows(ExecutionException.class, () -> client.inferAsync(REQUEST).get());
    return assertInstanceOf(IOException.class, e.getCause());
  }

  private static byte[] chunked(byte[] body, int chunkBytes) throws IOException {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    for (int at = 0; at < body.length; at += chunkBytes) {
      int length = Math.min(chunkBytes, body.length - at);
      out.write((Integer.toHexString(length) + "\r\n").getBytes(StandardCharsets.US_ASCII));
      out.write(body, at, length);
      out.write("\r\n".getBytes(StandardCharsets.US_ASCII));
    }
    out.write("0\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
    return out.toByteArray();
  }
}
