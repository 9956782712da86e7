package org.graphpipe;

import java.io.Closeable;
import java.io.IOException;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.SocketException;
import java.net.StandardSocketOptions;
import java.net.URI;
import java.net.UnknownHostException;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;

/**
 * A socket that speaks HTTP/1.1 on its caller's thread, one call at a time. After any error it is
 * of no further use.
 *
 * <p>The socket never blocks: every wait is one of the call's {@link Deadline}. While a large
 * request goes out an answer may come in, since a server refuses what it will not take before it
 * has read it.
 */
final class Connection implements Closeable {
  /** The longest head of an answer. */
  private static final int HEAD_BYTES_MAX = 64 * 1024;

  /** What is smaller is copied behind the request's head, to leave with it. */
  private static final int JOINED_BYTES_MAX = 16 * 1024;

  /** The JDK copies heap memory to and from direct memory, and keeps as much of that a thread. */
  private static final int HEAP_BYTES_MAX = 256 * 1024;

  private static final int HTTP_PORT = 80;

  private final SocketChannel channel;
  private final Selector selector;
  private final SelectionKey key;
  private final ByteBuffer scratch = ByteBuffer.allocate(HEAD_BYTES_MAX);
  private final ByteBuffer joined = ByteBuffer.allocate(JOINED_BYTES_MAX);
  private boolean used;
  private boolean reusable;
  private IOException lost; // why nothing more goes out, or comes in
  private long idleSinceNanos;

  private Connection(InetSocketAddress address, Deadline deadline)
      throws IOException, InterruptedException {
    selector = Selector.open();
    SocketChannel opened = null;
    try {
      opened = SocketChannel.open();
      opened.configureBlocking(false);
      opened.setOption(StandardSocketOptions.TCP_NODELAY, true);
      opened.setOption(StandardSocketOptions.SO_KEEPALIVE, true);
      key = opened.register(selector, SelectionKey.OP_CONNECT);
      opened.connect(address);
      while (!opened.finishConnect()) {
        deadline.await(selector);
      }
      key.interestOps(SelectionKey.OP_READ);
      channel = opened;
    } catch (IOException | InterruptedException | RuntimeException e) {
      if (opened != null) {
        opened.close();
      }
      selector.close();
      throw e;
    }
  }

  /**
   * Connects to the first of the server's addresses that takes us.
   *
   * @throws ConnectException if none does
   */
  static Connection open(URI url, Deadline deadline) throws IOException, InterruptedException {
    IOException failure = null;
    int port = url.getPort() < 0 ? HTTP_PORT : url.getPort();
    try {
      for (InetAddress address : InetAddress.getAllByName(url.getHost())) {
        deadline.check();
        try {
          return new Connection(new InetSocketAddress(address, port), deadline);
        } catch (SocketException e) {
          failure = e;
        }
      }
    } catch (UnknownHostException e) {
      failure = e;
    }
    ConnectException unreachable =
        new ConnectException(
            "no connection to %s:%d; is a server running there?".formatted(url.getHost(), port));
    unreachable.initCause(failure);
    throw unreachable;
  }

  /**
   * Sends a request and receives the whole answer.
   *
   * @param into where a good answer goes if it fits; may be null
   * @throws NotSentException if the request may be sent again, on another connection
   */
  Answer call(byte[] head, EncodedMessage message, int bytesMax, ByteBuffer into, Deadline deadline)
      throws IOException, InterruptedException {
    reusable = false;
    AnswerReader reader = new AnswerReader(scratch, bytesMax, into);
    boolean sent = send(head, message, reader, deadline);
    // There is no answer yet to a request that went out in one piece: better wait than look.
    int bytes = sent ? 0 : 1;
    while (bytes >= 0 && reader.answer() == null) {
      if (bytes == 0) {
        deadline.await(selector);
      } else {
        deadline.check();
      }
      bytes = receive(reader);
    }
    if (reader.answer() == null) {
      throw unanswered(reader, sent);
    }
    reusable = sent && bytes >= 0 && reader.keepAlive();
    used = true;
    return reader.answer();
  }

