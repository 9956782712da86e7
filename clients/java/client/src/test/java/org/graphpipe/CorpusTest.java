package org.graphpipe;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

/** What fuzzers found, and what they start from, in every language: tests/fuzz/corpus. */
class CorpusTest {
  @Test
  void noMessageOfTheCorpusIsReadInTwoWays() throws IOException {
    replay("decoder", DecoderFuzz::fuzzerTestOneInput);
  }

  @Test
  void noAnswerOfTheCorpusIsReadInTwoWays() throws IOException {
    replay("answer", AnswerFuzz::fuzzerTestOneInput);
  }

  private static void replay(String target, Consumer<byte[]> check) throws IOException {
    Path file = Path.of("../../../tests/fuzz/corpus", target + ".json");
    assumeTrue(Files.exists(file), "no corpus here");
    JsonObject kept = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
    int inputs = 0;
    for (String part : new String[] {"findings", "corpus"}) {
      for (JsonElement input : kept.getAsJsonArray(part)) {
        try {
          check.accept(Base64.getDecoder().decode(input.getAsString()));
        } catch (RuntimeException | AssertionError e) {
          throw new AssertionError("the input " + input, e);
        }
        inputs++;
      }
    }
    assertTrue(inputs > 10, "only " + inputs + " inputs");
  }
}
