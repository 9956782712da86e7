package org.graphpipe;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.ShortBuffer;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/**
 * An n-dimensional array: a type, a shape and the elements, row-major.
 *
 * <p>Numbers lie in a little-endian {@link ByteBuffer} and are looked at through views ({@link
 * #asFloatBuffer} and its family) that copy nothing. The elements of a {@link Type#STRING} tensor
 * are {@code byte[]}; turning them into text is the caller's explicit choice ({@link
 * #decodeStrings}).
 *
 * <p>A shape counts elements along each dim, outermost first. The empty shape is a scalar and holds
 * one element; a shape with a 0 in it holds none. A tensor has at most 32 dims and, with every 0
 * taken as a 1, less than 2 GiB.
 *
 * <p>The type and shape never change. The elements are the caller's memory: where nobody writes
 * them, a tensor may be shared between threads.
 */
public final class Tensor {
  private static final byte[][] NO_STRINGS = {};
  private static final ByteBuffer NO_DATA = ByteBuffer.allocate(0);

  private final Type type;
  private final long[] shape;
  private final int elements;
  private final ByteBuffer data;
  private final byte[][] strings;

  private Tensor(Type type, long[] shape, ByteBuffer data, byte[][] strings) {
    this.type = type;
    this.shape = shape;
    if (type == Type.NULL) {
      throw new IllegalArgumentException("a tensor without a type");
    }
    this.elements = Shape.elements(shape, type);
    this.data = data.slice().order(ByteOrder.LITTLE_ENDIAN);
    this.strings = strings;
    // A string tensor with bytes beside its strings, or the other way round, contradicts itself.
    int stringsWanted = type == Type.STRING ? elements : 0;
    if (strings.length != stringsWanted) {
      throw new IllegalArgumentException(
          "%s holds %d strings, got %d".formatted(this, stringsWanted, strings.length));
    }
    if (data.remaining() != (long) elements * type.elementBytes()) {
      throw new IllegalArgumentException(
          "%s needs %d bytes, got %d"
              .formatted(this, (long) elements * type.elementBytes(), data.remaining()));
    }
  }

  /**
   * Looks at bytes as a tensor, without copying them.
   *
   * @param type a type of numbers
   * @param data little-endian, row-major: the bytes from its position to its limit. They must not
   *     change while a call that uses the tensor is under way. Direct buffers are sent fastest.
   * @param shape elements along each dim, outermost first
   * @return a tensor over those bytes
   * @throws IllegalArgumentException if the byte count does not match the shape, the type is {@link
   *     Type#STRING} or {@link Type#NULL}, or the buffer is set to big-endian, as every new one is,
   *     and the type's elements have several bytes
   */
  public static Tensor wrap(Type type, ByteBuffer data, long... shape) {
    if (type == Type.STRING) {
      throw new IllegalArgumentException("strings do not lie in one buffer: use ofStrings");
    }
    if (type.elementBytes() > 1 && data.order() == ByteOrder.BIG_ENDIAN) {
      throw new IllegalArgumentException(
          "the buffer is set to big-endian: if its bytes are little-endian say so with"
              + " order(ByteOrder.LITTLE_ENDIAN), else copy its numbers, as in"
              + " of(buffer.asFloatBuffer())");
    }
    return new Tensor(type, shape.clone(), data, NO_STRINGS);
  }

  /**
   * Looks at bytes as a vector, without copying them; see {@link #wrap(Type, ByteBuffer, long...)}.
   *
   * @param type a type of numbers
   * @param data little-endian
   * @return a tensor of one dim over those bytes
   * @throws IllegalArgumentException if the bytes are no such elements
   */
  public static Tensor wrap(Type type, ByteBuffer data) {
    return wrap(type, data, data.remaining() / Math.max(1, type.elementBytes()));
  }

  /** A tensor as the reader finds it; nothing is copied, not even the shape. */
  static Tensor received(Type type, ByteBuffer data, byte[][] strings, long[] shape) {
    return new Tensor(type, shape, data, strings);
  }

