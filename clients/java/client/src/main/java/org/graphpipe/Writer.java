package org.graphpipe;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Lays messages out for the wire, front to back: tables first, the bytes of tensors last.
 *
 * <p>FlatBuffers offsets only point forward, so a table is written with empty places for its
 * offsets, and each place is filled when what it points to is written. Large tensors become
 * segments of their own, which are the caller's memory. Each numeric tensor's first byte lies at a
 * multiple of 64 from the message's start, so that a receiver whose buffer is aligned gets aligned
 * tensors. Strings always end in a NUL that their length does not count; shapes and data are
 * written even when they are empty, errors only where there are some.
 *
 * <p>{@link Client} does this by itself; it is public for those who write servers, proxies and
 * tests. All methods may be called by several threads at once.
 */
public final class Writer {
  /** Where a tensor's first byte lies: at a multiple of this. */
  private static final int DATA_ALIGNMENT = 64;

  /** Payloads up to this size are copied beside the tables; a segment of its own costs more. */
  private static final int COPY_BYTES_MAX = 16 * 1024;

  // The first number of a vtable is its own size, the second its table's, then each field's place
  // in
  // the table; 0 is a field that is not there.
  private static final short[] REQUEST = {8, 12, 8, 4};
  private static final short[] INFER_REQUEST = {12, 20, 4, 8, 12, 16};
  private static final short[] METADATA_REQUEST = {4, 4};
  private static final short[] INFER_RESPONSE = {6, 8, 4};
  private static final short[] FAILED_INFER_RESPONSE = {8, 12, 4, 8};
  private static final short[] ERROR = {8, 16, 8, 4};
  private static final short[] METADATA_RESPONSE = {16, 28, 4, 8, 12, 16, 20, 24};
  private static final short[] IO_METADATA = {12, 20, 4, 8, 12, 16};
  private static final short[] TENSOR = {10, 16, 12, 4, 8};
  private static final short[] STRING_TENSOR = {12, 16, 12, 4, 0, 8};

  private static final int INFER_REQUEST_MEMBER = 1;
  private static final int METADATA_REQUEST_MEMBER = 2;

  private final List<Payload> payloads = new ArrayList<>();
  private final List<Far> fars = new ArrayList<>();

  /** Everything that is in no segment of its own. Up to the first such one: the message. */
  private ByteBuffer near = ByteBuffer.allocate(512).order(ByteOrder.LITTLE_ENDIAN);

  private int farBytes;

  private long textBytes;

  private long strings; // of tensors

  private Writer() {}

  /** A tensor's content, to be written after all tables, and the places of the offsets to it. */
  private record Payload(Tensor tensor, int place) {}

  /** Bytes that are a segment of their own, after so many bytes of {@link #near}. */
  private record Far(int nearBytesBefore, ByteBuffer bytes) {}

  /**
   * Lays out a request for inference.
   *
   * @param request the request
   * @return the message; it borrows the memory of large tensors
   * @throws IllegalArgumentException if a text has no UTF-8 form, or there is more of anything than
   *     a message may hold
   */
  public static EncodedMessage write(InferRequest request) {
    Writer writer = new Writer();
    int table = writer.request(INFER_REQUEST_MEMBER, INFER_REQUEST);
    writer.text(table + 4, request.config());
    writer.names(table + 8, request.inputNames());
    writer.tensors(table + 12, request.inputs());
    writer.names(table + 16, request.outputNames());
    return writer.finish();
  }

  /**
   * Lays out the question what a model takes and gives.
   *
   * @return the message
   */
  public static EncodedMessage metadataRequest() {
    Writer writer = new Writer();
    writer.request(METADATA_REQUEST_MEMBER, METADATA_REQUEST);
    return writer.finish();
  }

