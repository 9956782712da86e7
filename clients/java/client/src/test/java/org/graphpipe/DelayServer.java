package org.graphpipe;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Answers any number of small requests at once, each after the same time, on two threads. */
final class DelayServer implements AutoCloseable {
  static final Tensor ANSWER = Tensor.of(new float[] {1});

  private final ServerSocketChannel listener = ServerSocketChannel.open();
  private final Selector selector = Selector.open();
  private final ScheduledExecutorService later = Executors.newSingleThreadScheduledExecutor();
  private final AtomicInteger open = new AtomicInteger();
  private final AtomicInteger most = new AtomicInteger();

  DelayServer(long delayMs) throws IOException {
    listener.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 4096);
    listener.configureBlocking(false);
    listener.register(selector, SelectionKey.OP_ACCEPT);
    EncodedMessage message = Writer.write(new InferResponse(List.of(ANSWER), List.of()));
    String head = "HTTP/1.1 200 OK\r\nContent-Length: " + message.bytes() + "\r\n\r\n";
    ByteBuffer answer = ByteBuffer.allocate(head.length() + message.bytes());
    answer.put(head.getBytes(StandardCharsets.US_ASCII)).put(message.toByteBuffer()).flip();
    TestTls.daemon(
        () -> {
          ByteBuffer room = ByteBuffer.allocateDirect(1 << 16);
          while (selector.isOpen()) {
            selector.select();
            for (SelectionKey key : selector.selectedKeys()) {
              if (key.isValid() && key.isAcceptable()) {
                accept();
              } else if (key.isValid() && read((SocketChannel) key.channel(), room.clear())) {
                SocketChannel asked = (SocketChannel) key.channel();
                later.schedule(
                    () -> asked.write(answer.duplicate()), delayMs, TimeUnit.MILLISECONDS);
              }
            }
            selector.selectedKeys().clear();
          }
        });
  }

  String url() {
    return "http://127.0.0.1:" + listener.socket().getLocalPort();
  }

  /** How many connections were open at once. */
  int mostConnections() {
    return most.get();
  }

  @Override
  public void close() throws IOException {
    listener.close();
    later.shutdownNow();
    selector.close();
  }

  private void accept() throws IOException {
    for (SocketChannel next = listener.accept(); next != null; next = listener.accept()) {
      next.configureBlocking(false);
      next.register(selector, SelectionKey.OP_READ);
      most.accumulateAndGet(open.incrementAndGet(), Math::max);
    }
  }

  /** Whether a request came; the tests' are so small that they come whole. */
  private boolean read(SocketChannel from, ByteBuffer room) throws IOException {
    int bytes;
    try {
      bytes = from.read(room);
    } catch (IOException e) {
      bytes = -1;
    }
    if (bytes < 0) {
      open.decrementAndGet();
      from.close();
    }
    return bytes > 0;
  }
}
