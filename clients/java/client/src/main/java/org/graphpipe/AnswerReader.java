package org.graphpipe;

import java.io.IOException;
import java.nio.ByteBuffer;

/**
 * One answer on its way in: where its next bytes go, and when it is whole. No sockets here.
 *
 * <p>Whoever has a socket receives into {@link #room} and says so with {@link #received}. The head
 * comes into a scratch buffer, a body of known length straight into the memory it stays in.
 */
final class AnswerReader {
  private final ByteBuffer scratch;
  private final int bytesMax;
  private final ByteBuffer into;
  private boolean began;
  private int searched; // bytes of the scratch in which no head ends
  private AnswerHead head;
  private AnswerBody body;
  private ChunkedBody chunks;
  private boolean overfull;
  private Answer answer;

  /**
   * A reader of one answer.
   *
   * @param scratch a buffer with an array, and the reader's own until the answer is whole. No head
   *     may be longer.
   * @param into where a good answer goes if it fits from position to limit; may be null
   */
  AnswerReader(ByteBuffer scratch, int bytesMax, ByteBuffer into) {
    this.scratch = scratch.clear();
    this.bytesMax = bytesMax;
    this.into = into;
  }

  /** The answer; null until it is whole. */
  Answer answer() {
    return answer;
  }

  /** Whether any byte has come. */
  boolean began() {
    return began;
  }

  /** Whether the next answer may be awaited where this whole one came from. */
  boolean keepAlive() {
    return head.keepAlive() && !overfull && !body.isGivenUp();
  }

  /** Where the next bytes go; never without room before the answer is whole. */
  ByteBuffer room() {
    return body != null && head.length() >= 0 ? body.room() : scratch;
  }

  /** Takes note of new bytes before the position of {@link #room}. */
  void received() throws IOException {
    began = true;
    if (head == null) {
      findHead();
    } else if (head.length() < 0) {
      scratch.flip();
      gather();
      scratch.compact();
    }
    finishIfWhole();
  }

  /** Takes note that the server closed its side in good order. */
  void ended() throws IOException {
    if (head != null && head.length() < 0 && chunks == null) {
      finish();
    } else if (began) {
      throw new IOException("the server closed the connection in the middle of its answer");
    }
  }

  private void findHead() throws IOException {
    byte[] bytes = scratch.array();
    int filled = scratch.position();
    for (int end = Math.max(4, searched); end <= filled; end++) {
      if (bytes[end - 1] == '\n'
          && bytes[end - 2] == '\r'
          && bytes[end - 3] == '\n'
          && bytes[end - 4] == '\r') {
        AnswerHead found = AnswerHead.parse(bytes, end);
        scratch.flip().position(end);
        if (found.status() >= 200) {
          begin(found);
          return;
        }
        if (found.status() == 101) {
          throw new IOException("the server switched to another protocol, unasked");
        }
        // 100 Continue and its kind: the answer comes after it.
        scratch.compact();
        filled = scratch.position();
        end = 3;
      }
    }
    searched = filled + 1;
    if (!scratch.hasRemaining()) {
      throw new IOException("the answer has a head of more than " + scratch.capacity() + " bytes");
    }
  }

  private void begin(AnswerHead found) throws IOException {
    head = found;
    body = new AnswerBody(head.status(), head.length(), bytesMax, into);
    if (head.isChunked()) {
      chunks = new ChunkedBody(body);
    }
    gather();
    scratch.compact();
  }

  /** Passes on from the scratch what is the body's. */
  private void gather() throws IOException {
    if (chunks != null) {
      chunks.feed(scratch);
    } else if (head.length() < 0) {
      body.put(scratch);
    } else if (!body.isGivenUp()) {
      int bytes = Math.min(scratch.remaining(), body.room().remaining());
      body.put(scratch.slice(scratch.position(), bytes));
      scratch.position(scratch.position() + bytes);
    }
  }

  private void finishIfWhole() {
    if (head != null && (body.isGivenUp() || (chunks != null && chunks.isDone()))) {
      finish();
    } else if (head != null && head.length() >= 0 && !body.room().hasRemaining()) {
      finish();
    }
  }

  private void finish() {
    // What lies behind the end is nobody's; a connection that brought it is not trusted again.
    overfull = scratch.position() > 0;
    answer = new Answer(head, body.finish());
  }
}
