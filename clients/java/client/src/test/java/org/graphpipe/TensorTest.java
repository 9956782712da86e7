package org.graphpipe;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;

class TensorTest {
  @Test
  void nestedArraysGoInAndComeOutAgain() {
    float[][][] floats = {{{1, 2}, {3, 4}, {5, 6}}};
    Tensor tensor = Tensor.fromArray(floats);
    assertEquals("float32[1, 3, 2]", tensor.toString());
    assertArrayEquals(floats, (float[][][]) tensor.toArray());
    assertArrayEquals(new float[] {1, 2, 3, 4, 5, 6}, tensor.toFloats());

    assertArrayEquals(
        new double[][] {{1}, {2}},
        (double[][]) Tensor.fromArray(new double[][] {{1}, {2}}).toArray());
    assertArrayEquals(new long[] {1, -1}, (long[]) Tensor.fromArray(new long[] {1, -1}).toArray());
    assertArrayEquals(
        new int[][] {{1, 2}}, (int[][]) Tensor.fromArray(new int[][] {{1, 2}}).toArray());
    assertArrayEquals(new short[] {7}, (short[]) Tensor.fromArray(new short[] {7}).toArray());
    assertArrayEquals(
        new byte[][] {{1}, {2}},
        (byte[][]) Tensor.fromArray(Type.UINT8, new byte[][] {{1}, {2}}).toArray());
    assertEquals(Type.INT8, Tensor.fromArray(new byte[] {1}).type());
    assertEquals(
        Tensor.ofUint8(new byte[] {1, 0}, 2), Tensor.fromArray(new boolean[] {true, false}));
    assertEquals(
        Tensor.of(Type.FLOAT16, new short[] {0x3c00}, 1),
        Tensor.fromArray(Type.FLOAT16, new short[] {0x3c00}));
    assertEquals(Tensor.of(new int[] {1, 2}, 1, 2), Tensor.fromArray(new Integer[][] {{1, 2}}));
  }

  @Test
  void stringsAreBytesUntilTheCallerDecodesThem() {
    Tensor text = Tensor.fromArray(new String[][] {{"a", "h\u00e9"}, {"", "\0"}});
    assertEquals("string[2, 2]", text.toString());
    assertArrayEquals(new String[] {"a", "h\u00e9", "", "\0"}, text.decodeStrings());
    assertArrayEquals("h\u00e9".getBytes(StandardCharsets.UTF_8), text.strings().get(1));
    byte[][][] nested = (byte[][][]) text.toArray();
    assertArrayEquals(new byte[] {0}, nested[1][1]);
    assertEquals(text, Tensor.fromArray(Type.STRING, nested));
    assertArrayEquals(
        new String[] {"\u00e9"},
        Tensor.ofStrings(new byte[][] {{(byte) 0xe9}}, 1)
            .decodeStrings(StandardCharsets.ISO_8859_1));
    assertThrows(IllegalStateException.class, () -> Tensor.of(new int[] {1}).strings());
  }

  @Test
  void scalarsAndEmptiesHaveTheirShapes() {
    assertEquals(Tensor.scalar(1.5f), Tensor.fromArray(1.5f));
    assertEquals(Tensor.of(new float[] {1.5f}, new long[0]), Tensor.scalar(1.5f));
    assertEquals(Tensor.fromArray(7L), Tensor.scalar(7L));
    assertEquals(Tensor.fromArray("x"), Tensor.scalar("x"));
    assertEquals(0, Tensor.fromArray(1.5f).shape().length);
    assertEquals(1.5f, Tensor.fromArray(1.5f).toArray());
    assertEquals(true, Tensor.fromArray(true).equals(Tensor.ofUint8(new byte[] {1}, new long[0])));
    assertArrayEquals(new byte[] {'x'}, (byte[]) Tensor.fromArray("x").toArray());
    assertArrayEquals(
        new byte[] {'x'}, (byte[]) Tensor.fromArray(Type.STRING, new byte[] {'x'}).toArray());
    assertEquals("float32[0, 0]", Tensor.fromArray(new float[0][3]).toString());
    assertEquals("float32[2, 0]", Tensor.fromArray(new float[2][0]).toString());
    Tensor empty = Tensor.allocate(Type.INT64, 0, 3);
    assertEquals(0, empty.elements());
    assertEquals(0, ((long[][]) empty.toArray()).length);
    assertEquals(2, ((float[][]) Tensor.allocate(Type.FLOAT32, 2, 0).toArray()).length);
  }