  /**
   * A tensor of zeros in a fresh direct buffer, to be filled through one of the views.
   *
   * @param type a type of numbers
   * @param shape elements along each dim, outermost first
   * @return the tensor
   * @throws IllegalArgumentException if the shape is none, or too large
   */
  public static Tensor allocate(Type type, long... shape) {
    int bytes = Shape.elements(shape, type) * type.elementBytes();
    return wrap(type, ByteBuffer.allocateDirect(bytes).order(ByteOrder.LITTLE_ENDIAN), shape);
  }

  /**
   * Copies bytes into an {@link Type#INT8} tensor. For {@link Type#UINT8} see {@link #ofUint8}.
   *
   * @param values the elements, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   * @throws IllegalArgumentException if the number of values does not match the shape
   */
  public static Tensor of(byte[] values, long... shape) {
    return wrap(Type.INT8, ByteBuffer.wrap(values.clone()), shape);
  }

  /**
   * Copies bytes into a {@link Type#UINT8} tensor: images, booleans.
   *
   * @param values the elements, row-major; -1 stands for 255
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   * @throws IllegalArgumentException if the number of values does not match the shape
   */
  public static Tensor ofUint8(byte[] values, long... shape) {
    return wrap(Type.UINT8, ByteBuffer.wrap(values.clone()), shape);
  }

  /**
   * Copies numbers into an {@link Type#INT16} tensor.
   *
   * @param values the elements, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   */
  public static Tensor of(short[] values, long... shape) {
    return of(Type.INT16, values, shape);
  }

  /**
   * Copies numbers into an {@link Type#INT32} tensor.
   *
   * @param values the elements, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   */
  public static Tensor of(int[] values, long... shape) {
    return of(Type.INT32, values, shape);
  }

  /**
   * Copies numbers into an {@link Type#INT64} tensor.
   *
   * @param values the elements, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   */
  public static Tensor of(long[] values, long... shape) {
    return of(Type.INT64, values, shape);
  }

  /**
   * Copies numbers into a {@link Type#FLOAT32} tensor.
   *
   * @param values the elements, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   */
  public static Tensor of(float[] values, long... shape) {
    return of(Type.FLOAT32, values, shape);
  }

  /**
   * Copies numbers into a {@link Type#FLOAT64} tensor.
   *
   * @param values the elements, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   */
  public static Tensor of(double[] values, long... shape) {
    return of(Type.FLOAT64, values, shape);
  }

  /**
   * Copies a primitive array into a tensor of a type whose elements have the same width: {@code
   * byte[]} for the 8-bit types, {@code short[]} for the 16-bit ones (binary16 as bits, see {@link
   * Float16}), and so on. {@code boolean[]} becomes {@link Type#UINT8}.
   *
   * @param type a type of numbers
   * @param values a primitive array: the elements, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   * @throws IllegalArgumentException if the array does not fit the type or the shape
   */
  public static Tensor of(Type type, Object values, long... shape) {
    return wrap(type, NestedArrays.toBytes(type, values), shape);
  }

  /**
   * Text as a {@link Type#STRING} tensor, in UTF-8.
   *
   * @param values the elements, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   * @throws IllegalArgumentException if the number of values does not match the shape, or a value
   *     has no UTF-8 form (half a surrogate pair)
   */
  public static Tensor ofStrings(String[] values, long... shape) {
    return new Tensor(Type.STRING, shape.clone(), NO_DATA, Strings.encode(values));
  }

  /**
   * Runs of bytes as a {@link Type#STRING} tensor: any length, any content. The arrays themselves
   * are not copied.
   *
   * @param values the elements, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   * @throws IllegalArgumentException if the number of values does not match the shape
   */
  public static Tensor ofStrings(byte[][] values, long... shape) {
    return new Tensor(Type.STRING, shape.clone(), NO_DATA, Strings.copy(values));
  }

  /**
   * {@return a vector of {@link Type#INT8}}
   *
   * @param values the elements
   */
  public static Tensor of(byte[] values) {
    return of(values, values.length);
  }

  /**
   * {@return a vector of {@link Type#INT16}}
   *
   * @param values the elements
   */
  public static Tensor of(short[] values) {
    return of(values, values.length);
  }

  /**
   * {@return a vector of {@link Type#INT32}}
   *
   * @param values the elements
   */
  public static Tensor of(int[] values) {
    return of(values, values.length);
  }

