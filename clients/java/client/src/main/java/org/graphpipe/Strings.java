package org.graphpipe;

import java.nio.charset.Charset;
import java.util.Arrays;

/** Strings into a tensor's elements, which are bytes, and out of them. */
final class Strings {
  private Strings() {}

  /**
   * Text in UTF-8.
   *
   * @throws IllegalArgumentException if a value has no UTF-8 form
   */
  static byte[][] encode(String[] values) {
    byte[][] encoded = new byte[values.length][];
    for (int i = 0; i < values.length; i++) {
      encoded[i] = Writer.utf8(NestedArrays.requireRow(values[i]));
    }
    return encoded;
  }

  /** The same runs of bytes, in an array that nobody else writes to. */
  static byte[][] copy(byte[][] values) {
    for (byte[] value : values) {
      NestedArrays.requireRow(value);
    }
    return values.clone();
  }

  /** Bytes taken for text; those that the charset does not know become its replacement. */
  static String[] decode(byte[][] values, Charset charset) {
    return Arrays.stream(values).map(bytes -> new String(bytes, charset)).toArray(String[]::new);
  }
}
