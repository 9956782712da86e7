package org.graphpipe;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/**
 * Reads messages, and believes nothing: every offset, length and count is checked before it is
 * followed, and whatever is wrong with the bytes ends in a {@link MalformedMessageException}, in
 * nothing else.
 *
 * <p>Offsets, tables and vtables must be aligned; shapes, data and single numbers may start
 * anywhere, since older writers misplace them. Several fields may point to the same bytes, but what
 * they point to may in sum not exceed the message: a small message cannot become a large one.
 *
 * <p>Names and all other text must be UTF-8, and the limits of docs/wire.md hold: 4096 tensors or
 * names in a row, 16 MiB of text, 2<sup>24</sup> strings. An element type of metadata that is not
 * known here is one of a later writer, and read as {@link Type#NULL}.
 *
 * <p>Tensors of numbers look into the buffer that was read; strings are copied out. The buffer's
 * position and limit bound the message and are left alone. {@link Client} does all this by itself;
 * it is public for those who write servers, proxies and tests. All methods may be called by several
 * threads at once.
 */
public final class Reader {
  private final ByteBuffer in;
  private final int size;

  /** What vectors and strings may still hold together, in bytes. */
  private long contentLeft;

  /** What of that may still be names and other text for Java's own strings, in bytes. */
  private int textLeft = Limits.TEXT_BYTES_MAX;

  /** How many strings the tensors may still have. */
  private int stringsLeft = Limits.STRINGS_MAX;

  private Reader(ByteBuffer message) {
    in = message.slice().order(ByteOrder.LITTLE_ENDIAN);
    size = in.limit();
    contentLeft = size;
  }

  /**
   * Reads a request, as a server does.
   *
   * @param message the bytes from its position to its limit
   * @return the request for inference, or empty if the question is what the model takes and gives
   * @throws MalformedMessageException if the bytes are no request
   * @throws UnsupportedMessageException if they are one of a kind that is not known here
   */
  public static Optional<InferRequest> readRequest(ByteBuffer message)
      throws MalformedMessageException, UnsupportedMessageException {
    Reader reader = new Reader(message);
    Table request = reader.root();
    int member = request.byteField(0);
    if (member == 0) {
      throw new MalformedMessageException("a request of no kind");
    }
    if (member > 2) {
      throw new UnsupportedMessageException(
          "a request of kind " + member + "; known are inference (1) and metadata (2)");
    }
    Table body = request.tableField(1);
    if (body == null) {
      throw new MalformedMessageException("the request asks nothing");
    }
    return member == 1 ? Optional.of(inferRequest(body)) : Optional.empty();
  }

  /**
   * Reads an answer to a request for inference.
   *
   * @param message the bytes from its position to its limit
   * @return the outputs, or errors. Where there are outputs, a broken list of errors counts as
   *     none: some old servers write one.
   * @throws MalformedMessageException if the bytes are no such answer
   */
  public static InferResponse readInferResponse(ByteBuffer message)
      throws MalformedMessageException {
    Table response = new Reader(message).root();
    List<Tensor> outputs = response.tables(0, Reader::tensor);
    List<InferResponse.Failure> errors = List.of();
    try {
      errors = response.tables(1, Reader::failure);
    } catch (MalformedMessageException e) {
      if (outputs.isEmpty()) {
        throw e;
      }
    }
    return new InferResponse(outputs, errors);
  }

  /**
   * Reads an answer to the question what a model takes and gives.
   *
   * @param message the bytes from its position to its limit
   * @return the model's description
   * @throws MalformedMessageException if the bytes are no such answer
   */
  public static Metadata readMetadata(ByteBuffer message) throws MalformedMessageException {
    Table metadata = new Reader(message).root();
    return new Metadata(
        metadata.text(0),
        metadata.text(1),
        metadata.text(2),
        metadata.text(3),
        metadata.tables(4, Reader::spec),
        metadata.tables(5, Reader::spec));
  }

  private static InferRequest inferRequest(Table table) throws MalformedMessageException {
    return InferRequest.builder()
        .config(table.text(0))
        .inputNames(table.texts(1))
        .inputs(table.tables(2, Reader::tensor))
        .outputs(table.texts(3))
        .build();
  }

