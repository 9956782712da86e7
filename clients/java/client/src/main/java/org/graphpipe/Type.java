package org.graphpipe;

import java.util.Locale;

/**
 * The element type of a tensor. The order is the wire's: {@link #ordinal()} is the number that
 * travels.
 */
public enum Type {
  /** No type. In metadata: unknown. No tensor has it. */
  NULL(0),
  /** Unsigned bytes; also carries booleans, as 0 and 1. */
  UINT8(1),
  /** Signed bytes. */
  INT8(1),
  /** Unsigned 16-bit integers. */
  UINT16(2),
  /** Signed 16-bit integers. */
  INT16(2),
  /** Unsigned 32-bit integers. */
  UINT32(4),
  /** Signed 32-bit integers. */
  INT32(4),
  /** Unsigned 64-bit integers. */
  UINT64(8),
  /** Signed 64-bit integers. */
  INT64(8),
  /** IEEE 754 binary16; see {@link Float16}. */
  FLOAT16(2),
  /** IEEE 754 binary32. */
  FLOAT32(4),
  /** IEEE 754 binary64. */
  FLOAT64(8),
  /** Each element is a run of bytes of any length and content. */
  STRING(0);

  private static final Type[] BY_NUMBER = values();

  private final int elementBytes;

  Type(int elementBytes) {
    this.elementBytes = elementBytes;
  }

  /**
   * The size of one element.
   *
   * @return bytes, or 0 for {@link #STRING}, whose elements vary, and for {@link #NULL}
   */
  public int elementBytes() {
    return elementBytes;
  }

  /**
   * Whether the elements are numbers.
   *
   * @return false for {@link #STRING} and {@link #NULL}
   */
  public boolean isNumeric() {
    return elementBytes > 0;
  }

  /** The name as numpy writes it, such as {@code float32}. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }

  /** The type with this number on the wire, or null where there is none. */
  static Type byNumber(int number) {
    return number >= 0 && number < BY_NUMBER.length ? BY_NUMBER[number] : null;
  }
}
