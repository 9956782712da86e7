package org.graphpipe;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.graphpipe.FakeServer.Answer;
import org.graphpipe.FakeServer.Asked;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Calls to servers that behave. */
@Timeout(60)
class ClientTest {
  private static final Tensor ONE = Tensor.of(new float[] {1, 2, 3}, 1, 3);

  /** How a test comes by its clients. */
  Client.Builder builder(String url) {
    return Client.builder(url);
  }

  private Client client(String url) {
    return builder(url).build();
  }

  @Test
  void everyKindOfTensorGoesOutAndComesBack() throws Exception {
    try (FakeServer server = FakeServer.echo()) {
      Client client = client(server.url());
      for (InferRequest request : Samples.requests()) {
        assertEquals(request.inputs(), client.infer(request));
        assertEquals(request.inputs(), client.inferAsync(request).get());
      }
      assertEquals(ONE, client.execute(ONE));
      assertEquals(1, server.connections(), "connections are kept");
    }
  }

  @Test
  void aRequestSaysWhatItShould() throws Exception {
    AtomicReference<Asked> seen = new AtomicReference<>();
    try (FakeServer server =
        new FakeServer(
            asked -> {
              seen.set(asked);
              return Answer.of(ONE);
            })) {
      Client client =
          builder(server.url() + "/models/digits?x=1")
              .timeout(Duration.ofSeconds(7))
              .header("Authorization", "Bearer secret")
              .build();
      client.infer(
          InferRequest.builder().config("c").input("x", ONE).outputs(List.of("y", "z")).build());
      assertEquals("POST", seen.get().method());
      assertEquals("/models/digits?x=1", seen.get().path());
      assertEquals("application/vnd.graphpipe", seen.get().headers().getFirst("Accept"));
      assertEquals("7000", seen.get().headers().getFirst("GraphPipe-Timeout-Ms"));
      assertEquals("Bearer secret", seen.get().headers().getFirst("Authorization"));
      assertEquals(
          Integer.toString(seen.get().body().remaining()),
          seen.get().headers().getFirst("Content-Length"));
      assertFalse(seen.get().headers().containsKey("Upgrade"), "HTTP/1.1 and nothing else");
      assertEquals("c", seen.get().inferRequest().config());
      assertEquals(List.of("x"), seen.get().inferRequest().inputNames());
      assertEquals(List.of("y", "z"), seen.get().inferRequest().outputNames());

      InferRequest hurried =
          InferRequest.builder().input(ONE).timeout(Duration.ofMillis(1234)).build();
      client.infer(hurried);
      assertEquals("1234", seen.get().headers().getFirst("GraphPipe-Timeout-Ms"));
      client.inferAsync(hurried).get();
      assertEquals("1234", seen.get().headers().getFirst("GraphPipe-Timeout-Ms"));
    }
  }

  @Test
  void metadataIsRead() throws Exception {
    try (FakeServer server =
        new FakeServer(
            asked -> {
              assertTrue(Reader.readRequest(asked.body()).isEmpty());
              return new Answer(
                  200,
                  "application/octet-stream",
                  Writer.write(Samples.metadata()).toByteBuffer().array());
            })) {
      assertEquals(Samples.metadata(), client(server.url()).metadata());
    }
  }

  @Test
  void ourServersRefusalKeepsItsCodeStatusAndWords() throws Exception {
    InferResponse refusal =
        new InferResponse(List.of(), List.of(new InferResponse.Failure(3, "no output 'z'")));
    byte[] body = Writer.write(refusal).toByteBuffer().array();
    try (FakeServer server =
        new FakeServer(asked -> new Answer(404, "Application/Vnd.GraphPipe; x=y", body))) {
      Client client = client(server.url());
      GraphPipeException e = assertThrows(GraphPipeException.class, () -> client.execute(ONE));
      assertEquals(GraphPipeException.NOT_FOUND, e.code());
      assertEquals(404, e.status());
      assertEquals("no output 'z'", e.getMessage());
      assertEquals(
          "org.graphpipe.GraphPipeException: no output 'z' (code 3, status 404)", e.toString());
      assertThrows(GraphPipeException.class, client::metadata);
      assertThrows(
          GraphPipeException.class,
          () -> client.inferInto(InferRequest.of(ONE), ByteBuffer.allocate(1)));
      ExecutionException async =
          assertThrows(
              ExecutionException.class, () -> client.inferAsync(InferRequest.of(ONE)).get());
      assertInstanceOf(GraphPipeException.class, async.getCause());
    }
  }

