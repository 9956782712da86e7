package org.graphpipe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

/** What bytes from a bad peer may not do. */
class ReaderTest {
  private static final Tensor TENSOR = Tensor.of(new float[] {1, 2, 3, 4, 5, 6}, 2, 3);

  // Where the parts of a response with TENSOR alone lie. The tests below first prove these places.
  private static final int ROOT = 0;
  private static final int RESPONSE = 16;
  private static final int TABLE = 48;

  @Test
  void aCutMessageIsRefusedAtEveryLength() {
    for (byte[] whole : Samples.encoded()) {
      int step = Math.max(1, whole.length / 2000);
      for (int length = 0; length < Math.min(whole.length, 4000); length += step) {
        byte[] cut = Arrays.copyOf(whole, length);
        // A cut in the last padding or NUL loses nothing; all others must be seen.
        assertOnlyMalformed(cut);
      }
    }
    for (int length = 0; length < 4; length++) {
      ByteBuffer bytes = ByteBuffer.allocate(length);
      assertThrows(MalformedMessageException.class, () -> Reader.readRequest(bytes));
      assertThrows(MalformedMessageException.class, () -> Reader.readInferResponse(bytes));
      assertThrows(MalformedMessageException.class, () -> Reader.readMetadata(bytes));
    }
  }

  @Test
  void unalignedOrWildOffsetsAreRefused() {
    refused("offset past the end", bytes -> bytes.putInt(ROOT, 1 << 20));
    refused("offset beyond 31 bits", bytes -> bytes.putInt(ROOT, -16));
    refused("empty offset", bytes -> bytes.putInt(ROOT, 0));
    refused("unaligned table", bytes -> bytes.putInt(ROOT, RESPONSE + 2));
    refused("vtable before the start", bytes -> bytes.putInt(RESPONSE, 1000));
    refused("vtable past the end", bytes -> bytes.putInt(RESPONSE, -1000));
    refused("vtable at an odd place", bytes -> bytes.putInt(RESPONSE, 7));
    refused("vtable of 3 bytes", bytes -> bytes.putShort(RESPONSE - 6, (short) 3));
    refused("vtable of 64 KB", bytes -> bytes.putShort(RESPONSE - 6, (short) -2));
    refused("table of 64 KB", bytes -> bytes.putShort(RESPONSE - 4, (short) -1));
    refused("field outside its table", bytes -> bytes.putShort(RESPONSE - 2, (short) 12));
    refused("field in the table's head", bytes -> bytes.putShort(RESPONSE - 2, (short) 2));
    refused("unaligned offset", bytes -> bytes.putShort(RESPONSE - 2, (short) 6));
  }

  @Test
  void contradictionsWithinATensorAreRefused() {
    int shape = position(TABLE + 4);
    int data = position(TABLE + 8);
    refused("unknown type", bytes -> bytes.put(TABLE + 12, (byte) 13));
    refused("another width", bytes -> bytes.put(TABLE + 12, (byte) Type.FLOAT64.ordinal()));
    refused("no strings", bytes -> bytes.put(TABLE + 12, (byte) Type.STRING.ordinal()));
    refused("no type", bytes -> bytes.put(TABLE + 12, (byte) 0).putInt(data, 0));
    refused("too little data", bytes -> bytes.putInt(data, 20));
    refused("data past the end", bytes -> bytes.putInt(data, 1 << 20));
    refused("data of 4 GiB", bytes -> bytes.putInt(data, -1));
    refused("negative axis", bytes -> bytes.putLong(shape + 4, -2).putLong(shape + 12, -3));
    refused("wrapping product", bytes -> bytes.putLong(shape + 4, 1L << 62));
    refused(
        "an axis of 0 hides another of 2^62",
        bytes -> bytes.putLong(shape + 4, 0).putLong(shape + 12, 1L << 62).putInt(data, 0));
    refused("shape past the end", bytes -> bytes.putInt(shape, 1 << 28));
    refused("shape of 33 axes", bytes -> bytes.putInt(shape, 33));
  }

  @Test
  void aSmallMessageCannotBecomeALargeOne() {
    String[] names = new String[1000];
    Arrays.fill(names, "");
    names[0] = "n".repeat(100_000);
    InferRequest request = InferRequest.builder().outputs(Arrays.asList(names)).build();
    ByteBuffer bytes = Writer.write(request).toByteBuffer();
    int vector = position(bytes, position(bytes, position(bytes, 0) + 4) + 16);
    int first = position(bytes, vector + 4);
    for (int i = 1; i < names.length; i++) {
      int place = vector + 4 + 4 * i;
      bytes.putInt(place, first - place);
    }
    assertThrows(MalformedMessageException.class, () -> Reader.readRequest(bytes));
  }

