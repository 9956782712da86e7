package org.graphpipe;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;

/**
 * Carries bytes over a socket that never waits. There are two: {@link Plain} and {@link TlsLine}.
 */
interface Line {
  /**
   * Takes in what has come.
   *
   * @return a number of bytes, 0 where nothing is there yet, -1 where nothing more will come
   */
  int read(ByteBuffer room) throws IOException;

  /**
   * Takes what fits from a buffer.
   *
   * @return a number of bytes; 0 where there is no room now
   */
  int write(ByteBuffer part) throws IOException;

  /** Hands on to the system what was taken; whether that is all of it. */
  boolean flush() throws IOException;

  /** Whether bytes came that a wait for the socket would not tell of. */
  boolean isPending();

  /** Says that nothing more will be sent, as far as there is room to say it. */
  void goodbye();

  /** The bytes as they are. */
  final class Plain implements Line {
    /** The JDK copies heap memory to and from direct memory, and keeps as much of that a thread. */
    private static final int HEAP_BYTES_MAX = 256 * 1024;

    private final SocketChannel channel;

    Plain(SocketChannel channel) {
      this.channel = channel;
    }

    @Override
    public int read(ByteBuffer room) throws IOException {
      int end = room.limit();
      room.limit(pieceEnd(room));
      try {
        return channel.read(room);
      } finally {
        room.limit(end);
      }
    }

    @Override
    public int write(ByteBuffer part) throws IOException {
      int end = part.limit();
      part.limit(pieceEnd(part));
      try {
        return channel.write(part);
      } finally {
        part.limit(end);
      }
    }

    @Override
    public boolean flush() {
      return true;
    }

    @Override
    public boolean isPending() {
      return false;
    }

    @Override
    public void goodbye() {
      // The end of the connection says it.
    }

    private static int pieceEnd(ByteBuffer buffer) {
      int end = buffer.limit();
      return buffer.isDirect() ? end : Math.min(end, buffer.position() + HEAP_BYTES_MAX);
    }
  }
}
