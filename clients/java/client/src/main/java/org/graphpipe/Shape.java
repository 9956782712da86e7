package org.graphpipe;

import java.util.Arrays;

/** The rules that a tensor's shape keeps, whether it comes from the caller or from the wire. */
final class Shape {
  private Shape() {}

  /**
   * Counts the elements of a shape.
   *
   * <p>A dim of length 0 must not hide absurd ones beside it ([0, 2^62]): with every 0 taken as a
   * 1, the bytes have to stay below 2^31 too. A string counts the 4 bytes of its offset.
   *
   * @throws IllegalArgumentException if there are too many dims, a negative one, or too many bytes
   */
  static int elements(long[] shape, Type type) {
    int elementBytes = type == Type.STRING ? Integer.BYTES : type.elementBytes();
    if (shape.length > Limits.DIMS_MAX) {
      throw new IllegalArgumentException(
          "expected at most " + Limits.DIMS_MAX + " dims, got " + shape.length);
    }
    long product = 1;
    boolean empty = false;
    for (long dim : shape) {
      if (dim < 0) {
        throw new IllegalArgumentException("negative dim in shape " + Arrays.toString(shape));
      }
      empty |= dim == 0;
      // product < 2^31 and dim < 2^31 here, so nothing overflows.
      product = dim > Integer.MAX_VALUE ? Long.MAX_VALUE : product * Math.max(dim, 1);
      if (product > Integer.MAX_VALUE / elementBytes) {
        throw new IllegalArgumentException("shape " + Arrays.toString(shape) + " reaches 2 GiB");
      }
    }
    return empty ? 0 : (int) product;
  }
}
