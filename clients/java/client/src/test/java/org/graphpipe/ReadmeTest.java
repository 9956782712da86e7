package org.graphpipe;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.JavaCompiler;
import javax.tools.ToolProvider;
import org.graphpipe.FakeServer.Answer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The README's Java compiles and runs as it stands. */
class ReadmeTest {
  @Test
  void theReadmesExamplesRun(@TempDir Path folder) throws Exception {
    String readme = Files.readString(Path.of("..", "README.md"));
    Matcher blocks = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL).matcher(readme);
    List<String> snippets = blocks.results().map(block -> block.group(1)).toList();
    assertEquals(2, snippets.size());
    assertEquals(10, snippets.get(0).lines().count(), "ten lines are promised");
    try (FakeServer server =
        new FakeServer(
            asked -> Answer.of(Tensor.of(new long[] {7}, 1), Tensor.of(new float[10], 1, 10)))) {
      String source =
          """
          import java.io.IOException;
          import java.net.http.HttpTimeoutException;
          import java.util.List;
          import org.graphpipe.*;

          public class Readme {
            public static void main(String[] args) throws Exception {
          """
              + String.join("\n", snippets).replace("http://127.0.0.1:9000", server.url())
              + "}}";
      assertEquals("label 7", run(folder, source).strip());
    }
  }

  private static String run(Path folder, String source) throws Exception {
    Path file = Files.writeString(folder.resolve("Readme.java"), source);
    JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
    ByteArrayOutputStream complaints = new ByteArrayOutputStream();
    int status =
        compiler.run(
            null,
            complaints,
            complaints,
            "-Xlint:all",
            "-Werror",
            "-cp",
            "target/classes",
            "-d",
            folder.toString(),
            file.toString());
    assertEquals(0, status, complaints.toString(StandardCharsets.UTF_8));
    PrintStream out = System.out;
    ByteArrayOutputStream said = new ByteArrayOutputStream();
    URL[] path = {folder.toUri().toURL()};
    try (URLClassLoader loader = new URLClassLoader(path, Client.class.getClassLoader())) {
      System.setOut(new PrintStream(said, true, StandardCharsets.UTF_8));
      Class<?> readme = loader.loadClass("Readme");
      readme.getMethod("main", String[].class).invoke(null, (Object) new String[0]);
    } finally {
      System.setOut(out);
    }
    return said.toString(StandardCharsets.UTF_8);
  }
}