  /**
   * {@return a vector of {@link Type#INT64}}
   *
   * @param values the elements
   */
  public static Tensor of(long[] values) {
    return of(values, values.length);
  }

  /**
   * {@return a vector of {@link Type#FLOAT32}}
   *
   * @param values the elements
   */
  public static Tensor of(float[] values) {
    return of(values, values.length);
  }

  /**
   * {@return a vector of {@link Type#FLOAT64}}
   *
   * @param values the elements
   */
  public static Tensor of(double[] values) {
    return of(values, values.length);
  }

  /**
   * {@return a vector of {@link Type#UINT8}}
   *
   * @param values the elements
   */
  public static Tensor ofUint8(byte[] values) {
    return ofUint8(values, values.length);
  }

  /**
   * {@return text as a vector of {@link Type#STRING}, in UTF-8}
   *
   * @param values the elements
   */
  public static Tensor ofStrings(String... values) {
    return ofStrings(values, values.length);
  }

  /**
   * {@return runs of bytes as a vector of {@link Type#STRING}}
   *
   * @param values the elements
   */
  public static Tensor ofStrings(byte[][] values) {
    return ofStrings(values, values.length);
  }

  /**
   * Copies the numbers of a buffer, whatever its byte order, into an {@link Type#INT16} tensor.
   *
   * @param values the elements from its position to its limit, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   */
  public static Tensor of(ShortBuffer values, long... shape) {
    return wrap(Type.INT16, Numbers.copy(values), shape);
  }

  /**
   * {@return the numbers, copied, as a vector of {@link Type#INT16}}
   *
   * @param values the elements from its position to its limit
   */
  public static Tensor of(ShortBuffer values) {
    return of(values, values.remaining());
  }

  /**
   * Copies the numbers of a buffer, whatever its byte order, into an {@link Type#INT32} tensor.
   *
   * @param values the elements from its position to its limit, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   */
  public static Tensor of(IntBuffer values, long... shape) {
    return wrap(Type.INT32, Numbers.copy(values), shape);
  }

  /**
   * {@return the numbers, copied, as a vector of {@link Type#INT32}}
   *
   * @param values the elements from its position to its limit
   */
  public static Tensor of(IntBuffer values) {
    return of(values, values.remaining());
  }

  /**
   * Copies the numbers of a buffer, whatever its byte order, into an {@link Type#INT64} tensor.
   *
   * @param values the elements from its position to its limit, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   */
  public static Tensor of(LongBuffer values, long... shape) {
    return wrap(Type.INT64, Numbers.copy(values), shape);
  }

  /**
   * {@return the numbers, copied, as a vector of {@link Type#INT64}}
   *
   * @param values the elements from its position to its limit
   */
  public static Tensor of(LongBuffer values) {
    return of(values, values.remaining());
  }

  /**
   * Copies the numbers of a buffer, whatever its byte order, into an {@link Type#FLOAT32} tensor.
   *
   * @param values the elements from its position to its limit, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   */
  public static Tensor of(FloatBuffer values, long... shape) {
    return wrap(Type.FLOAT32, Numbers.copy(values), shape);
  }

  /**
   * {@return the numbers, copied, as a vector of {@link Type#FLOAT32}}
   *
   * @param values the elements from its position to its limit
   */
  public static Tensor of(FloatBuffer values) {
    return of(values, values.remaining());
  }

  /**
   * Copies the numbers of a buffer, whatever its byte order, into an {@link Type#FLOAT64} tensor.
   *
   * @param values the elements from its position to its limit, row-major
   * @param shape elements along each dim; an empty array means a scalar
   * @return the tensor
   */
  public static Tensor of(DoubleBuffer values, long... shape) {
    return wrap(Type.FLOAT64, Numbers.copy(values), shape);
  }

  /**
   * {@return the numbers, copied, as a vector of {@link Type#FLOAT64}}
   *
   * @param values the elements from its position to its limit
   */
  public static Tensor of(DoubleBuffer values) {
    return of(values, values.remaining());
  }

