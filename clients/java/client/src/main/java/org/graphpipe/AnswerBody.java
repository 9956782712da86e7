package org.graphpipe;

import java.io.IOException;
import java.nio.ByteBuffer;

/**
 * Collects one answer's body in one buffer: the caller's if that is large enough, or else a fresh
 * one of the length that the head promises. Sizes are checked before memory is taken, and once more
 * while bytes arrive.
 *
 * <p>A good answer over the limit is an exception. The explanation of a failure is not: its status
 * says enough, so what is too long is given up and the body is empty.
 */
final class AnswerBody {
  /** More than anybody writes to explain a failure. */
  private static final int ERROR_BYTES_MAX = 1024 * 1024;

  /** What to begin with where the head promises nothing. */
  private static final int UNKNOWN_LENGTH_BYTES = 16 * 1024;

  private final boolean isError;
  private final int bytesMax;
  private ByteBuffer buffer;
  private boolean givenUp;

  /**
   * Takes memory for a body.
   *
   * @param length as promised; below 0 where nothing is
   * @param into where a good answer goes if it fits from position to limit; may be null
   * @throws IOException if the promise is over the limit, or over the memory there is
   */
  AnswerBody(int status, long length, int bytesMax, ByteBuffer into) throws IOException {
    isError = status != 200;
    this.bytesMax = isError ? Math.min(bytesMax, ERROR_BYTES_MAX) : bytesMax;
    if (length > this.bytesMax) {
      refuse(length + " bytes");
    } else if (into != null && !isError && length <= into.remaining()) {
      buffer = into.slice();
    } else {
      buffer = allocate(length >= 0 ? (int) length : Math.min(UNKNOWN_LENGTH_BYTES, bytesMax));
    }
    if (!givenUp) {
      buffer.limit(length >= 0 ? (int) length : Math.min(buffer.capacity(), this.bytesMax));
    }
  }

  /** Whether this is the explanation of a failure, and too long to listen to. */
  boolean isGivenUp() {
    return givenUp;
  }

  /** Where the next bytes may go directly; without room where no more are promised. */
  ByteBuffer room() {
    return buffer;
  }

  /** Hears of so many bytes to come, before memory is taken for them. */
  void announce(long bytes) throws IOException {
    if (!givenUp && bytes > bytesMax - buffer.position()) {
      refuse(bytes + " more than " + buffer.position());
    }
  }

  /** Takes the next bytes, and finds room for them if need be. */
  void put(ByteBuffer part) throws IOException {
    if (!givenUp && part.remaining() > buffer.remaining()) {
      grow((long) buffer.position() + part.remaining());
    }
    if (!givenUp) {
      buffer.put(part);
    }
  }

  /** All that came, from position to limit. */
  ByteBuffer finish() {
    return givenUp ? ByteBuffer.allocate(0) : buffer.flip();
  }

  private void grow(long wanted) throws IOException {
    if (wanted > bytesMax) {
      refuse("more");
      return;
    }
    ByteBuffer full = buffer;
    buffer = allocate((int) Math.min(bytesMax, Math.max(wanted, 2L * full.capacity())));
    buffer.put(full.flip());
  }

  private void refuse(String got) throws IOException {
    if (!isError) {
      throw new IOException(
          "expected an answer of at most %d bytes, got %s".formatted(bytesMax, got));
    }
    givenUp = true;
  }

  private static ByteBuffer allocate(int bytes) throws IOException {
    try {
      return ByteBuffer.allocate(bytes);
    } catch (OutOfMemoryError e) {
      // One array that does not fit, on a server's word: an answer to refuse, no reason to die.
      throw new IOException("no memory for an answer of " + bytes + " bytes", e);
    }
  }
}