  /**
   * Lays out an answer to a request for inference.
   *
   * @param response the outputs or errors
   * @return the message; it borrows the memory of large tensors
   * @throws IllegalArgumentException if a text has no UTF-8 form, or there is more of anything than
   *     a message may hold
   */
  public static EncodedMessage write(InferResponse response) {
    Writer writer = new Writer();
    // The originals take the presence of errors for a failure.
    boolean failed = !response.errors().isEmpty();
    int table = writer.root(failed ? FAILED_INFER_RESPONSE : INFER_RESPONSE);
    writer.tensors(table + 4, response.outputs());
    if (failed) {
      int place = writer.entries(table + 8, response.errors().size());
      for (InferResponse.Failure failure : response.errors()) {
        int error = writer.table(place, ERROR);
        writer.near.putLong(error + 8, failure.code());
        writer.text(error + 4, failure.message());
        place += 4;
      }
    }
    return writer.finish();
  }

  /**
   * Lays out what a model takes and gives.
   *
   * @param metadata the model's description
   * @return the message
   * @throws IllegalArgumentException if a text has no UTF-8 form, or there is more of anything than
   *     a message may hold
   */
  public static EncodedMessage write(Metadata metadata) {
    Writer writer = new Writer();
    int table = writer.root(METADATA_RESPONSE);
    writer.text(table + 4, metadata.name());
    writer.text(table + 8, metadata.version());
    writer.text(table + 12, metadata.server());
    writer.text(table + 16, metadata.description());
    writer.specs(table + 20, metadata.inputs());
    writer.specs(table + 24, metadata.outputs());
    return writer.finish();
  }

