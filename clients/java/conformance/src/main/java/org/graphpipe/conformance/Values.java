package org.graphpipe.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.function.Function;
import org.graphpipe.InferRequest;
import org.graphpipe.InferResponse;
import org.graphpipe.Metadata;
import org.graphpipe.Tensor;
import org.graphpipe.TensorSpec;
import org.graphpipe.Type;

/** The values of cases: messages as JSON, and back. Bytes are base64, 64-bit numbers strings. */
final class Values {
  private Values() {}

  static JsonObject ofRequest(Optional<InferRequest> request) {
    JsonObject value = new JsonObject();
    if (request.isEmpty()) {
      value.addProperty("type", "metadata");
      return value;
    }
    value.addProperty("type", "infer");
    value.addProperty("config", request.get().config());
    value.add("input_names", texts(request.get().inputNames()));
    value.add("inputs", array(request.get().inputs(), Values::ofTensor));
    value.add("output_names", texts(request.get().outputNames()));
    return value;
  }

  static JsonObject ofInferResponse(InferResponse response) {
    JsonObject value = new JsonObject();
    value.add("outputs", array(response.outputs(), Values::ofTensor));
    value.add(
        "errors",
        array(
            response.errors(),
            failure -> {
              JsonObject error = new JsonObject();
              error.addProperty("code", String.valueOf(failure.code()));
              error.addProperty("message", failure.message());
              return error;
            }));
    return value;
  }

  static JsonObject ofMetadata(Metadata metadata) {
    JsonObject value = new JsonObject();
    value.addProperty("name", metadata.name());
    value.addProperty("version", metadata.version());
    value.addProperty("server", metadata.server());
    value.addProperty("description", metadata.description());
    value.add("inputs", array(metadata.inputs(), Values::ofSpec));
    value.add("outputs", array(metadata.outputs(), Values::ofSpec));
    return value;
  }

  static Optional<InferRequest> toRequest(JsonObject value) {
    String type = value.get("type").getAsString();
    if (type.equals("metadata")) {
      return Optional.empty();
    }
    if (!type.equals("infer")) {
      throw new IllegalStateException("unknown type of request " + type);
    }
    return Optional.of(
        InferRequest.builder()
            .config(value.has("config") ? value.get("config").getAsString() : "")
            .inputNames(list(value, "input_names", JsonElement::getAsString))
            .inputs(list(value, "inputs", Values::toTensor))
            .outputs(list(value, "output_names", JsonElement::getAsString))
            .build());
  }

  static InferResponse toInferResponse(JsonObject value) {
    return new InferResponse(
        list(value, "outputs", Values::toTensor),
        list(
            value,
            "errors",
            error ->
                new InferResponse.Failure(
                    toLong(error.getAsJsonObject().get("code")),
                    error.getAsJsonObject().get("message").getAsString())));
  }

  static Metadata toMetadata(JsonObject value) {
    return new Metadata(
        value.get("name").getAsString(),
        value.get("version").getAsString(),
        value.get("server").getAsString(),
        value.get("description").getAsString(),
        list(value, "inputs", Values::toSpec),
        list(value, "outputs", Values::toSpec));
  }

  private static JsonObject ofSpec(TensorSpec spec) {
    JsonObject value = new JsonObject();
    value.addProperty("name", spec.name());
    value.addProperty("description", spec.description());
    value.add("shape", longs(spec.shape()));
    value.addProperty("type", spec.type().toString());
    if (spec.typeNumber() != 0) {
      value.addProperty("type_number", spec.typeNumber());
    }
    return value;
  }

  private static TensorSpec toSpec(JsonElement element) {
    JsonObject value = element.getAsJsonObject();
    return new TensorSpec(
        value.get("name").getAsString(),
        value.get("description").getAsString(),
        shape(value),
        type(value));
  }

  private static JsonObject ofTensor(Tensor tensor) {
    JsonObject value = new JsonObject();
    value.addProperty("type", tensor.type().toString());
    value.add("shape", longs(tensor.shape()));
    if (tensor.type() == Type.STRING) {
      value.add(
          "strings",
          texts(tensor.strings().stream().map(Base64.getEncoder()::encodeToString).toList()));
    } else {
      byte[] data = new byte[tensor.data().remaining()];
      tensor.data().get(data);
      value.addProperty("data", Base64.getEncoder().encodeToString(data));
    }
    return value;
  }

  private static Tensor toTensor(JsonElement element) {
    JsonObject value = element.getAsJsonObject();
    byte[] data =
        value.has("data")
            ? Base64.getDecoder().decode(value.get("data").getAsString())
            : new byte[0];
    List<byte[]> strings =
        list(value, "strings", text -> Base64.getDecoder().decode(text.getAsString()));
    Type type = type(value);
    if (type == Type.STRING ? data.length > 0 : !strings.isEmpty()) {
      throw new IllegalArgumentException("a tensor of " + type + " with what is another's");
    }
    return type == Type.STRING
        ? Tensor.ofStrings(strings.toArray(new byte[0][]), shape(value))
        : Tensor.wrap(type, ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN), shape(value));
  }

  private static Type type(JsonObject value) {
    return Type.valueOf(value.get("type").getAsString().toUpperCase(Locale.ROOT));
  }

  private static long[] shape(JsonObject value) {
    return list(value, "shape", Values::toLong).stream().mapToLong(Long::longValue).toArray();
  }

  /** All 64 bits: never through a double. */
  private static long toLong(JsonElement number) {
    try {
      return number.getAsBigDecimal().longValueExact();
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException(number + " is no 64-bit integer", e);
    }
  }

  private static <T> List<T> list(JsonObject value, String key, Function<JsonElement, T> read) {
    List<T> list = new ArrayList<>();
    if (value.has(key)) {
      value.getAsJsonArray(key).forEach(element -> list.add(read.apply(element)));
    }
    return list;
  }

  private static <T> JsonArray array(List<T> values, Function<T, JsonObject> write) {
    JsonArray array = new JsonArray();
    values.forEach(value -> array.add(write.apply(value)));
    return array;
  }

  private static JsonArray texts(List<String> texts) {
    JsonArray array = new JsonArray();
    texts.forEach(array::add);
    return array;
  }

  private static JsonArray longs(long[] values) {
    JsonArray array = new JsonArray();
    for (long value : values) {
      array.add(String.valueOf(value));
    }
    return array;
  }
}