  @Test
  void viewsLookIntoTheCallersLittleEndianBytes() {
    ByteBuffer bytes = ByteBuffer.allocate(17).order(ByteOrder.LITTLE_ENDIAN).position(1);
    Tensor floats = Tensor.wrap(Type.FLOAT32, bytes, 2, 2);
    floats.asFloatBuffer().put(3, 1.0f);
    assertEquals((byte) 0x3f, bytes.get(16));
    assertEquals(1, bytes.position());
    assertEquals(4, floats.asFloatBuffer().remaining());
    Tensor longs = Tensor.wrap(Type.INT64, bytes, 2);
    assertEquals(2, longs.asLongBuffer().remaining());
    assertEquals(2, Tensor.wrap(Type.FLOAT64, bytes, 2).asDoubleBuffer().remaining());
    assertEquals(4, Tensor.wrap(Type.UINT32, bytes, 4).asIntBuffer().remaining());
    assertEquals(8, Tensor.wrap(Type.FLOAT16, bytes, 8).asShortBuffer().remaining());
    IllegalStateException wrong = assertThrows(IllegalStateException.class, longs::asFloatBuffer);
    assertEquals("expected float32, this tensor is int64[2]", wrong.getMessage());
    for (Runnable view :
        List.<Runnable>of(
            floats::asLongBuffer,
            floats::asIntBuffer,
            floats::asShortBuffer,
            floats::asDoubleBuffer,
            floats::toLongs,
            longs::toFloats)) {
      assertThrows(IllegalStateException.class, view::run);
    }
  }

  @Test
  void withoutAShapeItIsAVector() {
    ByteBuffer bytes = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
    for (Tensor vector :
        List.of(
            Tensor.of(new float[] {1, 2}),
            Tensor.of(new double[] {1, 2}),
            Tensor.of(new long[] {1, 2}),
            Tensor.of(new int[] {1, 2}),
            Tensor.of(new short[] {1, 2}),
            Tensor.of(new byte[] {1, 2}),
            Tensor.ofUint8(new byte[] {1, 2}),
            Tensor.ofStrings("a", "b"),
            Tensor.ofStrings(new byte[][] {{1}, {2}}),
            Tensor.wrap(Type.FLOAT32, bytes))) {
      assertArrayEquals(new long[] {2}, vector.shape(), vector.toString());
    }
  }

  @Test
  void aBuffersByteOrderIsNeverTakenForAnother() {
    for (ByteOrder order : List.of(ByteOrder.BIG_ENDIAN, ByteOrder.LITTLE_ENDIAN)) {
      ByteBuffer bytes = ByteBuffer.allocate(16).order(order);
      bytes.asFloatBuffer().put(new float[] {1, 2, 3, 4});
      assertArrayEquals(
          new float[] {2, 3, 4}, Tensor.of(bytes.asFloatBuffer().position(1)).toFloats());
      assertEquals("float32[2, 2]", Tensor.of(bytes.asFloatBuffer(), 2, 2).toString());
      bytes.asLongBuffer().put(new long[] {1, -2});
      assertArrayEquals(new long[] {1, -2}, Tensor.of(bytes.asLongBuffer()).toLongs());
      bytes.asIntBuffer().put(new int[] {1, 2, 3, -4});
      assertArrayEquals(new long[] {1, 2, 3, -4}, Tensor.of(bytes.asIntBuffer()).toLongs());
      assertEquals(Type.INT16, Tensor.of(bytes.asShortBuffer()).type());
      bytes.asDoubleBuffer().put(new double[] {1.5, -2});
      assertArrayEquals(new double[] {1.5, -2}, Tensor.of(bytes.asDoubleBuffer()).toDoubles());
      Tensor.wrap(Type.UINT8, bytes, 16); // has no order
      if (order == ByteOrder.BIG_ENDIAN) {
        assertRefused(() -> Tensor.wrap(Type.FLOAT64, bytes, 2));
      } else {
        assertArrayEquals(new double[] {1.5, -2}, Tensor.wrap(Type.FLOAT64, bytes, 2).toDoubles());
      }
    }
  }

  @Test
  void unsignedAndHalfNumbersWiden() {
    assertArrayEquals(new long[] {255}, Tensor.ofUint8(new byte[] {-1}, 1).toLongs());
    assertArrayEquals(new long[] {65535}, Tensor.of(Type.UINT16, new short[] {-1}, 1).toLongs());
    assertArrayEquals(
        new long[] {0xffffffffL}, Tensor.of(Type.UINT32, new int[] {-1}, 1).toLongs());
    assertArrayEquals(
        new double[] {0x1p64, 0x1p63, 0x1p53},
        Tensor.of(Type.UINT64, new long[] {-1, Long.MIN_VALUE, 1L << 53}, 3).toDoubles());
    assertArrayEquals(
        new float[] {1.5f}, Tensor.of(Type.FLOAT16, new short[] {0x3e00}, 1).toFloats());
    assertArrayEquals(new double[] {-3}, Tensor.of(new byte[] {-3}, 1).toDoubles());
    assertArrayEquals(new double[] {-3}, Tensor.of(new short[] {-3}, 1).toDoubles());
    assertArrayEquals(new double[] {2.5}, Tensor.of(new double[] {2.5}, 1).toDoubles());
  }

