package org.graphpipe;

import java.lang.reflect.Array;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;

/** Java's nested arrays to tensors and back. */
final class NestedArrays {
  private NestedArrays() {}

  /** The tensor of a nested array; {@code type} null means the array's own. */
  static Tensor toTensor(Type type, Object nested) {
    Class<?> leaf = leafClass(nested.getClass(), type == Type.STRING);
    Type leafType = type != null ? type : typeOf(leaf);
    long[] shape = shape(nested, leaf);
    if (leafType == Type.STRING) {
      byte[][] strings = new byte[Shape.elements(shape, Type.STRING)][];
      gatherStrings(nested, leaf, shape, 0, strings, 0);
      return Tensor.ofStrings(strings, shape);
    }
    requireWidth(leafType, leaf);
    int count = Shape.elements(shape, leafType);
    ByteBuffer data =
        ByteBuffer.allocate(count * leafType.elementBytes()).order(ByteOrder.LITTLE_ENDIAN);
    gather(nested, leaf, shape, 0, data);
    return Tensor.wrap(leafType, data.flip(), shape);
  }

  /** The elements as nested arrays; a scalar as one boxed element. */
  static Object fromTensor(Tensor tensor) {
    Class<?> leaf = leafOf(tensor.type());
    long[] shape = tensor.shapeShared();
    if (shape.length == 0) {
      return tensor.type() == Type.STRING
          ? tensor.stringsShared()[0]
          : Array.get(take(tensor.data(), leaf, 1), 0);
    }
    int[] lengths = new int[shape.length];
    for (int dim = 0; dim < shape.length; dim++) {
      lengths[dim] = (int) shape[dim]; // Shape has seen to it that this fits
    }
    if (tensor.type() == Type.STRING) {
      return scatterStrings(lengths, 0, tensor.stringsShared(), new int[1]);
    }
    return scatter(lengths, 0, tensor.data(), leaf);
  }

  /** The little-endian bytes of a primitive array. */
  static ByteBuffer toBytes(Type type, Object values) {
    Class<?> leaf = values.getClass().getComponentType();
    if (leaf == null || !leaf.isPrimitive()) {
      throw new IllegalArgumentException(
          "expected a primitive array, got " + values.getClass().getTypeName());
    }
    requireWidth(type, leaf);
    long bytes = (long) Array.getLength(values) * type.elementBytes();
    if (bytes > Integer.MAX_VALUE) {
      throw new IllegalArgumentException(
          Array.getLength(values) + " elements of " + type + " reach 2 GiB");
    }
    ByteBuffer data = ByteBuffer.allocate((int) bytes).order(ByteOrder.LITTLE_ENDIAN);
    put(values, data);
    return data.flip();
  }

  /** The class below the nesting: a primitive, String, or byte[] where these are the elements. */
  private static Class<?> leafClass(Class<?> nested, boolean bytesAreElements) {
    Class<?> leaf = nested;
    while (leaf.isArray() && !(bytesAreElements && leaf == byte[].class)) {
      leaf = leaf.getComponentType();
    }
    return leaf;
  }

  private static Type typeOf(Class<?> leaf) {
    if (leaf == boolean.class || leaf == Boolean.class) {
      return Type.UINT8;
    } else if (leaf == byte.class || leaf == Byte.class) {
      return Type.INT8;
    } else if (leaf == short.class || leaf == Short.class) {
      return Type.INT16;
    } else if (leaf == int.class || leaf == Integer.class) {
      return Type.INT32;
    } else if (leaf == long.class || leaf == Long.class) {
      return Type.INT64;
    } else if (leaf == float.class || leaf == Float.class) {
      return Type.FLOAT32;
    } else if (leaf == double.class || leaf == Double.class) {
      return Type.FLOAT64;
    } else if (leaf == String.class) {
      return Type.STRING;
    }
    throw new IllegalArgumentException("no tensor type for elements of " + leaf.getTypeName());
  }

  private static Class<?> leafOf(Type type) {
    return switch (type) {
      case UINT8, INT8 -> byte.class;
      case UINT16, INT16, FLOAT16 -> short.class;
      case UINT32, INT32 -> int.class;
      case UINT64, INT64 -> long.class;
      case FLOAT32 -> float.class;
      case FLOAT64 -> double.class;
      case STRING -> byte[].class;
      case NULL -> throw new IllegalStateException("a tensor without a type has no elements");
    };
  }

  /** An array's class must be the one that carries the type, or boolean for UINT8. */
  private static void requireWidth(Type type, Class<?> leaf) {
    boolean fits =
        type.isNumeric()
            && (leafOf(type) == leaf
                || leafOf(type) == unboxed(leaf)
                || type == Type.UINT8 && unboxed(leaf) == boolean.class);
    if (!fits) {
      throw new IllegalArgumentException(
          "elements of " + leaf.getTypeName() + " do not make a tensor of " + type);
    }
  }

  private static Class<?> unboxed(Class<?> leaf) {
    if (leaf.isPrimitive() || leaf.isArray()) {
      return leaf;
    }
    return leaf == Boolean.class ? boolean.class : leafOf(typeOf(leaf));
  }

