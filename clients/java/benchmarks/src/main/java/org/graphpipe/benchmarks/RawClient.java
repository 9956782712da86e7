package org.graphpipe.benchmarks;

import java.io.EOFException;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.Locale;

/** What Java can do at best: one blocking socket, a prepared request, a warm buffer. */
final class RawClient implements AutoCloseable {
  private final SocketChannel connection;
  private final ByteBuffer request;
  private final ByteBuffer received;

  RawClient(int port, ByteBuffer body, int answerBytesMax) throws IOException {
    connection = SocketChannel.open(new InetSocketAddress(InetAddress.getLoopbackAddress(), port));
    connection.setOption(StandardSocketOptions.TCP_NODELAY, true);
    request =
        withHead("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + body.remaining(), body);
    received = ByteBuffer.allocateDirect(answerBytesMax + 8192);
  }

  /** Sends the request and receives the answer; returns the bytes received. */
  int call() throws IOException {
    ByteBuffer out = request.duplicate();
    while (out.hasRemaining()) {
      connection.write(out);
    }
    if (!receive(connection, received)) {
      throw new EOFException("the server closed");
    }
    return received.position();
  }

  @Override
  public void close() throws IOException {
    connection.close();
  }

  /** A direct buffer with a head, the empty line after it, and a body. */
  static ByteBuffer withHead(String head, ByteBuffer body) {
    byte[] bytes = (head + "\r\n\r\n").getBytes(StandardCharsets.US_ASCII);
    return ByteBuffer.allocateDirect(bytes.length + body.remaining())
        .put(bytes)
        .put(body.duplicate())
        .flip();
  }

  /** Receives one head and its body into the buffer; false where the peer has closed instead. */
  static boolean receive(SocketChannel connection, ByteBuffer buffer) throws IOException {
    buffer.clear();
    int bytes = -1;
    while (bytes < 0 || buffer.position() < bytes) {
      if (connection.read(buffer) < 0) {
        return false;
      }
      if (bytes < 0) {
        bytes = messageBytes(buffer);
      }
    }
    return true;
  }

  /** The length of head and body, or -1 while the head is not complete. */
  static int messageBytes(ByteBuffer buffer) {
    byte[] start = new byte[Math.min(buffer.position(), 4096)];
    buffer.get(0, start);
    String text = new String(start, StandardCharsets.ISO_8859_1);
    int end = text.indexOf("\r\n\r\n");
    if (end < 0) {
      return -1;
    }
    String head = text.substring(0, end).toLowerCase(Locale.ROOT);
    int at = head.indexOf("content-length:") + "content-length:".length();
    int lineEnd = head.indexOf("\r\n", at);
    String number = head.substring(at, lineEnd < 0 ? head.length() : lineEnd).strip();
    return end + 4 + Integer.parseInt(number);
  }
}
