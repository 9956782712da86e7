import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.time.Duration;
import org.graphpipe.Client;
import org.graphpipe.GraphPipeException;
import org.graphpipe.Tensor;

/**
 * The Java client in benchmarks/attacks.py: it calls the servers that it is told on its standard
 * input, one after another ("infer URL", or "metadata URL"), and says in a line what came of each.
 */
public final class Calls {
  public static void main(String[] arguments) throws IOException, InterruptedException {
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String[] words = line.split(" ");
      System.out.println(call(words[0], words[1]));
    }
  }

  private static String call(String what, String url) throws InterruptedException {
    Client.Builder builder =
        Client.builder(url).timeout(Duration.ofSeconds(5)).answerBytesMax(64 << 20);
    try (Client client = builder.build()) {
      if (what.equals("metadata")) {
        client.metadata();
      } else {
        client.execute(Tensor.of(new float[6], 2, 3));
      }
      return "answered";
    } catch (GraphPipeException error) {
      return "refused: an error of the server";
    } catch (IOException error) {
      return "refused: " + error.getClass().getSimpleName();
    }
  }

  private Calls() {}
}
