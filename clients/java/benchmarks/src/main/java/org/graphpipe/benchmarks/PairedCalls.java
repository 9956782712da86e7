package org.graphpipe.benchmarks;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.graphpipe.Client;
import org.graphpipe.EncodedMessage;
import org.graphpipe.InferRequest;
import org.graphpipe.InferResponse;
import org.graphpipe.Tensor;
import org.graphpipe.Type;
import org.graphpipe.Writer;

/**
 * Compares calls of the client with a raw socket, in pairs, so that a noisy machine is noisy to
 * both: prints medians, and the median of the pairs' ratios.
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
   * @param args the number of pairs of large calls; 30 where there is none
   * @throws Exception if a call fails
   */
  public static void main(String[] args) throws Exception {
    int pairs = args.length > 0 ? Integer.parseInt(args[0]) : 30;
    System.out.printf(
        Locale.ROOT,
        "Java %s, jdk.httpclient.bufsize %s%n",
        System.getProperty("java.version"),
        System.getProperty("jdk.httpclient.bufsize", "stock (16384)"));
    compare(
        "small: 1 KB each way",
        Tensor.allocate(Type.FLOAT32, 1, 256),
        Tensor.allocate(Type.FLOAT32, 1, 256),
        4000,
        100 * pairs);
    Tensor answer = Tensor.allocate(Type.FLOAT32, 128, 25088);
    compare(
        "large, direct buffer: 77 MB up, 12.8 MB down",
        Tensor.allocate(Type.FLOAT32, 128, 224, 224, 3),
        answer,
        10,
        pairs);
    compare(
        "large, heap buffer: 77 MB up, 12.8 MB down",
        Tensor.of(new float[128 * 224 * 224 * 3], 128, 224, 224, 3),
        answer,
        10,
        pairs);
  }

  private static void compare(String name, Tensor input, Tensor output, int warm, int pairs)
      throws Exception {
    InferRequest request = InferRequest.of(input);
    EncodedMessage message = Writer.write(request);
    EncodedMessage answer = Writer.write(new InferResponse(List.of(output), List.of()));
    ByteBuffer into = ByteBuffer.allocateDirect(answer.bytes() + 64);
    try (RawServer server = new RawServer(answer.toByteBuffer(), message.bytes());
        RawClient raw = new RawClient(server.port(), message.toByteBuffer(), answer.bytes())) {
      Client client = Client.of("http://127.0.0.1:" + server.port());
      double[] rawMs = new double[pairs];
      double[] inferMs = new double[pairs];
      double[] intoMs = new double[pairs];
      for (int i = -warm; i < pairs; i++) {
        int at = Math.max(i, 0);
        if (i % 2 == 0) {
          rawMs[at] = ms(raw::call);
        }
        inferMs[at] = ms(() -> client.infer(request));
        intoMs[at] = ms(() -> client.inferInto(request, into));
        if (i % 2 != 0) {
          rawMs[at] = ms(raw::call);
        }
      }
      System.out.printf(
          Locale.ROOT,
          "%s: raw %.3f ms; infer %.3f ms, ratio %.2f; inferInto %.3f ms, ratio %.2f%n",
          name,
          median(rawMs),
          median(inferMs),
          medianRatio(inferMs, rawMs),
          median(intoMs),
          medianRatio(intoMs, rawMs));
    }
  }

  private static double ms(Call call) throws Exception {
    long start = System.nanoTime();
    call.run();
    return (System.nanoTime() - start) / 1e6;
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
