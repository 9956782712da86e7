package org.graphpipe.benchmarks;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.graphpipe.EncodedMessage;
import org.graphpipe.InferRequest;
import org.graphpipe.InferResponse;
import org.graphpipe.MalformedMessageException;
import org.graphpipe.Reader;
import org.graphpipe.Tensor;
import org.graphpipe.Type;
import org.graphpipe.Writer;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/** What a message costs before it is sent and after it has come. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Fork(1)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
public class CodecBenchmark {
  /** What is in the message. */
  @Param({"1 KB", "77 MB", "1000 strings"})
  public String content;

  private InferRequest request;
  private ByteBuffer response;

  /** Makes the message. */
  @Setup
  public void setUp() {
    Tensor tensor =
        switch (content) {
          case "1 KB" -> Tensor.allocate(Type.FLOAT32, 1, 256);
          case "77 MB" -> Tensor.allocate(Type.FLOAT32, 128, 224, 224, 3);
          default -> {
            String[] strings = new String[1000];
            Arrays.fill(strings, "a string of some length");
            yield Tensor.ofStrings(strings, strings.length);
          }
        };
    request = InferRequest.builder().input("x", tensor).output("y").build();
    response = Writer.write(new InferResponse(List.of(tensor), List.of())).toByteBuffer();
  }

  /**
   * Lays a request out.
   *
   * @return the message
   */
  @Benchmark
  public EncodedMessage encode() {
    return Writer.write(request);
  }

  /**
   * Reads an answer.
   *
   * @return the answer
   * @throws MalformedMessageException never
   */
  @Benchmark
  public InferResponse decode() throws MalformedMessageException {
    return Reader.readInferResponse(response);
  }
}
