package org.graphpipe.examples;

import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.util.List;
import java.util.Locale;
import java.util.Scanner;
import org.graphpipe.Client;
import org.graphpipe.GraphPipeException;
import org.graphpipe.InferRequest;
import org.graphpipe.Tensor;

/** Asks the demo server which digit the bundled image shows. */
public final class ClassifyDigit {
  private static final int PIXELS = 8 * 8;

  private ClassifyDigit() {}

  /**
   * Runs the example; ends the JVM with status 1 where there is no answer.
   *
   * @param args the server's URL; {@code http://127.0.0.1:9000} if there is none
   * @throws InterruptedException if the thread is interrupted
   */
  public static void main(String[] args) throws InterruptedException {
    String url = args.length > 0 ? args[0] : "http://127.0.0.1:9000";
    try {
      run(url, System.out);
    } catch (GraphPipeException e) {
      System.err.println("the server said no: " + e.getMessage() + " (code " + e.code() + ")");
      System.exit(1);
    } catch (IOException e) {
      System.err.println("no answer from " + url + ": " + e);
      System.exit(1);
    }
  }

  static void run(String url, PrintStream out) throws IOException, InterruptedException {
    float[] pixels = pixels();
    Client client = Client.of(url);
    List<Tensor> outputs =
        client.infer(
            InferRequest.builder()
                .input(Tensor.of(pixels, 1, PIXELS))
                .output("label")
                .output("probabilities")
                .build());
    int label = (int) outputs.get(0).asLongBuffer().get(0);
    float probability = outputs.get(1).asFloatBuffer().get(label);
    for (int i = 0; i < PIXELS; i++) {
      out.print(" .:oO#".charAt((int) (pixels[i] * 5 / 16)));
      out.print(i % 8 == 7 ? "\n" : "");
    }
    out.printf(Locale.ROOT, "a %d, with a probability of %.2f%n", label, probability);
  }

  /** The bundled image: 8 x 8 pixels, row by row, from 0 (paper) to 16 (ink). */
  private static float[] pixels() throws IOException {
    try (InputStream image = ClassifyDigit.class.getResourceAsStream("digit.txt");
        Scanner numbers = new Scanner(image, "US-ASCII")) {
      float[] pixels = new float[PIXELS];
      for (int i = 0; i < PIXELS; i++) {
        pixels[i] = numbers.nextInt();
      }
      return pixels;
    }
  }
}