  @Test
  void aForeignServersRefusalIsItsText() throws Exception {
    Object[][] cases = {
      {400, "bad tensor\n", 0L, "bad tensor"},
      {401, "who?", 8L, "who?"},
      {403, "no", 9L, "no"},
      {404, "", 3L, "the server says no, without a word: status 404"},
      {405, "GET?", 11L, "GET?"},
      {413, "big", 5L, "big"},
      {415, "gzip?", 11L, "gzip?"},
      {500, "h\u00e9", 4L, "h\u00e9"},
      {502, "up", 12L, "up"},
      {429, "later", 6L, "later"},
      {501, "what?", 11L, "what?"},
      {503, "later", 6L, "later"},
      {504, "late", 7L, "late"},
      {418, "tea", 0L, "tea"},
      {302, "elsewhere", 0L, "elsewhere"},
      {201, "created", 0L, "created"},
      {204, "", 0L, "the server says no, without a word: status 204"},
    };
    for (Object[] expected : cases) {
      byte[] body = expected[1].toString().getBytes("UTF-8");
      try (FakeServer server =
          new FakeServer(asked -> new Answer((int) expected[0], "text/plain", body))) {
        Client client = client(server.url());
        GraphPipeException e = assertThrows(GraphPipeException.class, () -> client.execute(ONE));
        assertEquals(expected[0], e.status());
        assertEquals(expected[2], e.code());
        assertEquals(expected[3], e.getMessage());
      }
    }
  }

  @Test
  void errorsBehindA200AreErrors() throws Exception {
    InferResponse refusal =
        new InferResponse(List.of(ONE), List.of(new InferResponse.Failure(0, "failed")));
    try (FakeServer server = new FakeServer(asked -> Answer.of(refusal))) {
      Client client = client(server.url());
      GraphPipeException e = assertThrows(GraphPipeException.class, () -> client.execute(ONE));
      assertEquals(200, e.status());
      assertEquals("failed", e.getMessage());
    }
  }

  @Test
  void anErrorBodyThatLiesIsStillTheServersNo() throws Exception {
    for (byte[] body : List.of(new byte[] {1, 2, 3}, new byte[0], new byte[3 << 20])) {
      try (FakeServer server =
          new FakeServer(asked -> new Answer(500, "application/vnd.graphpipe", body))) {
        Client client = client(server.url());
        GraphPipeException e = assertThrows(GraphPipeException.class, () -> client.execute(ONE));
        assertEquals(GraphPipeException.MODEL_FAILED, e.code());
        assertEquals(500, e.status());
      }
    }
  }

  @Test
  void theAnswerIsReceivedIntoTheCallersBuffer() throws Exception {
    try (FakeServer server = FakeServer.echo()) {
      Client client = client(server.url());
      for (ByteBuffer memory :
          List.of(ByteBuffer.allocate(100_000), ByteBuffer.allocateDirect(100_000))) {
        ByteBuffer buffer = memory.position(3).slice();
        Tensor large = Samples.large();
        List<Tensor> first = client.inferInto(InferRequest.of(large, ONE), buffer);
        assertEquals(List.of(large, ONE), first);
        assertEquals(0, buffer.position());
        List<Tensor> second = client.inferInto(InferRequest.of(ONE), buffer);
        assertEquals(List.of(ONE), second);
        second.get(0).data().putFloat(0, 42);
        assertTrue(contains(buffer, 42f), "the tensor looks into the buffer");
      }
      ByteBuffer small = ByteBuffer.allocate(100);
      assertEquals(List.of(ONE), client.inferInto(InferRequest.of(ONE), small));
      assertEquals(ByteBuffer.allocate(100), small, "what does not fit is not begun there");
      assertThrows(
          IllegalArgumentException.class,
          () -> client.inferInto(InferRequest.of(ONE), small.asReadOnlyBuffer()));
    }
  }

  @Test
  void executeWantsOneOutput() throws Exception {
    for (Tensor[] outputs : new Tensor[][] {{}, {ONE, ONE}}) {
      try (FakeServer server = new FakeServer(asked -> Answer.of(outputs))) {
        Client client = client(server.url());
        assertThrows(IOException.class, () -> client.execute(ONE));
        assertEquals(List.of(outputs), client.infer(InferRequest.of(ONE)));
      }
    }
  }

