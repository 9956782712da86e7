package org.graphpipe;

import java.util.Arrays;

/** The rules that a tensor's shape keeps, whether it comes from the caller or from the wire. */
final class Shape {
  private Shape() {}

  /**
   * Counts the elements of a shape.
   *
   * <p>An axis of length 0 must not hide absurd ones beside it ([0, 2^62]): with every 0 taken as a
   * 1, the bytes have to stay below 2^31 too. A string counts the 4 bytes of its offset.
   *
   * @throws IllegalArgumentException if there are too many axes, a negative one, or too many bytes
   */
  static int elements(long[] shape, Type type) {
    int elementBytes = type == Type.STRING ? Integer.BYTES : type.elementBytes();
    if (shape.length > Limits.AXES_MAX) {
      throw new IllegalArgumentException(
          "expected at most " + Limits.AXES_MAX + " axes, got " + shape.length);
    }
    long product = 1;
    boolean empty = false;
    for (long axis : shape) {
      if (axis < 0) {
        throw new IllegalArgumentException("negative axis in shape " + Arrays.toString(shape));
      }
      empty |= axis == 0;
      // product < 2^31 and axis < 2^31 here, so nothing overflows.
      product = axis > Integer.MAX_VALUE ? Long.MAX_VALUE : product * Math.max(axis, 1);
      if (product > Integer.MAX_VALUE / elementBytes) {
        throw new IllegalArgumentException("shape " + Arrays.toString(shape) + " reaches 2 GiB");
      }
    }
    return empty ? 0 : (int) product;
  }
}
