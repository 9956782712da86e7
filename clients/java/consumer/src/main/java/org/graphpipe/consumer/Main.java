package org.graphpipe.consumer;

import java.net.ConnectException;
import org.graphpipe.Client;
import org.graphpipe.GraphPipeException;
import org.graphpipe.Tensor;

/** Makes a call that nobody answers, by each way that a module image must have all parts for. */
public final class Main {
  private Main() {}

  public static void main(String[] args) throws Exception {
    for (String url : new String[] {"http://127.0.0.1:1", "https://127.0.0.1:1", "unix:/none.sock"}) {
      try (Client client = Client.of(url)) {
        client.execute(Tensor.of(new float[] {1, 2}));
        throw new IllegalStateException("somebody listens at " + url);
      } catch (ConnectException e) {
        System.out.println(GraphPipeException.safeToRetry(e) + " " + e.getMessage());
      }
    }
    System.out.println("module " + Client.class.getModule().getName());
  }
}