  @Test
  void manyThreadsShareAClient() throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(8);
    ExecutorService pool = Executors.newCachedThreadPool();
    try (FakeServer server = FakeServer.echo()) {
      for (Client client :
          List.of(client(server.url()), Client.builder(server.url()).executor(pool).build())) {
        List<Future<?>> loops = new ArrayList<>();
        for (int t = 0; t < 8; t++) {
          int mine = t;
          loops.add(
              threads.submit(
                  () -> {
                    for (int i = 0; i < 100; i++) {
                      Tensor tensor = Tensor.of(new int[i * 100 + mine], i * 100 + mine);
                      assertEquals(tensor, client.execute(tensor));
                    }
                    return null;
                  }));
        }
        for (Future<?> loop : loops) {
          loop.get();
        }
      }
    } finally {
      threads.shutdownNow();
      pool.shutdownNow();
    }
  }

  @Test
  void aLargeTensorArrivesWhole() throws Exception {
    float[] values = new float[3_000_000];
    for (int i = 0; i < values.length; i++) {
      values[i] = i;
    }
    try (FakeServer server = FakeServer.echo()) {
      Client client = client(server.url());
      Tensor answer = client.execute(Tensor.of(values, 1000, 3000));
      assertArrayEquals(values, answer.toFloats());
      Tensor direct = Tensor.allocate(Type.FLOAT32, 3000, 1000);
      direct.asFloatBuffer().put(values);
      assertEquals(direct, client.execute(direct));
    }
  }

  @Test
  void cancellingAFutureEndsTheExchange() throws Exception {
    try (RawServer silent = RawServer.stalling("", new byte[0])) {
      CompletableFuture<List<Tensor>> future =
          client(silent.url()).inferAsync(InferRequest.of(ONE));
      Thread.sleep(200);
      assertTrue(future.cancel(true));
      assertTrue(silent.clientHasLeft());
    }
    try (RawServer half =
        RawServer.stalling("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", new byte[10])) {
      CompletableFuture<List<Tensor>> future = client(half.url()).inferAsync(InferRequest.of(ONE));
      Thread.sleep(200);
      assertTrue(future.completeExceptionally(new IllegalStateException("changed my mind")));
      assertTrue(half.clientHasLeft());
    }
  }

  @Test
  void anInterruptedCallEndsTheExchange() throws Exception {
    try (RawServer silent = RawServer.stalling("", new byte[0])) {
      Client client = client(silent.url());
      AtomicReference<Throwable> thrown = new AtomicReference<>();
      Thread caller =
          new Thread(
              () -> {
                try {
                  client.execute(ONE);
                } catch (Throwable e) {
                  thrown.set(e);
                }
              });
      caller.start();
      Thread.sleep(200);
      caller.interrupt();
      caller.join(TimeUnit.SECONDS.toMillis(5));
      assertInstanceOf(InterruptedException.class, thrown.get());
      assertTrue(silent.clientHasLeft());
    }
  }

  @Test
  void whatCannotBeAClientIsRefusedAtOnce() {
    for (String url :
        List.of(
            "",
            "127.0.0.1:9000",
            "ftp://host",
            "http:///x",
            "http://",
            "http://a b",
            "host",
            "unix:",
            "http://user:secret@",
            "http://a:b:c",
            "http://host:70000",
            "http://host:0")) {
      assertThrows(IllegalArgumentException.class, () -> Client.of(url), url);
    }
    Client.Builder builder = Client.builder("http://host");
    assertThrows(IllegalArgumentException.class, () -> builder.timeout(Duration.ZERO));
    assertThrows(IllegalArgumentException.class, () -> builder.timeout(Duration.ofMillis(-1)));
    assertThrows(IllegalArgumentException.class, () -> builder.answerBytesMax(0));
    assertThrows(IllegalArgumentException.class, () -> builder.header("a b", "c"));
    assertThrows(IllegalArgumentException.class, () -> builder.header("Content-Length", "1"));
    assertThrows(
        IllegalArgumentException.class,
        () -> InferRequest.builder().timeout(Duration.ofSeconds(-1)));
  }

  @Test
  void requestsThatCannotBeSentAreTheCallersMistake() throws Exception {
    try (FakeServer server = FakeServer.echo()) {
      Client client = client(server.url());
      InferRequest request = InferRequest.builder().config("\ud800").build();
      assertThrows(IllegalArgumentException.class, () -> client.infer(request));
      assertThrows(IllegalArgumentException.class, () -> client.inferAsync(request));
      assertEquals(0, server.connections());
    }
  }

  private static boolean contains(ByteBuffer buffer, float value) {
    ByteBuffer view = buffer.duplicate().order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < 4096; i += 4) {
      if (view.getFloat(i) == value) {
        return true;
      }
    }
    return false;
  }
}