  /** Text in UTF-8, refusing what has no UTF-8 form instead of sending question marks. */
  static byte[] utf8(String text) {
    if (text.chars().noneMatch(c -> Character.isSurrogate((char) c))) {
      return text.getBytes(StandardCharsets.UTF_8);
    }
    try {
      ByteBuffer bytes = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text));
      return Arrays.copyOfRange(bytes.array(), 0, bytes.limit());
    } catch (CharacterCodingException e) {
      throw new IllegalArgumentException("text with half a surrogate pair has no UTF-8 form", e);
    }
  }

  private int root(short[] vtable) {
    reserve(4).putInt(0);
    return table(0, vtable);
  }

  private int request(int member, short[] memberVtable) {
    int table = root(REQUEST);
    near.put(table + 8, (byte) member);
    return table(table + 4, memberVtable);
  }

  /** Writes a vtable and its table, all zero, and points {@code place} to it. */
  private int table(int place, short[] vtable) {
    int bytes = vtable[0] + vtable[1];
    reserve(bytes + 8);
    // Tables start at multiples of 8, since one of them holds an int64.
    pad(8, Math.floorMod(-vtable[0], 8));
    int start = near.position();
    for (short entry : vtable) {
      near.putShort(entry);
    }
    int table = near.position();
    point(place, table);
    near.putInt(table - start);
    near.position(table + vtable[1]);
    return table;
  }

  /** Writes a vector of empty offsets and returns the first one's place. */
  private int vector(int place, int count) {
    // Asked for before it is made, so that a count that cannot fit costs nothing.
    reserve(4L + 4L * count + 4);
    pad(4, 0);
    point(place, near.position());
    near.putInt(count);
    int first = near.position();
    near.position(first + 4 * count);
    return first;
  }

  private int entries(int place, int count) {
    if (count > Limits.ENTRIES_MAX) {
      throw new IllegalArgumentException(
          "%d tensors, names or errors in a row; a message holds %d"
              .formatted(count, Limits.ENTRIES_MAX));
    }
    return vector(place, count);
  }

  private void text(int place, String text) {
    byte[] bytes = utf8(text);
    textBytes += bytes.length;
    if (textBytes > Limits.TEXT_BYTES_MAX) {
      throw new IllegalArgumentException("more than 16 MiB of names, config and other text");
    }
    reserve(4L + 4 + bytes.length + 1);
    pad(4, 0);
    point(place, near.position());
    near.putInt(bytes.length).put(bytes).put((byte) 0);
  }

  private void names(int place, List<String> names) {
    int element = entries(place, names.size());
    for (String name : names) {
      text(element, name);
      element += 4;
    }
  }

  private void shape(int place, long[] shape) {
    reserve(12 + 8L * shape.length);
    pad(8, 4);
    point(place, near.position());
    near.putInt(shape.length);
    for (long dim : shape) {
      near.putLong(dim);
    }
  }

  private void specs(int place, List<TensorSpec> specs) {
    int element = entries(place, specs.size());
    for (TensorSpec spec : specs) {
      int table = table(element, IO_METADATA);
      near.put(table + 16, (byte) spec.type().ordinal());
      text(table + 4, spec.name());
      text(table + 8, spec.description());
      shape(table + 12, spec.shape());
      element += 4;
    }
  }

  private void tensors(int place, List<Tensor> tensors) {
    int element = entries(place, tensors.size());
    for (Tensor tensor : tensors) {
      boolean isString = tensor.type() == Type.STRING;
      int table = table(element, isString ? STRING_TENSOR : TENSOR);
      near.put(table + 12, (byte) tensor.type().ordinal());
      shape(table + 4, tensor.shapeShared());
      int content = table + 8;
      if (isString) {
        strings += tensor.elements();
        if (strings > Limits.STRINGS_MAX) {
          throw new IllegalArgumentException("the tensors have more than 16777216 strings");
        }
        content = vector(content, tensor.elements());
      }
      payloads.add(new Payload(tensor, content));
      element += 4;
    }
  }

  private EncodedMessage finish() {
    // From here on the places to fill all lie before the first segment, where near is the message.
    for (Payload payload : payloads) {
      if (payload.tensor.type() == Type.STRING) {
        int element = payload.place;
        for (byte[] bytes : payload.tensor.stringsShared()) {
          payload(element, ByteBuffer.wrap(bytes), 4);
          reserve(1).put((byte) 0);
          element += 4;
        }
      } else {
        payload(payload.place, payload.tensor.data(), DATA_ALIGNMENT);
      }
    }
    List<ByteBuffer> segments = new ArrayList<>(2 * fars.size() + 1);
    int start = 0;
    for (Far far : fars) {
      segments.add(near.slice(start, far.nearBytesBefore - start));
      segments.add(far.bytes);
      start = far.nearBytesBefore;
    }
    if (near.position() > start) {
      segments.add(near.slice(start, near.position() - start));
    }
    return new EncodedMessage(segments, position());
  }

  /** Writes a length and bytes, the first of them at a multiple of {@code alignment}. */
  private void payload(int place, ByteBuffer bytes, int alignment) {
    int count = bytes.remaining();
    boolean copied = count <= COPY_BYTES_MAX;
    reserve(alignment + 4L + (copied ? count : 0));
    pad(alignment, alignment - 4);
    point(place, position());
    near.putInt(count);
    if (copied) {
      near.put(bytes);
      return;
    }
    requireMessageBytes(position() + (long) count);
    fars.add(new Far(near.position(), bytes));
    farBytes += count;
  }

  private int position() {
    return near.position() + farBytes;
  }

  private void point(int place, int target) {
    near.putInt(place, target - place);
  }

  /** Writes zeros up to the next position that leaves {@code remainder} modulo {@code modulus}. */
  private void pad(int modulus, int remainder) {
    // The buffer is all zeros and written once.
    near.position(near.position() + Math.floorMod(remainder - position(), modulus));
  }

  /** Sees to it that so many more bytes fit. */
  private ByteBuffer reserve(long bytes) {
    requireMessageBytes(position() + bytes);
    if (near.remaining() < bytes) {
      long wanted = near.position() + bytes;
      int capacity = (int) Math.min(Integer.MAX_VALUE - 8, Math.max(wanted, near.capacity() * 2L));
      near = ByteBuffer.allocate(capacity).order(ByteOrder.LITTLE_ENDIAN).put(near.flip());
    }
    return near;
  }

  private static void requireMessageBytes(long bytes) {
    if (bytes > Integer.MAX_VALUE - 8) {
      throw new IllegalArgumentException("the message reaches 2 GiB: send it in parts");
    }
  }
}
