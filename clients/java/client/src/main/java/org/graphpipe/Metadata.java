package org.graphpipe;

import java.util.List;
import java.util.Objects;

/**
 * What a model takes and gives.
 *
 * @param name the model's name
 * @param version whatever the server calls the model's version, maybe empty
 * @param server the server program and its version, maybe empty
 * @param description text for people, maybe empty
 * @param inputs the default inputs, in order
 * @param outputs the default outputs, in order
 */
public record Metadata(
    String name,
    String version,
    String server,
    String description,
    List<TensorSpec> inputs,
    List<TensorSpec> outputs) {
  /**
   * Keeps copies of the lists.
   *
   * @param name the model's name
   * @param version the model's version
   * @param server the server program
   * @param description text for people
   * @param inputs the default inputs, in order
   * @param outputs the default outputs, in order
   */
  public Metadata {
    Objects.requireNonNull(name, "name");
    Objects.requireNonNull(version, "version");
    Objects.requireNonNull(server, "server");
    Objects.requireNonNull(description, "description");
    inputs = List.copyOf(inputs);
    outputs = List.copyOf(outputs);
  }
}
