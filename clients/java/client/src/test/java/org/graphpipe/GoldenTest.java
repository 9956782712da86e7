package org.graphpipe;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/**
 * Reads what the original GraphPipe programs wrote in their day. The captured bytes are not part of
 * the repository: they lie in {@code $GRAPHPIPE_GOLDEN}, or in {@code shared/golden} beside it.
 */
class GoldenTest {
  @Test
  void everyMessageOfTheOriginalsIsRead() throws IOException {
    Optional<Path> folder = folder();
    assumeTrue(folder.isPresent(), "no golden samples here");
    int read = 0;
    try (Stream<Path> files = Files.list(folder.get())) {
      for (Path json : files.filter(file -> file.toString().endsWith(".json")).sorted().toList()) {
        JsonObject sample = JsonParser.parseString(Files.readString(json)).getAsJsonObject();
        ByteBuffer bytes = bytes(json);
        assertEquals(sample.get("bytes").getAsInt(), bytes.remaining(), json.toString());
        if (check(json, sample, bytes)) {
          read++;
        }
      }
    }
    assertTrue(read > 40, "only " + read + " samples were compared");
  }

  /** Every binary message there is; none where the folder is absent. */
  static List<byte[]> messages() {
    List<byte[]> messages = new ArrayList<>();
    folder()
        .ifPresent(
            folder -> {
              try (Stream<Path> files = Files.list(folder)) {
                for (Path file :
                    files.filter(f -> f.toString().endsWith(".bin")).sorted().toList()) {
                  messages.add(Files.readAllBytes(file));
                }
              } catch (IOException e) {
                throw new UncheckedIOException(e);
              }
            });
    return messages;
  }

  static Optional<Path> folder() {
    String given = System.getenv("GRAPHPIPE_GOLDEN");
    if (given != null) {
      return Optional.of(Path.of(given)).filter(Files::isDirectory);
    }
    for (Path up = Path.of("").toAbsolutePath(); up != null; up = up.getParent()) {
      if (Files.exists(up.resolve("schema/graphpipe.fbs"))) {
        return Optional.ofNullable(up.getParent())
            .map(beside -> beside.resolve("shared/golden"))
            .filter(Files::isDirectory);
      }
    }
    return Optional.empty();
  }

  static ByteBuffer bytes(Path json) throws IOException {
    String name = json.getFileName().toString().replace(".json", ".bin");
    return ByteBuffer.wrap(Files.readAllBytes(json.resolveSibling(name)));
  }

  private static boolean check(Path json, JsonObject sample, ByteBuffer bytes) throws IOException {
    String name = json.getFileName().toString();
    JsonObject content = sample.getAsJsonObject("content");
    switch (sample.get("kind").getAsString()) {
      case "request" -> {
        Optional<InferRequest> request = Reader.readRequest(bytes);
        assertEquals(content.get("req_type").getAsInt() == 1, request.isPresent(), name);
        if (request.isPresent()) {
          assertEquals(text(content, "config"), request.get().config(), name);
          assertEquals(texts(content, "input_names"), request.get().inputNames(), name);
          assertEquals(texts(content, "output_names"), request.get().outputNames(), name);
          assertTensors(name, content, "input_tensors", request.get().inputs());
        }
      }
      case "infer_response" -> {
        InferResponse response = Reader.readInferResponse(bytes);
        assertTensors(name, content, "output_tensors", response.outputs());
        assertEquals(content.getAsJsonArray("errors").size(), response.errors().size(), name);
      }
      case "metadata_response" -> {
        Metadata metadata = Reader.readMetadata(bytes);
        assertEquals(text(content, "name"), metadata.name(), name);
        assertEquals(text(content, "version"), metadata.version(), name);
        assertEquals(text(content, "server"), metadata.server(), name);
        assertEquals(text(content, "description"), metadata.description(), name);
        assertSpecs(name, content, "inputs", metadata.inputs());
        assertSpecs(name, content, "outputs", metadata.outputs());
      }
      default -> {
        return false; // not a message: an answer for people
      }
    }
    return true;
  }

  private static void assertTensors(
      String name, JsonObject content, String key, List<Tensor> tensors) {
    assertEquals(content.getAsJsonArray(key).size(), tensors.size(), name);
    for (int i = 0; i < tensors.size(); i++) {
      JsonObject expected = content.getAsJsonArray(key).get(i).getAsJsonObject();
      Tensor tensor = tensors.get(i);
      assertEquals(expected.get("type").getAsString(), tensor.type().toString(), name);
      assertArrayEquals(shape(expected), tensor.shape(), name);
      if (tensor.type() == Type.STRING) {
        List<String> strings =
            tensor.strings().stream().map(Base64.getEncoder()::encodeToString).toList();
        assertEquals(texts(expected, "strings_base64"), strings, name);
      } else {
        byte[] data = new byte[tensor.data().remaining()];
        tensor.data().get(data);
        assertEquals(text(expected, "data_hex"), HexFormat.of().formatHex(data), name);
      }
    }
  }

  private static void assertSpecs(
      String name, JsonObject content, String key, List<TensorSpec> specs) {
    assertEquals(content.getAsJsonArray(key).size(), specs.size(), name);
    for (int i = 0; i < specs.size(); i++) {
      JsonObject expected = content.getAsJsonArray(key).get(i).getAsJsonObject();
      assertEquals(text(expected, "name"), specs.get(i).name(), name);
      assertEquals(text(expected, "description"), specs.get(i).description(), name);
      assertArrayEquals(shape(expected), specs.get(i).shape(), name);
      assertEquals(text(expected, "type"), specs.get(i).type().toString(), name);
    }
  }

  private static long[] shape(JsonObject object) {
    return object.getAsJsonArray("shape").asList().stream()
        .mapToLong(JsonElement::getAsLong)
        .toArray();
  }

  private static String text(JsonObject object, String key) {
    return object.has(key) ? object.get(key).getAsString() : "";
  }

  private static List<String> texts(JsonObject object, String key) {
    return object.has(key)
        ? object.getAsJsonArray(key).asList().stream().map(JsonElement::getAsString).toList()
        : List.of();
  }
}
