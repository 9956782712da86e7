package org.graphpipe;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;

/**
 * One question to a model: the inputs, the outputs wanted, and the model's own configuration.
 *
 * <p>Instances are immutable and may be shared between threads and used again, as long as nobody
 * writes to the tensors.
 */
public final class InferRequest {
  private final String config;
  private final List<String> inputNames;
  private final List<Tensor> inputs;
  private final List<String> outputNames;
  private final Duration timeout;
  private final Map<String, String> headers;

  private InferRequest(Builder builder) {
    this.config = builder.config;
    this.inputNames = List.copyOf(builder.inputNames);
    this.inputs = List.copyOf(builder.inputs);
    this.outputNames = List.copyOf(builder.outputNames);
    this.timeout = builder.timeout;
    this.headers = builder.headers.copy();
  }

  /**
   * A request for the model's default inputs and outputs.
   *
   * @param inputs the tensors for the server's default inputs, in order
   * @return the request
   */
  public static InferRequest of(Tensor... inputs) {
    return builder().inputs(List.of(inputs)).build();
  }

  /**
   * Starts a request.
   *
   * @return a builder without inputs and without output names
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * The text for the model itself.
   *
   * @return empty where there is none
   */
  public String config() {
    return config;
  }

  /**
   * The names of the inputs, by place. An empty or missing one means the server's default input
   * there.
   *
   * @return maybe fewer or more names than inputs
   */
  public List<String> inputNames() {
    return inputNames;
  }

  /**
   * The inputs.
   *
   * @return the tensors, in the order they travel in
   */
  public List<Tensor> inputs() {
    return inputs;
  }

  /**
   * The outputs wanted, in order. An empty name means the default output at that place.
   *
   * @return empty for all default outputs
   */
  public List<String> outputNames() {
    return outputNames;
  }

  /**
   * How long this request may take; it does not travel in the message.
   *
   * @return empty for the client's own timeout
   */
  public Optional<Duration> timeout() {
    return Optional.ofNullable(timeout);
  }

  /**
   * The headers of this request alone; they do not travel in the message.
   *
   * @return values by name; it cannot be changed
   */
  public Map<String, String> headers() {
    return headers;
  }

  /** Collects a request. Not for use by several threads at once. */
  public static final class Builder {
    private String config = "";
    private final List<String> inputNames = new ArrayList<>();
    private final List<Tensor> inputs = new ArrayList<>();
    private final List<String> outputNames = new ArrayList<>();
    private Duration timeout;
    private final Headers headers = new Headers();

    private Builder() {}

    /**
     * Adds an input by name.
     *
     * @param name the model's name for it
     * @param tensor the input
     * @return this
     */
    public Builder input(String name, Tensor tensor) {
      Objects.requireNonNull(name, "name");
      Objects.requireNonNull(tensor, "tensor");
      while (inputNames.size() < inputs.size()) {
        inputNames.add("");
      }
      inputNames.add(name);
      inputs.add(tensor);
      return this;
    }

    /**
     * Adds an input for the server's default input at that place.
     *
     * @param tensor the input
     * @return this
     */
    public Builder input(Tensor tensor) {
      inputs.add(Objects.requireNonNull(tensor, "tensor"));
      return this;
    }

    /**
     * Adds inputs for the server's default inputs at their places.
     *
     * @param tensors the inputs
     * @return this
     */
    public Builder inputs(List<Tensor> tensors) {
      tensors.forEach(this::input);
      return this;
    }

    /**
     * Sets the names of the inputs by place, replacing those given before. There may be fewer or
     * more of them than inputs.
     *
     * @param names the names; an empty one means the server's default input there
     * @return this
     */
    public Builder inputNames(List<String> names) {
      List<String> copy = List.copyOf(names);
      inputNames.clear();
      inputNames.addAll(copy);
      return this;
    }

    /**
     * Asks for an output. Without any, the answer holds all default outputs.
     *
     * @param name the model's name for it; empty means the default output at that place
     * @return this
     */
    public Builder output(String name) {
      outputNames.add(Objects.requireNonNull(name, "name"));
      return this;
    }

    /**
     * Asks for outputs, in this order; repeats are allowed.
     *
     * @param names the model's names for them
     * @return this
     */
    public Builder outputs(List<String> names) {
      names.forEach(this::output);
      return this;
    }

    /**
     * Sets the text for the model itself; the server does not look into it.
     *
     * @param text any text
     * @return this
     */
    public Builder config(String text) {
      config = Objects.requireNonNull(text, "text");
      return this;
    }

    /**
     * Sets how long this request may take, instead of the client's timeout.
     *
     * @param duration more than zero
     * @return this
     * @throws IllegalArgumentException if the duration is not positive
     */
    public Builder timeout(Duration duration) {
      timeout = Client.requirePositive(duration);
      return this;
    }

    /**
     * Adds a header to this request, such as {@code traceparent}, in place of the client's of the
     * same name.
     *
     * @param name the header's name; one given twice has its last value
     * @param value the header's value
     * @return this
     * @throws IllegalArgumentException if this is no header, or one that frames the message
     */
    public Builder header(String name, String value) {
      headers.set(name, Objects.requireNonNull(value, "value"));
      return this;
    }

    /**
     * Finishes the request; the builder may be used on.
     *
     * @return the request
     */
    public InferRequest build() {
      return new InferRequest(this);
    }
  }
}