  @Test
  void aTensorOfNumbersAndStringsIsRefused() {
    // The vtable of a string tensor has a place for data: let it be the strings' own, of one byte.
    Tensor strings = Tensor.ofStrings(new String[] {"x"}, 1);
    ByteBuffer bytes = Writer.write(new InferResponse(List.of(strings), List.of())).toByteBuffer();
    int table = position(bytes, position(bytes, position(bytes, 0) + 4) + 4);
    int vtable = table - bytes.getInt(table);
    bytes.putShort(vtable + 8, bytes.getShort(vtable + 10));
    assertThrows(MalformedMessageException.class, () -> Reader.readInferResponse(bytes));
  }

  @Test
  void aDimensionBelowMinusOneIsRefusedInMetadata() {
    ByteBuffer bytes = Writer.write(Samples.metadata()).toByteBuffer();
    int io = position(bytes, position(bytes, position(bytes, 0) + 20) + 4);
    int shape = position(bytes, io + 12);
    assertEquals(-1, bytes.getLong(shape + 4));
    bytes.putLong(shape + 4, -2);
    assertThrows(MalformedMessageException.class, () -> Reader.readMetadata(bytes));
  }

  @Test
  void twoFieldsMayShareAVectorThatFits() throws Exception {
    InferRequest request =
        InferRequest.builder().output("shared").output("shared").config("").build();
    ByteBuffer bytes = Writer.write(request).toByteBuffer();
    int vector = position(bytes, position(bytes, position(bytes, 0) + 4) + 16);
    bytes.putInt(vector + 8, position(bytes, vector + 4) - (vector + 8));
    assertEquals(
        List.of("shared", "shared"), Reader.readRequest(bytes).orElseThrow().outputNames());
  }

  @Test
  void brokenErrorsAreIgnoredBesideOutputsOnly() throws Exception {
    List<InferResponse.Failure> errors = List.of(new InferResponse.Failure(1, "m"));
    for (List<Tensor> outputs : List.of(List.of(TENSOR), List.<Tensor>of())) {
      ByteBuffer bytes = Writer.write(new InferResponse(outputs, errors)).toByteBuffer();
      assertEquals(errors, Reader.readInferResponse(bytes).errors());
      int vector = position(bytes, position(bytes, 0) + 8);
      bytes.putInt(vector, 0x01000000);
      if (outputs.isEmpty()) {
        assertThrows(MalformedMessageException.class, () -> Reader.readInferResponse(bytes));
      } else {
        assertEquals(new InferResponse(outputs, List.of()), Reader.readInferResponse(bytes));
      }
    }
  }

  @Test
  void aRequestThatAsksNothingIsRefused() {
    ByteBuffer bytes = Writer.metadataRequest().toByteBuffer();
    int request = position(bytes, 0);
    assertEquals(2, bytes.get(request + 8));
    bytes.put(request + 8, (byte) 0);
    assertThrows(MalformedMessageException.class, () -> Reader.readRequest(bytes));
    for (int kind : new int[] {3, 255}) {
      bytes.put(request + 8, (byte) kind);
      assertThrows(UnsupportedMessageException.class, () -> Reader.readRequest(bytes));
    }
  }

  @Test
  void aTypeOfALaterWriterIsNullInMetadataAndKeepsItsNumber() throws Exception {
    ByteBuffer bytes = Writer.write(Samples.metadata()).toByteBuffer();
    int io = position(bytes, position(bytes, position(bytes, 0) + 20) + 4);
    bytes.put(io + 16, (byte) 77);
    TensorSpec spec = Reader.readMetadata(bytes).inputs().get(0);
    assertEquals(Type.NULL, spec.type());
    assertEquals(77, spec.typeNumber());
    assertEquals(0, Samples.metadata().inputs().get(0).typeNumber());
  }

  @Test
  void errorsOutsideTheirTableAreAbsentBesideOutputs() throws Exception {
    List<InferResponse.Failure> errors = List.of(new InferResponse.Failure(1, "m"));
    ByteBuffer bytes = Writer.write(new InferResponse(List.of(TENSOR), errors)).toByteBuffer();
    int table = position(bytes, 0);
    int vtable = table - bytes.getInt(table);
    bytes.putShort(vtable + 6, (short) 4000);
    assertEquals(List.of(), Reader.readInferResponse(bytes).errors());
  }

