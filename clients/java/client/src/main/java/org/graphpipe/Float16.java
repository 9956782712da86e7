package org.graphpipe;

/**
 * IEEE 754 binary16 numbers, which Java has no type for: their 16 bits travel in a {@code short}.
 */
public final class Float16 {
  private Float16() {}

  /**
   * Widens a number; every one has an exact {@code float}.
   *
   * @param bits the number's 16 bits
   * @return the same number; NaN stays NaN
   */
  public static float toFloat(short bits) {
    int sign = (bits & 0x8000) << 16;
    int exponent = (bits >> 10) & 0x1f;
    int fraction = bits & 0x3ff;
    if (exponent == 0) {
      // Zero or subnormal: the fraction counts units of 2^-24.
      float magnitude = fraction * 0x1p-24f;
      return sign == 0 ? magnitude : -magnitude;
    }
    int wideExponent = exponent == 0x1f ? 0xff : exponent - 15 + 127;
    return Float.intBitsToFloat(sign | wideExponent << 23 | fraction << 13);
  }

  /**
   * Narrows a number to the nearest one, ties to even. What is too large becomes an infinity, what
   * is too small a zero, of the same sign.
   *
   * @param value any number
   * @return the 16 bits of the nearest binary16 number
   */
  public static short fromFloat(float value) {
    int bits = Float.floatToRawIntBits(value);
    int sign = bits >>> 16 & 0x8000;
    int magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
      return (short) (sign | 0x7e00 | magnitude >> 13 & 0x3ff);
    }
    if (magnitude >= 0x47800000) { // 2^16 and above, infinity included
      return (short) (sign | 0x7c00);
    }
    if (magnitude < 0x38800000) { // below 2^-14: subnormal, in units of 2^-24
      // The addition rounds to nearest even: at 0.5 a float's last place is worth 2^-24.
      int rounded = Float.floatToRawIntBits(Float.intBitsToFloat(magnitude) + 0.5f);
      return (short) (sign | rounded - 0x3f000000);
    }
    int odd = magnitude >> 13 & 1;
    // A fraction that rounds up to the next power of two carries into the exponent, as it should.
    return (short) (sign | (magnitude - 0x38000000 + 0xfff + odd) >> 13);
  }
}
