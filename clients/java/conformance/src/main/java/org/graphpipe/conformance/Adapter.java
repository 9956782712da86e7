package org.graphpipe.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.Reader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.graphpipe.Client;
import org.graphpipe.EncodedMessage;
import org.graphpipe.GraphPipeException;
import org.graphpipe.InferRequest;
import org.graphpipe.InferResponse;
import org.graphpipe.MalformedMessageException;
import org.graphpipe.Tensor;
import org.graphpipe.UnsupportedMessageException;
import org.graphpipe.Writer;

/**
 * Answers conformance cases with this client: one JSON object a line from standard input, one a
 * line to standard output. Every language has such an adapter, and all speak the same lines.
 */
public final class Adapter {
  private Adapter() {}

  /**
   * Answers every case of standard input. A line that is no case ends it with status 1.
   *
   * @param args none
   * @throws IOException if the input cannot be read
   */
  public static void main(String[] args) throws IOException {
    try {
      run(
          new InputStreamReader(System.in, StandardCharsets.UTF_8),
          new PrintStream(System.out, false, StandardCharsets.UTF_8));
    } catch (IllegalStateException e) {
      System.err.println("conformance: " + e.getMessage());
      System.exit(1);
    }
  }

  static void run(Reader in, PrintStream out) throws IOException {
    BufferedReader lines = new BufferedReader(in);
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      if (!line.isBlank()) {
        out.print(answer(line) + "\n");
        out.flush();
      }
    }
  }

  private static JsonObject answer(String line) {
    try {
      JsonObject asked = JsonParser.parseString(line).getAsJsonObject();
      JsonObject result = new JsonObject();
      result.add("id", asked.get("id"));
      switch (asked.get("op").getAsString()) {
        case "decode" -> decode(asked, result);
        case "encode" -> encode(asked, result);
        case "call" -> call(asked, result);
        case "calls" -> calls(asked, result);
        case "metadata" -> metadata(asked, result);
        case "loops" -> loops(asked, result);
        default -> throw new IllegalStateException("unknown op");
      }
      return result;
    } catch (RuntimeException e) {
      throw new IllegalStateException("not a case: " + e + ", in: " + line, e);
    }
  }

  private static void decode(JsonObject asked, JsonObject result) {
    ByteBuffer bytes =
        ByteBuffer.wrap(Base64.getDecoder().decode(asked.get("bytes").getAsString()));
    try {
      JsonObject value =
          switch (asked.get("message").getAsString()) {
            case "request" -> Values.ofRequest(org.graphpipe.Reader.readRequest(bytes));
            case "infer_response" ->
                Values.ofInferResponse(org.graphpipe.Reader.readInferResponse(bytes));
            case "metadata_response" -> Values.ofMetadata(org.graphpipe.Reader.readMetadata(bytes));
            default -> throw new IllegalStateException("unknown message");
          };
      good(result, value);
    } catch (MalformedMessageException e) {
      result.addProperty("ok", false);
      result.addProperty("error", "malformed");
    } catch (UnsupportedMessageException e) {
      result.addProperty("ok", false);
      result.addProperty("error", "unsupported");
    }
  }

  private static void encode(JsonObject asked, JsonObject result) {
    JsonObject value = asked.getAsJsonObject("value");
    String kind = asked.get("message").getAsString();
    try {
      EncodedMessage message =
          switch (kind) {
            case "request" ->
                Values.toRequest(value).map(Writer::write).orElseGet(Writer::metadataRequest);
            case "infer_response" -> Writer.write(Values.toInferResponse(value));
            case "metadata_response" -> Writer.write(Values.toMetadata(value));
            default -> throw new IllegalStateException("unknown message " + kind);
          };
      result.addProperty("ok", true);
      result.addProperty(
          "bytes", Base64.getEncoder().encodeToString(message.toByteBuffer().array()));
    } catch (IllegalArgumentException e) {
      bad(result, "invalid", e.getMessage());
    }
  }

  private static void call(JsonObject asked, JsonObject result) {
    answerOf(
        result,
        () -> {
          InferRequest request = Values.toRequest(asked.getAsJsonObject("value")).orElseThrow();
          try (Client client = client(asked)) {
            return Values.ofInferResponse(new InferResponse(client.infer(request), List.of()));
          }
        });
  }

  /** One call after another through one client. */
  private static void calls(JsonObject asked, JsonObject result) {
    JsonArray results = new JsonArray();
    try (Client client = client(asked)) {
      for (JsonElement value : asked.getAsJsonArray("values")) {
        InferRequest request = Values.toRequest(value.getAsJsonObject()).orElseThrow();
        JsonObject one = new JsonObject();
        answerOf(
            one, () -> Values.ofInferResponse(new InferResponse(client.infer(request), List.of())));
        results.add(one);
      }
    }
    result.addProperty("ok", true);
    result.add("results", results);
  }

  private static Client client(JsonObject asked) {
    Client.Builder client = Client.builder(asked.get("url").getAsString());
    long timeoutMs = asked.has("timeout_ms") ? asked.get("timeout_ms").getAsLong() : 0;
    if (timeoutMs > 0) {
      client.timeout(Duration.ofMillis(timeoutMs));
    }
    return client.build();
  }

  private static void metadata(JsonObject asked, JsonObject result) {
    answerOf(
        result,
        () -> {
          try (Client client = Client.of(asked.get("url").getAsString())) {
            return Values.ofMetadata(client.metadata());
          }
        });
  }

  /** Loops of equal calls, all at once and through one client: one loop for each value. */
  private static void loops(JsonObject asked, JsonObject result) {
    Client client = Client.of(asked.get("url").getAsString());
    int calls = asked.get("calls").getAsInt();
    ExecutorService threads = Executors.newCachedThreadPool();
    try {
      List<Future<JsonObject>> running = new ArrayList<>();
      for (JsonElement value : asked.getAsJsonArray("values")) {
        InferRequest request = Values.toRequest(value.getAsJsonObject()).orElseThrow();
        running.add(threads.submit(() -> loop(client, request, calls)));
      }
      JsonArray values = new JsonArray();
      for (Future<JsonObject> loop : running) {
        values.add(loop.get());
      }
      result.addProperty("ok", true);
      result.add("values", values);
    } catch (ExecutionException e) {
      if (e.getCause() instanceof GraphPipeException refusal) {
        refused(result, refusal);
      } else {
        bad(result, "no_answer", String.valueOf(e.getCause()));
      }
    } catch (InterruptedException e) {
      throw new IllegalStateException("interrupted", e);
    } finally {
      threads.shutdown();
      client.close();
    }
  }

  private static JsonObject loop(Client client, InferRequest request, int calls)
      throws IOException, InterruptedException {
    List<Tensor> first = client.infer(request);
    for (int i = 1; i < calls; i++) {
      if (!client.infer(request).equals(first)) {
        throw new IOException("call " + i + " was answered differently");
      }
    }
    return Values.ofInferResponse(new InferResponse(first, List.of()));
  }

  /** A call to a server. */
  @FunctionalInterface
  private interface Call {
    JsonObject value() throws IOException, InterruptedException;
  }

  private static void answerOf(JsonObject result, Call call) {
    try {
      good(result, call.value());
    } catch (GraphPipeException e) {
      refused(result, e);
    } catch (IOException | IllegalArgumentException e) {
      bad(result, "no_answer", e.toString());
    } catch (InterruptedException e) {
      throw new IllegalStateException("interrupted", e);
    }
  }

  private static void good(JsonObject result, JsonObject value) {
    result.addProperty("ok", true);
    result.add("value", value);
  }

  private static void refused(JsonObject result, GraphPipeException e) {
    bad(result, "server", e.getMessage());
    result.addProperty("code", String.valueOf(e.code()));
    result.addProperty("status", e.status());
  }

  private static void bad(JsonObject result, String error, String message) {
    result.addProperty("ok", false);
    result.addProperty("error", error);
    result.addProperty("message", message);
  }
}