  private static Tensor tensor(Table table) throws MalformedMessageException {
    Type type = table.typeField(0);
    long[] shape = table.longs(1);
    ByteBuffer data = table.bytes(2);
    byte[][] strings = table.strings(3);
    if (table.byteField(4) != 0 && type != Type.UINT8) {
      throw new MalformedMessageException(
          "a tensor of " + type + " is marked as bool; only uint8 carries bool");
    }
    try {
      return Tensor.received(type, data, strings, shape);
    } catch (IllegalArgumentException e) {
      throw new MalformedMessageException(e.getMessage());
    }
  }

  private static InferResponse.Failure failure(Table table) throws MalformedMessageException {
    return new InferResponse.Failure(table.longField(0), table.text(1));
  }

  private static TensorSpec spec(Table table) throws MalformedMessageException {
    try {
      int number = table.byteField(3);
      Type type = Type.byNumber(number); // null for one of a later writer
      return new TensorSpec(
          table.text(0),
          table.text(1),
          table.longs(2),
          type == null ? Type.NULL : type,
          type == null ? number : 0);
    } catch (IllegalArgumentException e) {
      throw new MalformedMessageException(e.getMessage());
    }
  }

  /** What becomes of one table of a vector. */
  @FunctionalInterface
  private interface TableReader<T> {
    T read(Table table) throws MalformedMessageException;
  }

  private Table root() throws MalformedMessageException {
    return new Table(target(0));
  }

  private void require(boolean held, String what, long position) throws MalformedMessageException {
    if (!held) {
      throw new MalformedMessageException(
          "%s at byte %d of a message of %d bytes".formatted(what, position, size));
    }
  }

  private void requireInside(long position, long bytes, String what)
      throws MalformedMessageException {
    require(position >= 0 && position + bytes <= size, what, position);
  }

  /** Follows the offset at {@code position} to something that holds at least four bytes. */
  private int target(int position) throws MalformedMessageException {
    requireInside(position, 4, "offset past the end");
    require(position % 4 == 0, "unaligned offset", position);
    long offset = Integer.toUnsignedLong(in.getInt(position));
    require(offset != 0, "empty offset", position);
    requireInside(position + offset, 4, "target of an offset past the end");
    return (int) (position + offset);
  }

  /** The number of elements of the vector at {@code position}, all of them inside the message. */
  private int count(int position, int elementBytes) throws MalformedMessageException {
    long count = Integer.toUnsignedLong(in.getInt(position));
    long bytes = count * elementBytes;
    requireInside(position + 4L, bytes, "vector past the end");
    contentLeft -= bytes;
    require(contentLeft >= 0, "more content than message", position);
    return (int) count;
  }

  /** The number of elements of a vector of offsets. */
  private int offsets(int position, int max) throws MalformedMessageException {
    require(position % 4 == 0, "unaligned vector of offsets", position);
    int count = count(position, 4);
    require(count <= max, "vector of too many elements", position);
    return count;
  }

  private byte[] string(int position) throws MalformedMessageException {
    byte[] bytes = new byte[count(position, 1)];
    in.get(position + 4, bytes);
    return bytes;
  }

  private String text(int position) throws MalformedMessageException {
    byte[] bytes = string(position);
    textLeft -= bytes.length;
    require(textLeft >= 0, "more than 16 MiB of text", position);
    String text = new String(bytes, StandardCharsets.UTF_8);
    // The replacement character is either what was written or what stands for what is no UTF-8.
    require(
        text.indexOf('\ufffd') < 0 || Arrays.equals(bytes, text.getBytes(StandardCharsets.UTF_8)),
        "text that is not UTF-8",
        position);
    return text;
  }

  /** One table, whose fields are counted from 0 in the schema's order. */
  private final class Table {
    private final int start;
    private final int bytes;
    private final int vtable;
    private final int vtableBytes;

