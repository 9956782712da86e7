package org.graphpipe.examples;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import org.graphpipe.InferRequest;
import org.graphpipe.InferResponse;
import org.graphpipe.Reader;
import org.graphpipe.Tensor;
import org.graphpipe.Type;
import org.graphpipe.Writer;
import org.junit.jupiter.api.Test;

class ClassifyDigitTest {
  @Test
  void theDemoServersAnswerIsPrinted() throws Exception {
    AtomicReference<InferRequest> asked = new AtomicReference<>();
    HttpServer server =
        HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.createContext(
        "/",
        exchange -> {
          byte[] body = exchange.getRequestBody().readAllBytes();
          asked.set(Reader.readRequest(ByteBuffer.wrap(body)).orElseThrow());
          float[] probabilities = new float[10];
          probabilities[3] = 0.75f;
          InferResponse response =
              new InferResponse(
                  List.of(Tensor.of(new long[] {3}, 1), Tensor.of(probabilities, 1, 10)),
                  List.of());
          byte[] answer = Writer.write(response).toByteBuffer().array();
          exchange.sendResponseHeaders(200, answer.length);
          exchange.getResponseBody().write(answer);
          exchange.close();
        });
    server.start();
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try {
      ClassifyDigit.run(
          "http://127.0.0.1:" + server.getAddress().getPort(),
          new PrintStream(out, true, StandardCharsets.UTF_8));
    } finally {
      server.stop(0);
    }
    assertTrue(
        out.toString(StandardCharsets.UTF_8).contains("a 3, with a probability of 0.75"),
        out.toString(StandardCharsets.UTF_8));
    Tensor image = asked.get().inputs().get(0);
    assertEquals(Type.FLOAT32, image.type());
    assertArrayEquals(new long[] {1, 64}, image.shape());
    for (float pixel : image.toFloats()) {
      assertTrue(pixel >= 0 && pixel <= 16, "a pixel of " + pixel);
    }
    assertEquals(List.of("label", "probabilities"), asked.get().outputNames());
  }
}
