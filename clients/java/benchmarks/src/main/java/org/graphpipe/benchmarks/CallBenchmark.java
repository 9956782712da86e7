package org.graphpipe.benchmarks;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.graphpipe.Client;
import org.graphpipe.EncodedMessage;
import org.graphpipe.InferRequest;
import org.graphpipe.InferResponse;
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
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * Whole calls over loopback, beside a raw socket that sends and receives the same bytes. On a noisy
 * machine {@link PairedCalls} tells more.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Fork(1)
@Warmup(iterations = 3, time = 2)
@Measurement(iterations = 5, time = 2)
public class CallBenchmark {
  /** What is sent. */
  @Param({"1 KB", "77 MB"})
  public String content;

  private RawServer server;
  private RawClient raw;
  private Client client;
  private InferRequest request;
  private ByteBuffer into;

  /**
   * Starts a server and connects.
   *
   * @throws IOException if there is no loopback
   */
  @Setup
  public void setUp() throws IOException {
    boolean small = content.equals("1 KB");
    Tensor input =
        small
            ? Tensor.allocate(Type.FLOAT32, 1, 256)
            : Tensor.allocate(Type.FLOAT32, 128, 224, 224, 3);
    Tensor output = small ? input : Tensor.allocate(Type.FLOAT32, 128, 25088);
    request = InferRequest.of(input);
    EncodedMessage message = Writer.write(request);
    EncodedMessage answer = Writer.write(new InferResponse(List.of(output), List.of()));
    server = new RawServer(answer.toByteBuffer(), message.bytes());
    raw = new RawClient(server.port(), message.toByteBuffer(), answer.bytes());
    client = Client.of("http://127.0.0.1:" + server.port());
    into = ByteBuffer.allocateDirect(answer.bytes());
  }

  /**
   * Ends the server.
   *
   * @throws IOException never
   */
  @TearDown
  public void tearDown() throws IOException {
    raw.close();
    server.close();
  }

  /**
   * The limit.
   *
   * @return bytes received
   * @throws IOException if the server is gone
   */
  @Benchmark
  public int raw() throws IOException {
    return raw.call();
  }

  /**
   * A call whose answer gets fresh memory.
   *
   * @return the outputs
   * @throws IOException if the server is gone
   * @throws InterruptedException if JMH gives up
   */
  @Benchmark
  public List<Tensor> infer() throws IOException, InterruptedException {
    return client.infer(request);
  }

  /**
   * A call whose answer goes to the same memory each time.
   *
   * @return the outputs
   * @throws IOException if the server is gone
   * @throws InterruptedException if JMH gives up
   */
  @Benchmark
  public List<Tensor> inferInto() throws IOException, InterruptedException {
    return client.inferInto(request, into);
  }
}
