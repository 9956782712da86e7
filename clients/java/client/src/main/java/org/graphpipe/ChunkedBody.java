package org.graphpipe;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/** Takes a chunked body apart as it comes. No sockets here. */
final class ChunkedBody {
  /** A size and what somebody may write behind it; also a line of the trailer. */
  private static final int LINE_BYTES_MAX = 4096;

  private static final int TRAILER_BYTES_MAX = 64 * 1024;

  /** What the next line is. */
  private enum Expected {
    SIZE,
    END_OF_CHUNK,
    TRAILER,
    NOTHING
  }

  private final AnswerBody body;
  private Expected expected = Expected.SIZE;
  private long left; // bytes of the current chunk still to come
  private int trailerBytes;

  ChunkedBody(AnswerBody body) {
    this.body = body;
  }

  boolean isDone() {
    return expected == Expected.NOTHING;
  }

  /**
   * Passes on what is the body's, and leaves the start of an unfinished line, or what came after
   * the end of all.
   *
   * @throws IOException if this is not chunked, or more than the body may have
   */
  void feed(ByteBuffer in) throws IOException {
    while (!isDone() && !body.isGivenUp() && in.hasRemaining()) {
      if (left > 0) {
        ByteBuffer part = in.slice(in.position(), (int) Math.min(left, in.remaining()));
        in.position(in.position() + part.remaining());
        left -= part.remaining();
        body.put(part);
      } else {
        String line = line(in);
        if (line == null) {
          return;
        }
        take(line);
      }
    }
  }

  /** The next line without its end; null where that has not come yet. */
  private static String line(ByteBuffer in) throws IOException {
    int most = Math.min(in.remaining(), LINE_BYTES_MAX);
    for (int i = 0; i < most; i++) {
      if (in.get(in.position() + i) == '\n') {
        byte[] line = new byte[i + 1];
        in.get(line);
        if (i == 0 || line[i - 1] != '\r') {
          throw new IOException("a line between the answer's chunks does not end in CR LF");
        }
        return new String(line, 0, i - 1, StandardCharsets.ISO_8859_1);
      }
    }
    if (most == LINE_BYTES_MAX) {
      throw new IOException(
          "a line between the answer's chunks has more than " + LINE_BYTES_MAX + " bytes");
    }
    return null;
  }

  private void take(String line) throws IOException {
    switch (expected) {
      case SIZE -> {
        left = size(line);
        body.announce(left);
        expected = left > 0 ? Expected.END_OF_CHUNK : Expected.TRAILER;
      }
      case END_OF_CHUNK -> {
        if (!line.isEmpty()) {
          throw new IOException("a chunk of the answer is longer than it says");
        }
        expected = Expected.SIZE;
      }
      case TRAILER -> {
        trailerBytes += line.length();
        if (trailerBytes > TRAILER_BYTES_MAX) {
          throw new IOException(
              "the answer's trailer has more than " + TRAILER_BYTES_MAX + " bytes");
        }
        expected = line.isEmpty() ? Expected.NOTHING : Expected.TRAILER;
      }
      case NOTHING -> throw new IllegalStateException("fed after the end");
    }
  }

  private static long size(String line) throws IOException {
    String digits = line.split(";", 2)[0].strip();
    if (!digits.matches("[0-9a-fA-F]{1,15}")) {
      throw new IOException("a chunk of the answer does not start with its size");
    }
    return Long.parseLong(digits, 16);
  }
}