  /**
   * One number, of the type that is as wide: {@code scalar(1.5f)} is of {@link Type#FLOAT32}.
   *
   * @param value a number of one of Java's primitive types
   * @return a tensor without dims
   * @throws IllegalArgumentException if it is another kind of number
   */
  public static Tensor scalar(Number value) {
    return fromArray(value);
  }

  /**
   * {@return one text, of {@link Type#STRING}, as a tensor without dims}
   *
   * @param value the element
   */
  public static Tensor scalar(String value) {
    return ofStrings(new String[] {value}, new long[0]);
  }

  /**
   * Copies nested arrays, such as a {@code float[][]}: the shape and the type are the array's own.
   * A boxed number or a {@code String} is a scalar. {@code boolean} becomes {@link Type#UINT8}, and
   * {@code byte}, which has a sign in Java, {@link Type#INT8}: {@link #fromArray(Type, Object)}
   * chooses otherwise.
   *
   * @param nested primitive arrays or arrays of {@code String}, nested to any depth up to 32; all
   *     rows of a dim of one length. Dims below a dim of length 0 count as 0 too.
   * @return the tensor
   * @throws IllegalArgumentException if rows differ in length or the elements have no type here
   */
  public static Tensor fromArray(Object nested) {
    return NestedArrays.toTensor(null, nested);
  }

  /**
   * Copies nested arrays as a given type, for what Java's own types do not tell: {@code byte[][]}
   * as {@link Type#UINT8}, {@code short[]} as {@link Type#FLOAT16}, or {@code byte[][]} as a row of
   * {@link Type#STRING} elements.
   *
   * @param type the tensor's type; its elements must be as wide as the array's
   * @param nested see {@link #fromArray(Object)}; for {@link Type#STRING}, innermost {@code byte[]}
   *     or {@code String} is one element
   * @return the tensor
   * @throws IllegalArgumentException if rows differ in length or the elements do not fit the type
   */
  public static Tensor fromArray(Type type, Object nested) {
    return NestedArrays.toTensor(Objects.requireNonNull(type, "type"), nested);
  }

  /**
   * The element type.
   *
   * @return never null
   */
  public Type type() {
    return type;
  }

  /**
   * The shape.
   *
   * @return a copy: elements along each dim, outermost first
   */
  public long[] shape() {
    return shape.clone();
  }

  /** The shape itself, for those who do not write to it. */
  long[] shapeShared() {
    return shape;
  }

  /**
   * The number of elements: the product of the shape.
   *
   * @return 1 for a scalar
   */
  public int elements() {
    return elements;
  }

  /**
   * The bytes of the numbers, not copied.
   *
   * @return a little-endian view with a position of its own; empty for strings
   */
  public ByteBuffer data() {
    return data.duplicate().order(ByteOrder.LITTLE_ENDIAN);
  }

  /**
   * Looks at 16-bit elements; unsigned ones and binary16 show as their bits.
   *
   * @return a view, not a copy
   * @throws IllegalStateException if the type is not {@link Type#INT16}, {@link Type#UINT16} or
   *     {@link Type#FLOAT16}
   */
  public ShortBuffer asShortBuffer() {
    require("16-bit elements", type == Type.INT16 || type == Type.UINT16 || type == Type.FLOAT16);
    return data.asShortBuffer();
  }

  /**
   * Looks at 32-bit integers; unsigned ones show as their bits.
   *
   * @return a view, not a copy
   * @throws IllegalStateException if the type is not {@link Type#INT32} or {@link Type#UINT32}
   */
  public IntBuffer asIntBuffer() {
    require("32-bit integers", type == Type.INT32 || type == Type.UINT32);
    return data.asIntBuffer();
  }

  /**
   * Looks at 64-bit integers; unsigned ones show as their bits.
   *
   * @return a view, not a copy
   * @throws IllegalStateException if the type is not {@link Type#INT64} or {@link Type#UINT64}
   */
  public LongBuffer asLongBuffer() {
    require("64-bit integers", type == Type.INT64 || type == Type.UINT64);
    return data.asLongBuffer();
  }

  /**
   * Looks at binary32 numbers.
   *
   * @return a view, not a copy
   * @throws IllegalStateException if the type is not {@link Type#FLOAT32}
   */
  public FloatBuffer asFloatBuffer() {
    require("float32", type == Type.FLOAT32);
    return data.asFloatBuffer();
  }