  private static long[] shape(Object nested, Class<?> leaf) {
    int dims = 0;
    for (Class<?> level = nested.getClass(); level != leaf; level = level.getComponentType()) {
      dims++;
    }
    long[] shape = new long[dims];
    Object row = nested;
    for (int dim = 0; dim < dims; dim++) {
      shape[dim] = Array.getLength(row);
      if (shape[dim] == 0) {
        break; // the dims below cannot be seen: 0
      }
      if (dim + 1 < dims) {
        row = requireRow(Array.get(row, 0));
      }
    }
    return shape;
  }

  static <T> T requireRow(T row) {
    if (row == null) {
      throw new IllegalArgumentException("a row or element is null");
    }
    return row;
  }

  private static void requireLength(Object row, long[] shape, int dim) {
    if (Array.getLength(requireRow(row)) != shape[dim]) {
      throw new IllegalArgumentException(
          "rows of dim %d differ in length: %d and %d"
              .formatted(dim, shape[dim], Array.getLength(row)));
    }
  }

  private static void gather(Object nested, Class<?> leaf, long[] shape, int dim, ByteBuffer data) {
    if (dim == shape.length) {
      Object one = Array.newInstance(unboxed(leaf), 1);
      Array.set(one, 0, nested);
      put(one, data);
      return;
    }
    requireLength(nested, shape, dim);
    if (dim == shape.length - 1 && leaf.isPrimitive()) {
      put(nested, data);
      return;
    }
    for (int i = 0; i < shape[dim]; i++) {
      gather(requireRow(Array.get(nested, i)), leaf, shape, dim + 1, data);
    }
  }

  private static int gatherStrings(
      Object nested, Class<?> leaf, long[] shape, int dim, byte[][] strings, int count) {
    if (dim == shape.length) {
      if (nested instanceof byte[] bytes) {
        strings[count] = bytes;
      } else if (nested instanceof String text) {
        strings[count] = Writer.utf8(text);
      } else {
        throw new IllegalArgumentException(
            "elements of " + leaf.getTypeName() + " do not make a tensor of string");
      }
      return count + 1;
    }
    requireLength(nested, shape, dim);
    int filled = count;
    for (int i = 0; i < shape[dim]; i++) {
      Object row = requireRow(Array.get(nested, i));
      filled = gatherStrings(row, leaf, shape, dim + 1, strings, filled);
    }
    return filled;
  }

  private static void put(Object values, ByteBuffer data) {
    if (values instanceof byte[] bytes) {
      data.put(bytes);
      return;
    }
    if (values instanceof boolean[] booleans) {
      for (boolean value : booleans) {
        data.put((byte) (value ? 1 : 0));
      }
      return;
    }
    int before = data.position();
    if (values instanceof short[] shorts) {
      data.asShortBuffer().put(shorts);
      data.position(before + 2 * shorts.length);
    } else if (values instanceof int[] ints) {
      data.asIntBuffer().put(ints);
      data.position(before + 4 * ints.length);
    } else if (values instanceof long[] longs) {
      data.asLongBuffer().put(longs);
      data.position(before + 8 * longs.length);
    } else if (values instanceof float[] floats) {
      data.asFloatBuffer().put(floats);
      data.position(before + 4 * floats.length);
    } else if (values instanceof double[] doubles) {
      data.asDoubleBuffer().put(doubles);
      data.position(before + 8 * doubles.length);
    }
  }

  /** The next {@code count} elements as a primitive array. */
  private static Object take(ByteBuffer data, Class<?> leaf, int count) {
    Object values = Array.newInstance(leaf, count);
    int width;
    if (values instanceof byte[] bytes) {
      data.get(data.position(), bytes);
      width = 1;
    } else if (values instanceof short[] shorts) {
      data.asShortBuffer().get(shorts);
      width = 2;
    } else if (values instanceof int[] ints) {
      data.asIntBuffer().get(ints);
      width = 4;
    } else if (values instanceof long[] longs) {
      data.asLongBuffer().get(longs);
      width = 8;
    } else if (values instanceof float[] floats) {
      data.asFloatBuffer().get(floats);
      width = 4;
    } else {
      data.asDoubleBuffer().get((double[]) values);
      width = 8;
    }
    data.position(data.position() + count * width);
    return values;
  }

  private static Object scatter(int[] lengths, int dim, ByteBuffer data, Class<?> leaf) {
    if (dim == lengths.length - 1) {
      return take(data, leaf, lengths[dim]);
    }
    int[] below = Arrays.copyOfRange(lengths, dim, lengths.length);
    Object rows = newArray(leaf, below);
    for (int i = 0; i < lengths[dim]; i++) {
      Array.set(rows, i, scatter(lengths, dim + 1, data, leaf));
    }
    return rows;
  }

  private static Object scatterStrings(int[] lengths, int dim, byte[][] strings, int[] taken) {
    int[] below = Arrays.copyOfRange(lengths, dim, lengths.length);
    Object rows = newArray(byte[].class, below);
    for (int i = 0; i < lengths[dim]; i++) {
      Object row =
          dim == lengths.length - 1
              ? strings[taken[0]++]
              : scatterStrings(lengths, dim + 1, strings, taken);
      Array.set(rows, i, row);
    }
    return rows;
  }

  /** An array of the first length whose rows are still to come; rows below a 0 need no memory. */
  private static Object newArray(Class<?> leaf, int[] lengths) {
    Class<?> row = leaf;
    for (int dim = 1; dim < lengths.length; dim++) {
      row = row.arrayType();
    }
    return Array.newInstance(row, lengths[0]);
  }
}
