package org.graphpipe;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.ShortBuffer;

/** Numbers into a tensor's memory, and out of it as Java's widest types. */
final class Numbers {
  private Numbers() {}

  /** The numbers of a buffer, whatever its byte order, in little-endian memory of their own. */
  static ByteBuffer copy(ShortBuffer values) {
    ByteBuffer data = room(values.remaining(), Type.INT16);
    data.asShortBuffer().put(values.duplicate());
    return data;
  }

  static ByteBuffer copy(IntBuffer values) {
    ByteBuffer data = room(values.remaining(), Type.INT32);
    data.asIntBuffer().put(values.duplicate());
    return data;
  }

  static ByteBuffer copy(LongBuffer values) {
    ByteBuffer data = room(values.remaining(), Type.INT64);
    data.asLongBuffer().put(values.duplicate());
    return data;
  }

  static ByteBuffer copy(FloatBuffer values) {
    ByteBuffer data = room(values.remaining(), Type.FLOAT32);
    data.asFloatBuffer().put(values.duplicate());
    return data;
  }

  static ByteBuffer copy(DoubleBuffer values) {
    ByteBuffer data = room(values.remaining(), Type.FLOAT64);
    data.asDoubleBuffer().put(values.duplicate());
    return data;
  }

  /** Little-endian memory for so many elements. */
  private static ByteBuffer room(int elements, Type type) {
    long bytes = (long) elements * type.elementBytes();
    if (bytes > Integer.MAX_VALUE - 8) {
      throw new IllegalArgumentException(elements + " elements of " + type + " reach 2 GiB");
    }
    return ByteBuffer.allocate((int) bytes).order(ByteOrder.LITTLE_ENDIAN);
  }

  /** Numbers of {@link Type#FLOAT32} or {@link Type#FLOAT16}, exactly. */
  static float[] toFloats(Type type, ByteBuffer data, int elements) {
    float[] values = new float[elements];
    if (type == Type.FLOAT32) {
      data.asFloatBuffer().get(values);
      return values;
    }
    for (int i = 0; i < elements; i++) {
      values[i] = Float16.toFloat(data.getShort(2 * i));
    }
    return values;
  }

  /** Numbers of any type; only 64-bit integers beyond 2<sup>53</sup> are rounded. */
  static double[] toDoubles(Type type, ByteBuffer data, int elements) {
    double[] values = new double[elements];
    for (int i = 0; i < elements; i++) {
      values[i] =
          switch (type) {
            case FLOAT16 -> Float16.toFloat(data.getShort(2 * i));
            case FLOAT32 -> data.getFloat(4 * i);
            case FLOAT64 -> data.getDouble(8 * i);
            case UINT64 -> unsignedToDouble(data.getLong(8 * i));
            default -> integer(type, data, i);
          };
    }
    return values;
  }

  /** Integers; those of {@link Type#UINT64} as their bits. */
  static long[] toLongs(Type type, ByteBuffer data, int elements) {
    long[] values = new long[elements];
    for (int i = 0; i < elements; i++) {
      values[i] = integer(type, data, i);
    }
    return values;
  }

  private static long integer(Type type, ByteBuffer data, int i) {
    return switch (type) {
      case UINT8 -> Byte.toUnsignedLong(data.get(i));
      case INT8 -> data.get(i);
      case UINT16 -> Short.toUnsignedLong(data.getShort(2 * i));
      case INT16 -> data.getShort(2 * i);
      case UINT32 -> Integer.toUnsignedLong(data.getInt(4 * i));
      case INT32 -> data.getInt(4 * i);
      case UINT64, INT64 -> data.getLong(8 * i);
      default -> throw new IllegalStateException(type + " is no integer type");
    };
  }

  private static double unsignedToDouble(long bits) {
    // Halved with the lost bit kept sticky, so that the one rounding is the right one.
    return bits >= 0 ? bits : 2.0 * (bits >>> 1 | bits & 1);
  }
}
