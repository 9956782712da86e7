package org.graphpipe;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.util.ArrayList;
import java.util.List;

/**
 * One request and its answer over a connection, a step at a time: no step waits, and each says what
 * to wait for. While a large request goes out an answer may come in, since a server refuses what it
 * will not take before it has read it.
 */
final class Exchange {
  /** After so many bytes a step ends, so that others get their turn and the clock is looked at. */
  private static final int STEP_BYTES = 1024 * 1024;

  private static final int READ = SelectionKey.OP_READ;
  private static final int READ_OR_WRITE = SelectionKey.OP_READ | SelectionKey.OP_WRITE;

  private final Connection connection;
  private final Line line;
  private final AnswerReader reader;
  private final List<ByteBuffer> parts;
  private int next; // of the parts
  private boolean sending = true;
  private boolean blocked; // the last step ended for want of room
  private boolean sent; // the system has the whole request
  private boolean ended; // nothing more will come
  private IOException lost; // why nothing more goes out, or comes in

  /**
   * An exchange of which nothing has happened yet.
   *
   * @param into where a good answer goes if it fits; may be null
   */
  Exchange(
      Connection connection, byte[] head, EncodedMessage message, int bytesMax, ByteBuffer into) {
    this.connection = connection;
    line = connection.line();
    reader = new AnswerReader(connection.scratch(), bytesMax, into);
    parts = parts(head, message, connection.joined().clear());
  }

  /**
   * Goes on as far as it goes without waiting.
   *
   * @return what to wait for; 0 when the answer is whole
   * @throws NotSentException if the request may be sent again, on another connection
   */
  int advance() throws IOException {
    if (sending && !send()) {
      return blocked ? READ_OR_WRITE : READ;
    }
    int budget = STEP_BYTES;
    while (reader.answer() == null) {
      int bytes = receive();
      if (bytes < 0 && reader.answer() == null) {
        throw unanswered();
      }
      budget -= Math.max(bytes, 0);
      if (bytes == 0 || (budget <= 0 && !line.isPending() && reader.answer() == null)) {
        return READ;
      }
    }
    connection.used();
    return 0;
  }

  Answer answer() {
    return reader.answer();
  }

  /** Whether the connection is fit for another exchange. */
  boolean isReusable() {
    return reader.answer() != null && sent && !ended && reader.keepAlive();
  }

  /** Whether it is time to look for the answer: not while there is more to send. */
  private boolean send() throws IOException {
    if (blocked) {
      blocked = false;
      if (receive() < 0 || reader.began()) {
        sending = false;
        return true;
      }
    }
    int budget = STEP_BYTES;
    try {
      while (next < parts.size()) {
        ByteBuffer part = parts.get(next);
        int bytes = line.write(part);
        budget -= bytes;
        if (!part.hasRemaining()) {
          next++;
        } else if (bytes == 0 || budget <= 0) {
          blocked = true;
          return false;
        }
      }
      if (!line.flush()) {
        blocked = true;
        return false;
      }
    } catch (IOException e) {
      // A server may refuse what it has not read, and close: its answer may lie there still.
      lost = e;
      sending = false;
      return true;
    }
    sending = false;
    sent = true;
    // There is no answer yet to a request that has just gone out: better wait than look.
    return false;
  }

  /** Takes in what has come: a number of bytes, or -1 where nothing more will come. */
  private int receive() throws IOException {
    int bytes;
    try {
      bytes = line.read(reader.room());
    } catch (IOException e) {
      lost = lost == null ? e : lost;
      bytes = -1;
    }
    if (bytes > 0) {
      reader.received();
    } else if (bytes < 0) {
      ended = true;
      if (lost == null) {
        reader.ended();
      }
    }
    return bytes;
  }

  private IOException unanswered() {
    if (connection.isUsed() && !sent && !reader.began()) {
      return new NotSentException(
          "the server closed the connection before it read the request", lost);
    }
    String where = reader.began() ? "in the middle of its answer" : "without an answer";
    return new IOException("the server closed the connection " + where, lost);
  }

  /** What to send, small parts joined. */
  private static List<ByteBuffer> parts(byte[] head, EncodedMessage message, ByteBuffer joined) {
    List<ByteBuffer> parts = new ArrayList<>(2 * message.segmentsShared().size() + 1);
    int start = add(parts, ByteBuffer.wrap(head), joined, 0);
    for (ByteBuffer segment : message.segmentsShared()) {
      start = add(parts, segment.duplicate(), joined, start);
    }
    flush(parts, joined, start);
    return parts;
  }

  /**
   * Adds a part, joined to those since {@code start} if there is room; where the next join starts.
   */
  private static int add(List<ByteBuffer> parts, ByteBuffer part, ByteBuffer joined, int start) {
    if (part.remaining() <= joined.remaining()) {
      joined.put(part);
      return start;
    }
    flush(parts, joined, start);
    parts.add(part);
    return joined.position();
  }

  private static void flush(List<ByteBuffer> parts, ByteBuffer joined, int start) {
    if (joined.position() > start) {
      parts.add(joined.slice(start, joined.position() - start));
    }
  }
}