  /** Whether the last call left the connection fit for another. */
  boolean isReusable() {
    return reusable;
  }

  /** Whether the server has neither closed the idle connection nor sent what nobody asked for. */
  boolean isQuiet() {
    return read(scratch.clear()) == 0;
  }

  void idleSince(long nanos) {
    idleSinceNanos = nanos;
  }

  long idleSince() {
    return idleSinceNanos;
  }

  @Override
  public void close() {
    try (selector) {
      // The channel first: its descriptor is given back when the selector lets go of it.
      channel.close();
    } catch (IOException e) {
      // Nothing is lost that anybody waits for.
    }
  }

  /** Sends everything and says true, or stops and says false: the answer came first, or the end. */
  private boolean send(byte[] head, EncodedMessage message, AnswerReader reader, Deadline deadline)
      throws IOException, InterruptedException {
    joined.clear();
    boolean going = sendSmall(ByteBuffer.wrap(head), reader, deadline);
    for (ByteBuffer segment : message.segmentsShared()) {
      going = going && sendSmall(segment.duplicate(), reader, deadline);
    }
    return going && write(joined.flip(), reader, deadline);
  }

  /** Keeps what is small until there is more of it, and sends what is not. */
  private boolean sendSmall(ByteBuffer part, AnswerReader reader, Deadline deadline)
      throws IOException, InterruptedException {
    if (part.remaining() > joined.remaining()) {
      if (!write(joined.flip(), reader, deadline)) {
        return false;
      }
      joined.clear();
    }
    if (part.remaining() > joined.remaining()) {
      return write(part, reader, deadline);
    }
    joined.put(part);
    return true;
  }

  private boolean write(ByteBuffer part, AnswerReader reader, Deadline deadline)
      throws IOException, InterruptedException {
    int end = part.limit();
    while (part.position() < end) {
      part.limit(pieceEnd(part, end));
      int bytes;
      try {
        bytes = channel.write(part);
      } catch (IOException e) {
        // A server may refuse what it has not read, and close: its answer may lie there still.
        lost = e;
        return false;
      }
      if (bytes == 0 && !awaitRoom(reader, deadline)) {
        return false;
      }
      deadline.check();
    }
    return true;
  }

  /** Waits until more can go out; false where the answer comes first, or the end. */
  private boolean awaitRoom(AnswerReader reader, Deadline deadline)
      throws IOException, InterruptedException {
    key.interestOps(SelectionKey.OP_READ | SelectionKey.OP_WRITE);
    try {
      deadline.await(selector);
    } finally {
      key.interestOps(SelectionKey.OP_READ);
    }
    return receive(reader) >= 0 && !reader.began();
  }

  /** Takes in what has come: a number of bytes, or -1 where nothing more will come. */
  private int receive(AnswerReader reader) throws IOException {
    ByteBuffer room = reader.room();
    int end = room.limit();
    room.limit(pieceEnd(room, end));
    int bytes = read(room);
    room.limit(end);
    if (bytes > 0) {
      reader.received();
    } else if (bytes < 0 && lost == null) {
      reader.ended();
    }
    return bytes;
  }

  private int read(ByteBuffer room) {
    try {
      return channel.read(room);
    } catch (IOException e) {
      lost = e;
      return -1;
    }
  }

  private static int pieceEnd(ByteBuffer buffer, int end) {
    return buffer.isDirect() ? end : Math.min(end, buffer.position() + HEAP_BYTES_MAX);
  }

  private IOException unanswered(AnswerReader reader, boolean sent) {
    if (used && !sent && !reader.began()) {
      return new NotSentException(
          "the server closed the connection before it read the request", lost);
    }
    String where = reader.began() ? "in the middle of its answer" : "without an answer";
    return new IOException("the server closed the connection " + where, lost);
  }
}
