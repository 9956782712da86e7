package org.graphpipe.benchmarks;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.graphpipe.Client;
import org.graphpipe.EncodedMessage;
import org.graphpipe.InferRequest;
import org.graphpipe.InferResponse;
import org.graphpipe.Tensor;
import org.graphpipe.Type;
import org.graphpipe.Writer;

/**
 * Compares calls of the client with a raw socket, turn by turn, so that a noisy machine is noisy to
 * all: prints medians, and the median of each turn's ratio to the raw socket. {@code java.net.http}
 * alone, which neither encodes nor decodes, shows what the client adds to it.
 */
public final class PairedCalls {
  private PairedCalls() {}

  /** One way to make a call. */
  @FunctionalInterface
  private interface Call {
    void run() throws Exception;
  }

  /**
   * Runs the comparison.
   *
   * @param args how many turns of large calls; 30 where it is not said. Small ones: 100 times that.
   * @throws Exception if a call fails
   */
  public static void main(String[] args) throws Exception {
    int turns = args.length > 0 ? Integer.parseInt(args[0]) : 30;
    System.out.printf(
        Locale.ROOT,
        "Java %s, jdk.httpclient.bufsize %s%n",
        System.getProperty("java.version"),
        System.getProperty("jdk.httpclient.bufsize", "stock (16384)"));
    compare(
        "small: 1 KB each way",
        Tensor.allocate(Type.FLOAT32, 1, 256),
        Tensor.allocate(Type.FLOAT32, 1, 256),
        5000,
        100 * turns);
    Tensor answer = Tensor.allocate(Type.FLOAT32, 128, 25088);
    compare(
        "large, from a direct buffer: 77 MB up, 12.8 MB down",
        Tensor.allocate(Type.FLOAT32, 128, 224, 224, 3),
        answer,
        10,
        turns);
    compare(
        "large, from a heap buffer: 77 MB up, 12.8 MB down",
        Tensor.of(new float[128 * 224 * 224 * 3], 128, 224, 224, 3),
        answer,
        10,
        turns);
  }

  private static void compare(String name, Tensor input, Tensor output, int warm, int turns)
      throws Exception {
    InferRequest request = InferRequest.of(input);
    EncodedMessage message = Writer.write(request);
    EncodedMessage answer = Writer.write(new InferResponse(List.of(output), List.of()));
    ByteBuffer into = ByteBuffer.allocateDirect(answer.bytes());
    try (RawServer server = new RawServer(answer.toByteBuffer(), message.bytes());
        RawClient raw = new RawClient(server.port(), message.toByteBuffer(), answer.bytes())) {
      String url = "http://127.0.0.1:" + server.port();
      Client client = Client.of(url);
      HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
      Tls tls = new Tls();
      RawServer secureServer = new RawServer(answer.toByteBuffer(), message.bytes(), tls.context());
      String secureUrl = "https://localhost:" + secureServer.port();
      Client secure = Client.builder(secureUrl).sslContext(tls.context()).build();
      HttpClient secureHttp =
          HttpClient.newBuilder()
              .version(HttpClient.Version.HTTP_1_1)
              .sslContext(tls.context())
              .build();
      HttpRequest post = post(url, message);
      HttpRequest securePost = post(secureUrl, message);
      Map<String, Call> ways = new LinkedHashMap<>();
      ways.put("raw socket", raw::call);
      ways.put("infer", () -> client.infer(request));
      ways.put("inferInto", () -> client.inferInto(request, into));
      ways.put("inferAsync", () -> client.inferAsync(request).get());
      ways.put("infer, https", () -> secure.infer(request));
      ways.put("inferInto, https", () -> secure.inferInto(request, into));
      ways.put(
          "java.net.http alone", () -> http.send(post, HttpResponse.BodyHandlers.ofByteArray()));
      ways.put(
          "the same, https",
          () -> secureHttp.send(securePost, HttpResponse.BodyHandlers.ofByteArray()));

      double[][] ms = new double[ways.size()][turns];
      List<Call> calls = List.copyOf(ways.values());
      for (int turn = -warm; turn < turns; turn++) {
        // Each turn begins with another one, so that none always follows the same.
        for (int i = 0; i < calls.size(); i++) {
          int way = Math.floorMod(turn + i, calls.size());
          long start = System.nanoTime();
          calls.get(way).run();
          ms[way][Math.max(turn, 0)] = (System.nanoTime() - start) / 1e6;
        }
      }
      client.close();
      secure.close();
      secureServer.close();
      System.out.println(name);
      int way = 0;
      for (String called : ways.keySet()) {
        System.out.printf(
            Locale.ROOT,
            "  %-20s median %8.3f ms, ratio %.2f%n",
            called,
            median(ms[way]),
            medianRatio(ms[way], ms[0]));
        way++;
      }
    }
  }

  private static HttpRequest post(String url, EncodedMessage message) {
    return HttpRequest.newBuilder(URI.create(url))
        .POST(HttpRequest.BodyPublishers.ofByteArray(message.toByteBuffer().array()))
        .build();
  }

  private static double medianRatio(double[] over, double[] under) {
    double[] ratios = new double[over.length];
    for (int i = 0; i < ratios.length; i++) {
      ratios[i] = over[i] / under[i];
    }
    return median(ratios);
  }

  private static double median(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    return sorted[sorted.length / 2];
  }
}
