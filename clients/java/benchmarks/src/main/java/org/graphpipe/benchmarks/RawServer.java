package org.graphpipe.benchmarks;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.AsynchronousCloseException;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;

/**
 * The fastest server that blocking sockets make: it receives each body into one warm buffer and
 * sends a prepared answer. It understands nothing but a head with a Content-Length.
 */
final class RawServer implements AutoCloseable {
  private final ServerSocketChannel listener = ServerSocketChannel.open();
  private final ByteBuffer answer;
  private final int bodyBytesMax;

  RawServer(ByteBuffer body, int bodyBytesMax) throws IOException {
    answer = RawClient.withHead("HTTP/1.1 200 OK\r\nContent-Length: " + body.remaining(), body);
    this.bodyBytesMax = bodyBytesMax;
    listener.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0));
    daemon(this::accept);
  }

  int port() {
    return listener.socket().getLocalPort();
  }

  @Override
  public void close() throws IOException {
    listener.close();
  }

  private void accept() {
    try {
      while (true) {
        SocketChannel connection = listener.accept();
        daemon(() -> serve(connection));
      }
    } catch (AsynchronousCloseException e) {
      // closed: the end
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private void serve(SocketChannel connection) {
    try (connection) {
      connection.setOption(StandardSocketOptions.TCP_NODELAY, true);
      ByteBuffer received = ByteBuffer.allocateDirect(bodyBytesMax + 8192);
      while (RawClient.receive(connection, received)) {
        ByteBuffer out = answer.duplicate();
        while (out.hasRemaining()) {
          connection.write(out);
        }
      }
    } catch (IOException e) {
      // The client is gone.
    }
  }

  private static void daemon(Runnable work) {
    Thread thread = new Thread(work);
    thread.setDaemon(true);
    thread.start();
  }
}