  @Test
  void stringsAreCountedForTheWholeMessage() throws Exception {
    int half = 1 << 23;
    byte[][] empty = new byte[half][];
    Arrays.fill(empty, new byte[0]);
    Tensor tensor = Tensor.ofStrings(empty, half);
    Writer.write(InferRequest.of(tensor, tensor));
    Tensor one = Tensor.ofStrings("one too many");
    InferRequest more = InferRequest.of(tensor, tensor, one);
    assertThrows(IllegalArgumentException.class, () -> Writer.write(more));
  }

  @Test
  void stringsNeedNoNulButNamesUtf8() throws Exception {
    InferRequest request = InferRequest.builder().output("\ufffdab").build();
    ByteBuffer bytes = Writer.write(request).toByteBuffer();
    int vector = position(bytes, position(bytes, position(bytes, 0) + 4) + 16);
    int name = position(bytes, vector + 4);
    bytes.limit(name + 4 + 5);
    assertEquals(List.of("\ufffdab"), Reader.readRequest(bytes).orElseThrow().outputNames());
    bytes.put(name + 4 + 3, (byte) 0xff);
    assertThrows(MalformedMessageException.class, () -> Reader.readRequest(bytes));
  }

  @Test
  void limitsHoldWhoeverWrote() throws Exception {
    for (int count : new int[] {4096, 4097}) {
      List<String> names = Collections.nCopies(count, "");
      ByteBuffer inputs = Oracle.request(InferRequest.builder().inputNames(names).build());
      ByteBuffer outputs = Oracle.request(InferRequest.builder().outputs(names).build());
      for (ByteBuffer bytes : List.of(inputs, outputs)) {
        if (count == 4096) {
          Reader.readRequest(bytes);
        } else {
          assertThrows(MalformedMessageException.class, () -> Reader.readRequest(bytes));
        }
      }
    }
    String most = "x".repeat(1 << 24);
    Reader.readRequest(Oracle.request(InferRequest.builder().config(most).build()));
    ByteBuffer more = Oracle.request(InferRequest.builder().config(most).output("y").build());
    assertThrows(MalformedMessageException.class, () -> Reader.readRequest(more));
  }

  @Test
  void dataAndShapesMayStartAnywhere() throws Exception {
    ByteBuffer aligned = response();
    for (int shift = 1; shift < 8; shift++) {
      ByteBuffer moved = ByteBuffer.allocate(aligned.limit() + 64).order(ByteOrder.LITTLE_ENDIAN);
      moved.put(aligned.duplicate());
      int shape = aligned.limit() + shift;
      moved.putInt(shape, 2).putLong(shape + 4, 2).putLong(shape + 12, 3);
      moved.putInt(TABLE + 4, shape - (TABLE + 4));
      int data = shape + 20;
      moved.putInt(data, 24).put(data + 4, TENSOR.data(), 0, 24);
      moved.putInt(TABLE + 8, data - (TABLE + 8)).clear();
      assertEquals(List.of(TENSOR), Reader.readInferResponse(moved).outputs());
    }
  }

  private static ByteBuffer response() {
    ByteBuffer bytes = Writer.write(new InferResponse(List.of(TENSOR), List.of())).toByteBuffer();
    assertEquals(RESPONSE, position(bytes, ROOT));
    assertEquals(TABLE, position(bytes, position(bytes, RESPONSE + 4) + 4));
    return bytes;
  }

  /** Where the offset at a place of {@link #response} points to. */
  private static int position(int place) {
    return position(response(), place);
  }

  private static int position(ByteBuffer bytes, int place) {
    return place + bytes.getInt(place);
  }

  private static void refused(String what, Consumer<ByteBuffer> change) {
    ByteBuffer bytes = response();
    change.accept(bytes);
    assertThrows(MalformedMessageException.class, () -> Reader.readInferResponse(bytes), what);
  }

  static void assertOnlyMalformed(byte[] bytes) {
    for (int kind = 0; kind < 3; kind++) {
      try {
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        if (kind == 0) {
          Reader.readRequest(buffer).ifPresent(r -> r.inputs().forEach(ReaderTest::touch));
        } else if (kind == 1) {
          Reader.readInferResponse(buffer).outputs().forEach(ReaderTest::touch);
        } else {
          Reader.readMetadata(buffer);
        }
      } catch (MalformedMessageException | UnsupportedMessageException e) {
        assertTrue(e.getMessage().length() > 0);
      }
    }
  }

  /** Looks at everything a tensor has. */
  private static void touch(Tensor tensor) {
    tensor.hashCode();
    if (tensor.type() == Type.STRING) {
      tensor.decodeStrings();
    } else if (tensor.type().isNumeric()) {
      tensor.toDoubles();
    }
    if (tensor.type() != Type.NULL && tensor.elements() > 0) {
      tensor.toArray();
    }
  }
}
