package org.graphpipe;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** A server that does with each request what a test tells it to. */
final class FakeServer implements AutoCloseable {
  static {
    // Without this the JDK's server waits 40 ms for an acknowledgement now and then.
    System.setProperty("sun.net.httpserver.nodelay", "true");
  }

  /** What came in. */
  record Asked(String method, String path, Headers headers, ByteBuffer body) {
    InferRequest inferRequest() throws IOException {
      return Reader.readRequest(body).orElseThrow();
    }
  }

  /** What goes out. */
  record Answer(int status, String type, byte[] body) {
    static Answer of(InferResponse response) {
      return new Answer(
          200, "application/octet-stream", Writer.write(response).toByteBuffer().array());
    }

    static Answer of(Tensor... outputs) {
      return of(new InferResponse(List.of(outputs), List.of()));
    }
  }

  /** What to do. */
  @FunctionalInterface
  interface Model {
    Answer answer(Asked asked) throws IOException, InterruptedException;
  }

  private final HttpServer http;
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final Set<InetSocketAddress> connections = ConcurrentHashMap.newKeySet();

  FakeServer(Model model) throws IOException {
    http = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    http.setExecutor(threads);
    http.createContext(
        "/",
        exchange -> {
          connections.add(exchange.getRemoteAddress());
          ByteBuffer body = ByteBuffer.wrap(exchange.getRequestBody().readAllBytes());
          try {
            Answer answer =
                model.answer(
                    new Asked(
                        exchange.getRequestMethod(),
                        exchange.getRequestURI().toString(),
                        exchange.getRequestHeaders(),
                        body));
            exchange.getResponseHeaders().set("Content-Type", answer.type);
            exchange.sendResponseHeaders(
                answer.status, answer.body.length == 0 ? -1 : answer.body.length);
            exchange.getResponseBody().write(answer.body);
          } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
          } finally {
            exchange.close();
          }
        });
    http.start();
  }

  /** A server that answers with its inputs. */
  static FakeServer echo() throws IOException {
    return new FakeServer(
        asked -> Answer.of(new InferResponse(asked.inferRequest().inputs(), List.of())));
  }

  String url() {
    return "http://127.0.0.1:" + http.getAddress().getPort();
  }

  int connections() {
    return connections.size();
  }

  @Override
  public void close() {
    http.stop(0);
    threads.shutdownNow();
  }
}
