package org.graphpipe.benchmarks;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.AsynchronousCloseException;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;

/**
 * The fastest server that blocking sockets make: it receives each body into one warm buffer and
 * sends a prepared answer. It understands nothing but a head with a Content-Length.
 */
final class RawServer implements AutoCloseable {
  private final ServerSocketChannel listener = ServerSocketChannel.open();
  private final SSLContext tls; // null for none
  private final ByteBuffer answer;
  private final int bodyBytesMax;

  RawServer(ByteBuffer body, int bodyBytesMax) throws IOException {
    this(body, bodyBytesMax, null);
  }

  /** A server that speaks TLS, with the JDK's blocking sockets. */
  RawServer(ByteBuffer body, int bodyBytesMax, SSLContext tls) throws IOException {
    this.tls = tls;
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
      if (tls != null) {
        serveSecurely(connection.socket());
        return;
      }
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

  private void serveSecurely(Socket connection) throws IOException {
    SSLSocket secure =
        (SSLSocket) tls.getSocketFactory().createSocket(connection, "localhost", 0, true);
    secure.setUseClientMode(false);
    byte[] prepared = new byte[answer.remaining()];
    answer.duplicate().get(prepared);
    byte[] received = new byte[bodyBytesMax + 8192];
    InputStream in = secure.getInputStream();
    while (true) {
      int bytes = -1;
      for (int filled = 0; bytes < 0 || filled < bytes; ) {
        int more = in.read(received, filled, received.length - filled);
        if (more < 0) {
          return;
        }
        filled += more;
        bytes =
            bytes < 0 ? RawClient.messageBytes(ByteBuffer.wrap(received).position(filled)) : bytes;
      }
      secure.getOutputStream().write(prepared);
    }
  }

  private static void daemon(Runnable work) {
    Thread thread = new Thread(work);
    thread.setDaemon(true);
    thread.start();
  }
}
