package org.graphpipe;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.List;

/**
 * A target for Jazzer: an answer is the same in one piece and in many, or refused with an
 * IOException. An input is two bytes, which say where it is cut, and the answer, behind which the
 * server closes.
 */
public final class AnswerFuzz {
  private static final int PREFIX_BYTES = 2;
  private static final int SCRATCH_BYTES = 8192;
  private static final int BODY_BYTES_MAX = 1 << 16;

  private AnswerFuzz() {}

  /** Throws whatever is a finding. */
  public static void fuzzerTestOneInput(byte[] data) {
    if (data.length <= PREFIX_BYTES || data.length > SCRATCH_BYTES) {
      return;
    }
    int step = 1 + (data[0] & 0xff) % 16;
    Object whole = read(data, data.length);
    Object pieces = read(data, step);
    if (!whole.equals(pieces)) {
      throw new AssertionError("in one piece " + whole + ", in many " + pieces);
    }
  }

  /**
   * The head and the body of an answer that comes in steps of so many bytes; or that it is none.
   */
  private static Object read(byte[] data, int step) {
    AnswerReader reader =
        new AnswerReader(ByteBuffer.allocate(SCRATCH_BYTES), BODY_BYTES_MAX, null);
    try {
      int at = PREFIX_BYTES;
      while (at < data.length && reader.answer() == null) {
        ByteBuffer room = reader.room();
        int bytes = Math.min(Math.min(step, room.remaining()), data.length - at);
        room.put(data, at, bytes);
        at += bytes;
        reader.received();
      }
      if (reader.answer() == null) {
        reader.ended();
      }
    } catch (IOException e) {
      return "refused";
    }
    return reader.answer() == null
        ? "nothing"
        : List.of(withoutWait(reader.answer().head()), reader.answer().body());
  }

  /**
   * A wait until a date is counted from now, where the server does not say what its clock shows.
   */
  private static AnswerHead withoutWait(AnswerHead head) {
    return new AnswerHead(
        head.status(),
        head.reason(),
        head.contentType(),
        head.length(),
        head.isChunked(),
        head.keepAlive(),
        head.server(),
        null);
  }
}
