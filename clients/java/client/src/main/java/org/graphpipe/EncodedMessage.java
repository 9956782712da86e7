package org.graphpipe;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;

/**
 * A message laid out for the wire: buffers that follow one another. Large tensors are the caller's
 * own memory, not a copy, so they must not change until the message has been sent.
 *
 * <p>Instances are immutable and may be shared between threads.
 */
public final class EncodedMessage {
  private final List<ByteBuffer> segments;
  private final int bytes;

  EncodedMessage(List<ByteBuffer> segments, int bytes) {
    this.segments = List.copyOf(segments);
    this.bytes = bytes;
  }

  /**
   * The length of the whole message.
   *
   * @return bytes, below 2<sup>31</sup>
   */
  public int bytes() {
    return bytes;
  }

  /**
   * The message's parts, in order.
   *
   * @return read-only views with positions of their own
   */
  public List<ByteBuffer> segments() {
    return segments.stream().map(ByteBuffer::asReadOnlyBuffer).toList();
  }

  /** The parts themselves; whoever reads them must not move their positions. */
  List<ByteBuffer> segmentsShared() {
    return segments;
  }

  /**
   * Joins the parts, which copies every byte: for tests, files and small messages.
   *
   * @return a fresh buffer, little-endian, at position 0
   */
  public ByteBuffer toByteBuffer() {
    ByteBuffer joined = ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
    for (ByteBuffer segment : segments) {
      joined.put(segment.duplicate());
    }
    return joined.flip();
  }
}
