import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import org.graphpipe.Client;
import org.graphpipe.GraphPipeException;
import org.graphpipe.InferRequest;
import org.graphpipe.Tensor;

/** Says how probable it is that a text is true of a picture. The server gets the text and the file as they are. */
public final class Ask {
  private Ask() {}

  public static void main(String[] args) throws Exception {
    if (args.length != 3) {
      System.err.println("usage: Ask URL TEXT FILE");
      System.exit(2);
    }
    try (Client client = Client.of(args[0])) {
      InferRequest request =
          InferRequest.builder()
              .input("text", Tensor.ofStrings(new String[] {args[1]}))
              .input("image", Tensor.ofStrings(new byte[][] {Files.readAllBytes(Path.of(args[2]))}))
              .output("probability")
              .build();
      System.out.printf(Locale.ROOT, "%.6f%n", client.infer(request).get(0).toFloats()[0]);
    } catch (GraphPipeException e) {
      System.err.println("the server said no: " + e.getMessage());
      System.exit(1);
    }
  }
}
