package org.graphpipe;

import java.util.List;
import java.util.Objects;

/**
 * A server's answer to an {@link InferRequest}, as it travels. {@link Client} takes it apart; it is
 * public for those who write servers, proxies and tests.
 *
 * @param outputs the outputs, in the order they were asked for
 * @param errors why there is no answer; empty where there is one
 */
public record InferResponse(List<Tensor> outputs, List<Failure> errors) {
  /**
   * Keeps copies of the lists.
   *
   * @param outputs the outputs, in the order they were asked for
   * @param errors why there is no answer; empty where there is one
   */
  public InferResponse {
    outputs = List.copyOf(outputs);
    errors = List.copyOf(errors);
  }

  /**
   * One reason why there is no answer.
   *
   * @param code a number of {@link GraphPipeException}'s, or 0 from a server that has none
   * @param message text for people
   */
  public record Failure(long code, String message) {
    /**
     * Refuses null.
     *
     * @param code a number of {@link GraphPipeException}'s, or 0
     * @param message text for people
     */
    public Failure {
      Objects.requireNonNull(message, "message");
    }
  }
}