  @Test
  void whatDoesNotFitIsRefusedWithBothNumbers() {
    IllegalArgumentException wrong =
        assertThrows(IllegalArgumentException.class, () -> Tensor.of(new float[] {1, 2}, 3));
    assertEquals("float32[3] needs 12 bytes, got 8", wrong.getMessage());
    assertRefused(() -> Tensor.of(new float[] {1, 2}, new long[0]));
    assertRefused(() -> Tensor.of(new float[0], -1));
    assertRefused(() -> Tensor.of(new float[0], 0, 1L << 62));
    assertRefused(() -> Tensor.of(new float[0], 0, Long.MAX_VALUE, Long.MAX_VALUE));
    assertRefused(() -> Tensor.of(new float[1], new long[33]));
    assertRefused(() -> Tensor.ofStrings(new String[] {"a"}, 2));
    assertRefused(() -> Tensor.ofStrings(new String[0], 0, 1 << 29));
    assertRefused(() -> Tensor.ofStrings(new String[] {"\udc00"}, 1));
    assertRefused(() -> Tensor.wrap(Type.STRING, ByteBuffer.allocate(0), 0));
    assertRefused(() -> Tensor.wrap(Type.NULL, ByteBuffer.allocate(0), 0));
    assertRefused(() -> Tensor.of(Type.FLOAT32, new double[] {1}, 1));
    assertRefused(() -> Tensor.of(Type.STRING, new byte[] {1}, 1));
    assertRefused(() -> Tensor.of(Type.INT32, "text", 1));
    assertRefused(() -> Tensor.of(Type.INT32, new Integer[] {1}, 1));
    assertRefused(() -> Tensor.fromArray(new float[][] {{1, 2}, {3}}));
    assertRefused(() -> Tensor.fromArray(new float[][] {{1, 2}, null}));
    assertRefused(() -> Tensor.fromArray(new float[][] {null}));
    assertRefused(() -> Tensor.fromArray(new String[] {null}));
    assertRefused(() -> Tensor.ofStrings("a", null));
    assertRefused(() -> Tensor.ofStrings(new byte[][] {null}, 1));
    assertRefused(() -> Tensor.fromArray(new String[][] {{"a"}, {"b", "c"}}));
    assertRefused(() -> Tensor.fromArray(new char[] {'a'}));
    assertRefused(() -> Tensor.fromArray(new Object[] {1}));
    assertRefused(() -> Tensor.fromArray(Type.STRING, new int[] {1}));
    assertRefused(() -> Tensor.fromArray(Type.NULL, new int[] {1}));
    assertRefused(() -> Tensor.fromArray(Type.INT64, new int[] {1}));
    assertRefused(() -> Tensor.allocate(Type.FLOAT64, 1 << 14, 1 << 14));
  }

  @Test
  void arraysGivenAndTakenAreCopies() {
    float[] values = {1};
    long[] shape = {1};
    Tensor tensor = Tensor.of(values, shape);
    values[0] = 2;
    shape[0] = 9;
    tensor.shape()[0] = 9;
    assertEquals(Tensor.of(new float[] {1}, 1), tensor);
    byte[] bytes = {1};
    Tensor int8 = Tensor.of(bytes, 1);
    bytes[0] = 2;
    assertArrayEquals(new long[] {1}, int8.toLongs());
  }

  @Test
  void halfPrecisionRoundsToNearestEven() {
    for (int bits = 0; bits < 1 << 16; bits++) {
      float wide = Float16.toFloat((short) bits);
      short back = Float16.fromFloat(wide);
      if (Float.isNaN(wide)) {
        assertTrue(Float.isNaN(Float16.toFloat(back)));
      } else {
        assertEquals((short) bits, back, Integer.toHexString(bits));
      }
    }
    assertEquals(0x3555, Float16.fromFloat(1 / 3f));
    assertEquals(0x3c00, Float16.fromFloat(1 + 0x1p-11f), "a tie goes to even");
    assertEquals(0x3c02, Float16.fromFloat(1 + 3 * 0x1p-11f), "a tie goes to even");
    assertEquals(0x7bff, Float16.fromFloat(65519), "below the middle to 65536");
    assertEquals(0x7c00, Float16.fromFloat(65520), "infinity");
    assertEquals((short) 0xfc00, Float16.fromFloat(-1e10f));
    assertEquals(0x0001, Float16.fromFloat(0x1.8p-25f));
    assertEquals(0x0000, Float16.fromFloat(0x1p-25f), "a tie goes to even");
    assertEquals((short) 0x8000, Float16.fromFloat(-0.0f));
    assertTrue(Float.isNaN(Float16.toFloat(Float16.fromFloat(Float.NaN))));
  }

  private static void assertRefused(Runnable attempt) {
    assertThrows(IllegalArgumentException.class, attempt::run);
  }
}
