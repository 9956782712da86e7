package org.graphpipe;

import com.google.flatbuffers.FlatBufferBuilder;
import com.google.flatbuffers.Table;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;

/** Reads and writes messages with the official FlatBuffers runtime, to hold ours against it. */
final class Oracle {
  private Oracle() {}

  /** A table of any kind: fields by their place in the schema. */
  static final class View extends Table {
    private View(ByteBuffer buffer, int position) {
      __reset(position, buffer);
    }

    static View root(ByteBuffer message) {
      ByteBuffer buffer = message.slice().order(ByteOrder.LITTLE_ENDIAN);
      return new View(buffer, buffer.getInt(0));
    }

    private int field(int index) {
      return __offset(4 + 2 * index);
    }

    boolean has(int index) {
      return field(index) != 0;
    }

    int byteAt(int index) {
      return has(index) ? bb.get(bb_pos + field(index)) : 0;
    }

    long longAt(int index) {
      return has(index) ? bb.getLong(bb_pos + field(index)) : 0;
    }

    View table(int index) {
      return new View(bb, __indirect(bb_pos + field(index)));
    }

    String text(int index) {
      return __string(bb_pos + field(index));
    }

    int length(int index) {
      return __vector_len(field(index));
    }

    /** Where the vector's elements lie in the message. */
    int start(int index) {
      return __vector(field(index));
    }

    View element(int index, int i) {
      return new View(bb, __indirect(start(index) + 4 * i));
    }

    byte[] string(int index, int i) {
      int place = start(index) + 4 * i;
      int string = place + bb.getInt(place);
      byte[] bytes = new byte[bb.getInt(string)];
      bb.get(string + 4, bytes);
      if (bb.get(string + 4 + bytes.length) != 0) {
        throw new AssertionError("no NUL after a string");
      }
      return bytes;
    }

    long[] longs(int index) {
      long[] values = new long[length(index)];
      for (int i = 0; i < values.length; i++) {
        values[i] = bb.getLong(start(index) + 8 * i);
      }
      return values;
    }

    byte[] bytes(int index) {
      byte[] values = new byte[length(index)];
      bb.get(start(index), values);
      return values;
    }

    Tensor tensor() {
      Type type = Type.byNumber(byteAt(0));
      if (type != Type.STRING) {
        return Tensor.wrap(
            type, ByteBuffer.wrap(bytes(2)).order(ByteOrder.LITTLE_ENDIAN), longs(1));
      }
      byte[][] strings = new byte[length(3)][];
      for (int i = 0; i < strings.length; i++) {
        strings[i] = string(3, i);
      }
      return Tensor.ofStrings(strings, longs(1));
    }

    List<Tensor> tensors(int index) {
      List<Tensor> tensors = new ArrayList<>();
      for (int i = 0; i < length(index); i++) {
        tensors.add(element(index, i).tensor());
      }
      return tensors;
    }

    List<String> texts(int index) {
      List<String> texts = new ArrayList<>();
      for (int i = 0; i < length(index); i++) {
        texts.add(__string(start(index) + 4 * i));
      }
      return texts;
    }
  }

  static ByteBuffer request(InferRequest request) {
    FlatBufferBuilder builder = new FlatBufferBuilder();
    int config = builder.createString(request.config());
    int names = texts(builder, request.inputNames());
    int inputs = tensors(builder, request.inputs());
    int outputs = texts(builder, request.outputNames());
    builder.startTable(4);
    builder.addOffset(0, config, 0);
    builder.addOffset(1, names, 0);
    builder.addOffset(2, inputs, 0);
    builder.addOffset(3, outputs, 0);
    int body = builder.endTable();
    builder.startTable(2);
    builder.addByte(0, (byte) 1, 0);
    builder.addOffset(1, body, 0);
    builder.finish(builder.endTable());
    return builder.dataBuffer();
  }

  static ByteBuffer response(InferResponse response) {
    FlatBufferBuilder builder = new FlatBufferBuilder();
    int outputs = tensors(builder, response.outputs());
    int[] errors = new int[response.errors().size()];
    for (int i = 0; i < errors.length; i++) {
      int message = builder.createString(response.errors().get(i).message());
      builder.startTable(2);
      builder.addLong(0, response.errors().get(i).code(), 0);
      builder.addOffset(1, message, 0);
      errors[i] = builder.endTable();
    }
    int errorVector = builder.createVectorOfTables(errors);
    builder.startTable(2);
    builder.addOffset(0, outputs, 0);
    builder.addOffset(1, errorVector, 0);
    builder.finish(builder.endTable());
    return builder.dataBuffer();
  }

  private static int texts(FlatBufferBuilder builder, List<String> texts) {
    return builder.createVectorOfTables(texts.stream().mapToInt(builder::createString).toArray());
  }

  private static int tensors(FlatBufferBuilder builder, List<Tensor> tensors) {
    int[] tables = new int[tensors.size()];
    for (int t = 0; t < tables.length; t++) {
      Tensor tensor = tensors.get(t);
      int content;
      if (tensor.type() == Type.STRING) {
        content =
            builder.createVectorOfTables(
                tensor.strings().stream().mapToInt(builder::createByteVector).toArray());
      } else {
        content = builder.createByteVector(tensor.data());
      }
      long[] shape = tensor.shape();
      builder.startVector(8, shape.length, 8);
      for (int i = shape.length - 1; i >= 0; i--) {
        builder.addLong(shape[i]);
      }
      int shapeVector = builder.endVector();
      builder.startTable(4);
      builder.addByte(0, (byte) tensor.type().ordinal(), 0);
      builder.addOffset(1, shapeVector, 0);
      builder.addOffset(tensor.type() == Type.STRING ? 3 : 2, content, 0);
      tables[t] = builder.endTable();
    }
    return builder.createVectorOfTables(tables);
  }
}
