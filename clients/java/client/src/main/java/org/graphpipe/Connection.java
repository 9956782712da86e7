package org.graphpipe;

import java.io.Closeable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;

/**
 * A socket that speaks HTTP/1.1, one {@link Exchange} at a time. After any error it is of no
 * further use. It never blocks: whoever drives an exchange waits, with a selector of the
 * connection's own or with one for many.
 */
final class Connection implements Closeable {
  /** The longest head of an answer. */
  private static final int HEAD_BYTES_MAX = 64 * 1024;

  /** What is smaller is copied behind the request's head, to leave with it. */
  private static final int JOINED_BYTES_MAX = 16 * 1024;

  private final SocketChannel channel;
  private final Line line;
  private final ByteBuffer scratch = ByteBuffer.allocate(HEAD_BYTES_MAX);
  private final ByteBuffer joined = ByteBuffer.allocate(JOINED_BYTES_MAX);
  private Selector own; // null until somebody waits for this connection alone
  private SelectionKey key; // of own
  private boolean used;
  private long idleSinceNanos;

  /** A connection over a connected channel that does not block. */
  Connection(SocketChannel channel, Line line) {
    this.channel = channel;
    this.line = line;
  }

  Line line() {
    return line;
  }

  /** Memory for heads, with an array; the current exchange's. */
  ByteBuffer scratch() {
    return scratch;
  }

  /** Memory for the small parts of a request; the current exchange's. */
  ByteBuffer joined() {
    return joined;
  }

  /** Takes over a selector that the channel is registered with. */
  void adopt(Selector selector) {
    own = selector;
    key = channel.keyFor(selector);
  }

  /** Waits until what is wanted can be done, or the time is up. */
  void await(int ops, Deadline deadline) throws IOException, InterruptedException {
    if (own == null) {
      own = Selector.open();
      key = channel.register(own, ops);
    } else if (key.interestOps() != ops) {
      key.interestOps(ops);
    }
    deadline.await(own);
  }

  /** Tells a selector for many what this connection waits for. */
  void watch(Selector selector, int ops, Object attachment) throws ClosedChannelException {
    SelectionKey watching = channel.keyFor(selector);
    if (watching == null) {
      channel.register(selector, ops, attachment);
    } else if (watching.interestOps() != ops) {
      watching.interestOps(ops);
    }
  }

  /** Takes leave of a selector for many, which knows it with its next selection. */
  void unwatch(Selector selector) {
    SelectionKey watching = channel.keyFor(selector);
    if (watching != null) {
      watching.cancel();
    }
  }

  /** Whether an answer came over it before. */
  boolean isUsed() {
    return used;
  }

  void used() {
    used = true;
  }

  /** Whether the server has neither closed the idle connection nor sent what nobody asked for. */
  boolean isQuiet() {
    try {
      return line.read(scratch.clear()) == 0;
    } catch (IOException e) {
      return false;
    }
  }

  void idleSince(long nanos) {
    idleSinceNanos = nanos;
  }

  long idleSince() {
    return idleSinceNanos;
  }

  @Override
  public void close() {
    if (channel.isOpen()) {
      line.goodbye();
    }
    try {
      // The channel first: its descriptor is given back when the selector lets go of it.
      channel.close();
    } catch (IOException e) {
      // Nothing is lost that anybody waits for.
    }
    try {
      if (own != null) {
        own.close();
      }
    } catch (IOException e) {
      // Nor here.
    }
  }
}
