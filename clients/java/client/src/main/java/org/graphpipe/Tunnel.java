package org.graphpipe;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;

/** Asks a proxy to pass all bytes on to a server: HTTP's CONNECT. */
final class Tunnel {
  private static final int HEAD_BYTES_MAX = 16 * 1024;

  private final SocketChannel channel;
  private final ByteBuffer request;
  private final ByteBuffer answer = ByteBuffer.allocate(HEAD_BYTES_MAX);
  private boolean isOpen;

  Tunnel(SocketChannel channel, Target target, Target proxy) {
    this.channel = channel;
    String login =
        proxy.login() == null ? "" : "Proxy-Authorization: Basic " + proxy.login() + "\r\n";
    String to = target.where();
    String head = "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n" + login + "\r\n";
    request = ByteBuffer.wrap(head.getBytes(StandardCharsets.US_ASCII));
  }

  /** Goes on without waiting: what to wait for, 0 when the tunnel is there. */
  int advance() throws IOException {
    while (!isOpen) {
      if (request.hasRemaining()) {
        if (channel.write(request) == 0) {
          return SelectionKey.OP_WRITE;
        }
        continue;
      }
      int bytes = channel.read(answer);
      if (bytes == 0) {
        return SelectionKey.OP_READ;
      }
      if (bytes < 0) {
        throw new IOException("it closed the connection instead of making a tunnel");
      }
      isOpen = isGranted();
    }
    return 0;
  }

  /** Whether the proxy's whole head is there, and says yes. */
  private boolean isGranted() throws IOException {
    int filled = answer.position();
    String text = new String(answer.array(), 0, filled, StandardCharsets.ISO_8859_1);
    int end = text.indexOf("\r\n\r\n");
    if (end < 0) {
      if (!answer.hasRemaining()) {
        throw new IOException("its answer to CONNECT has no end");
      }
      return false;
    }
    AnswerHead head = AnswerHead.parse(answer.array(), end + 4);
    if (head.status() < 200) {
      answer.flip().position(end + 4);
      answer.compact();
      return answer.position() > 0 && isGranted();
    }
    if (head.status() >= 300) {
      throw new IOException(
          "it answered %d %s to CONNECT".formatted(head.status(), head.reason()).strip());
    }
    if (filled > end + 4) {
      throw new IOException("more than an answer to CONNECT came from it");
    }
    return true;
  }
}
