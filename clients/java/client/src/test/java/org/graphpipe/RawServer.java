package org.graphpipe;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** A server that breaks HTTP in whatever way a test wants. */
final class RawServer implements AutoCloseable {
  /** What to do with a connection; it is closed afterwards. */
  @FunctionalInterface
  interface Behaviour {
    void on(Socket connection) throws Exception;
  }

  private final ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
  private final CountDownLatch left = new CountDownLatch(1);
  private final AtomicInteger requests = new AtomicInteger();

  RawServer(Behaviour behaviour) throws IOException {
    daemon(
        () -> {
          while (true) {
            Socket connection = listener.accept();
            daemon(
                () -> {
                  try (connection) {
                    behaviour.on(connection);
                  }
                });
          }
        });
  }

  /** Reads one request, then sends these bytes and closes. */
  static RawServer answering(String head, byte[] body) throws IOException {
    AtomicInteger[] counter = new AtomicInteger[1];
    RawServer server =
        new RawServer(
            connection -> {
              readRequest(connection.getInputStream());
              counter[0].incrementAndGet();
              OutputStream out = connection.getOutputStream();
              out.write(head.getBytes(StandardCharsets.ISO_8859_1));
              out.write(body);
              out.flush();
            });
    counter[0] = server.requests;
    return server;
  }

  /** Reads one request, sends these bytes, and waits for the client to leave. */
  static RawServer stalling(String head, byte[] body) throws IOException {
    RawServer[] self = new RawServer[1];
    self[0] =
        new RawServer(
            connection -> {
              self[0].requests.incrementAndGet();
              try {
                InputStream in = connection.getInputStream();
                readRequest(in);
                OutputStream out = connection.getOutputStream();
                out.write(head.getBytes(StandardCharsets.ISO_8859_1));
                out.write(body);
                while (in.read() >= 0) {
                  // nothing more is expected
                }
              } finally {
                self[0].left.countDown();
              }
            });
    return self[0];
  }

  String url() {
    return "http://127.0.0.1:" + listener.getLocalPort();
  }

  int requests() {
    return requests.get();
  }

  /** Whether a client has closed its connection, within some seconds. */
  boolean clientHasLeft() throws InterruptedException {
    return left.await(5, TimeUnit.SECONDS);
  }

  @Override
  public void close() throws IOException {
    listener.close();
  }

  static void readRequest(InputStream in) throws IOException {
    StringBuilder head = new StringBuilder();
    while (head.indexOf("\r\n\r\n") < 0) {
      int next = in.read();
      if (next < 0) {
        throw new IOException("the client has left");
      }
      head.append((char) next);
    }
    String lower = head.toString().toLowerCase(Locale.ROOT);
    int at = lower.indexOf("content-length:") + "content-length:".length();
    in.readNBytes(Integer.parseInt(lower.substring(at, lower.indexOf('\r', at)).strip()));
  }

  /** Work that may fail when its socket is closed. */
  @FunctionalInterface
  private interface Work {
    void run() throws Exception;
  }

  private static void daemon(Work work) {
    Thread thread =
        new Thread(
            () -> {
              try {
                work.run();
              } catch (Exception e) {
                // the test is over, or the client gone
              }
            });
    thread.setDaemon(true);
    thread.start();
  }
}