    /** Checks the table that starts at a byte inside the message. */
    Table(int start) throws MalformedMessageException {
      require(start % 4 == 0, "unaligned table", start);
      this.start = start;
      long vtablePosition = (long) start - in.getInt(start);
      requireInside(vtablePosition, 4, "vtable past the end");
      require(vtablePosition % 2 == 0, "unaligned vtable", vtablePosition);
      vtable = (int) vtablePosition;
      vtableBytes = Short.toUnsignedInt(in.getShort(vtable));
      require(vtableBytes >= 4 && vtableBytes % 2 == 0, "vtable of odd size", vtable);
      requireInside(vtable, vtableBytes, "vtable past the end");
      bytes = Short.toUnsignedInt(in.getShort(vtable + 2));
      require(bytes >= 4, "table too small", start);
      requireInside(start, bytes, "table past the end");
    }

    /** Where a field lies in the message; 0 if it is not there. */
    private int field(int index, int fieldBytes) throws MalformedMessageException {
      int entry = 4 + 2 * index;
      if (entry + 2 > vtableBytes) {
        return 0;
      }
      int place = Short.toUnsignedInt(in.getShort(vtable + entry));
      if (place == 0) {
        return 0;
      }
      require(place >= 4 && place + fieldBytes <= bytes, "field outside its table", start);
      return start + place;
    }

    /** What an offset field points to; 0 if it is not there. */
    private int reference(int index) throws MalformedMessageException {
      int field = field(index, 4);
      return field == 0 ? 0 : target(field);
    }

    int byteField(int index) throws MalformedMessageException {
      int field = field(index, 1);
      return field == 0 ? 0 : Byte.toUnsignedInt(in.get(field));
    }

    long longField(int index) throws MalformedMessageException {
      int field = field(index, 8);
      return field == 0 ? 0 : in.getLong(field);
    }

    Type typeField(int index) throws MalformedMessageException {
      int number = byteField(index);
      Type type = Type.byNumber(number);
      require(type != null, "unknown type of a tensor", start);
      return type;
    }

    Table tableField(int index) throws MalformedMessageException {
      int table = reference(index);
      return table == 0 ? null : new Table(table);
    }

    String text(int index) throws MalformedMessageException {
      int string = reference(index);
      return string == 0 ? "" : Reader.this.text(string);
    }

    long[] longs(int index) throws MalformedMessageException {
      int vector = reference(index);
      if (vector == 0) {
        return new long[0];
      }
      int count = count(vector, 8);
      require(count <= Limits.DIMS_MAX, "shape of more than 32 dims", vector);
      long[] values = new long[count];
      for (int i = 0; i < count; i++) {
        values[i] = in.getLong(vector + 4 + 8 * i);
      }
      return values;
    }

    ByteBuffer bytes(int index) throws MalformedMessageException {
      int vector = reference(index);
      return vector == 0 ? in.slice(0, 0) : in.slice(vector + 4, count(vector, 1));
    }

    byte[][] strings(int index) throws MalformedMessageException {
      int vector = reference(index);
      if (vector == 0) {
        return new byte[0][];
      }
      int count = offsets(vector, stringsLeft);
      stringsLeft -= count;
      byte[][] strings = new byte[count][];
      for (int i = 0; i < count; i++) {
        strings[i] = string(target(vector + 4 + 4 * i));
      }
      return strings;
    }

    List<String> texts(int index) throws MalformedMessageException {
      int vector = reference(index);
      if (vector == 0) {
        return List.of();
      }
      int count = offsets(vector, Limits.ENTRIES_MAX);
      List<String> texts = new ArrayList<>(count);
      for (int i = 0; i < count; i++) {
        texts.add(Reader.this.text(target(vector + 4 + 4 * i)));
      }
      return texts;
    }

    <T> List<T> tables(int index, TableReader<T> reader) throws MalformedMessageException {
      int vector = reference(index);
      if (vector == 0) {
        return List.of();
      }
      int count = offsets(vector, Limits.ENTRIES_MAX);
      List<T> values = new ArrayList<>(count);
      for (int i = 0; i < count; i++) {
        values.add(reader.read(new Table(target(vector + 4 + 4 * i))));
      }
      return values;
    }
  }
}
