import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import org.graphpipe.Client;
import org.graphpipe.InferRequest;
import org.graphpipe.Tensor;

/** Asks a server of this example whether a text is true of pictures: a URL, the text, and files. */
public final class Ask {
  private Ask() {}

  /** Prints one line for each file: the probability that the text is true of it. */
  public static void main(String[] args) throws IOException, InterruptedException {
    if (args.length < 3) {
      System.err.println("expected a URL, a text and files");
      System.exit(2);
    }
    String[] files = Arrays.copyOfRange(args, 2, args.length);
    String[] texts = new String[files.length];
    byte[][] images = new byte[files.length][];
    for (int i = 0; i < files.length; i++) {
      texts[i] = args[1];
      images[i] = Files.readAllBytes(Path.of(files[i]));
    }
    try (Client client = Client.of(args[0])) {
      InferRequest request =
          InferRequest.builder()
              .input("text", Tensor.ofStrings(texts, files.length))
              .input("image", Tensor.ofStrings(images, files.length))
              .output("probability")
              .build();
      FloatBuffer probabilities = client.infer(request).get(0).asFloatBuffer();
      for (int i = 0; i < files.length; i++) {
        System.out.printf(Locale.ROOT, "%.7f %s%n", probabilities.get(i), files[i]);
      }
    }
  }
}