  /**
   * Looks at binary64 numbers.
   *
   * @return a view, not a copy
   * @throws IllegalStateException if the type is not {@link Type#FLOAT64}
   */
  public DoubleBuffer asDoubleBuffer() {
    require("float64", type == Type.FLOAT64);
    return data.asDoubleBuffer();
  }

  /**
   * Copies the numbers out as {@code float}, which loses nothing.
   *
   * @return the elements, row-major
   * @throws IllegalStateException if the type is not {@link Type#FLOAT32} or {@link Type#FLOAT16}
   */
  public float[] toFloats() {
    require("float32 or float16", type == Type.FLOAT32 || type == Type.FLOAT16);
    return Numbers.toFloats(type, data, elements);
  }

  /**
   * Copies the numbers out as {@code double}. Only 64-bit integers beyond 2<sup>53</sup> are
   * rounded.
   *
   * @return the elements, row-major
   * @throws IllegalStateException if the elements are no numbers
   */
  public double[] toDoubles() {
    require("numbers", type.isNumeric());
    return Numbers.toDoubles(type, data, elements);
  }

  /**
   * Copies integers out as {@code long}.
   *
   * @return the elements, row-major; those of {@link Type#UINT64} as their bits (see {@link
   *     Long#toUnsignedString(long)})
   * @throws IllegalStateException if the elements are no integers
   */
  public long[] toLongs() {
    require(
        "integers",
        type.isNumeric() && type != Type.FLOAT16 && type != Type.FLOAT32 && type != Type.FLOAT64);
    return Numbers.toLongs(type, data, elements);
  }

  /**
   * Copies the elements into nested arrays of their own width: {@code float[][]} for a {@link
   * Type#FLOAT32} tensor of two dims, {@code byte[]}, {@code short[]}, {@code int[]} and {@code
   * long[]} also for the unsigned types and binary16, as bits. Strings become {@code byte[]}, one
   * array level more. A scalar becomes a boxed number or a {@code byte[]}.
   *
   * @return such as {@code (float[][]) tensor.toArray()}
   */
  public Object toArray() {
    return NestedArrays.fromTensor(this);
  }

  /**
   * The elements of a {@link Type#STRING} tensor, as they came: any bytes. The arrays are not
   * copies.
   *
   * @return the elements, row-major; the list cannot be changed
   * @throws IllegalStateException if the type is not {@link Type#STRING}
   */
  public List<byte[]> strings() {
    return List.of(stringsShared());
  }

  /** The elements themselves, for those who do not write to them. */
  byte[][] stringsShared() {
    require("strings", type == Type.STRING);
    return strings;
  }

  /**
   * The elements of a {@link Type#STRING} tensor as text, taken for UTF-8. Bytes that are none
   * become U+FFFD; {@link #strings} loses nothing.
   *
   * @return the elements, row-major
   * @throws IllegalStateException if the type is not {@link Type#STRING}
   */
  public String[] decodeStrings() {
    return decodeStrings(StandardCharsets.UTF_8);
  }

  /**
   * The elements of a {@link Type#STRING} tensor as text.
   *
   * @param charset what the bytes are taken for; bytes that it does not know become its replacement
   * @return the elements, row-major
   * @throws IllegalStateException if the type is not {@link Type#STRING}
   */
  public String[] decodeStrings(Charset charset) {
    return Strings.decode(stringsShared(), charset);
  }

  /** Two tensors are equal if type, shape and every bit of the elements are. */
  @Override
  public boolean equals(Object other) {
    return other instanceof Tensor tensor
        && type == tensor.type
        && Arrays.equals(shape, tensor.shape)
        && data.equals(tensor.data)
        && Arrays.deepEquals(strings, tensor.strings);
  }

  @Override
  public int hashCode() {
    return Objects.hash(type, Arrays.hashCode(shape), data, Arrays.deepHashCode(strings));
  }

  /** The type and shape, such as {@code float32[2, 3]}. */
  @Override
  public String toString() {
    return type + Arrays.toString(shape);
  }

  private void require(String what, boolean held) {
    if (!held) {
      throw new IllegalStateException("expected " + what + ", this tensor is " + this);
    }
  }
}
