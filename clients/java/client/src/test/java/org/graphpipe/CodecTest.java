package org.graphpipe;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class CodecTest {
  @Test
  void whatWasWrittenIsReadBack() throws Exception {
    for (InferRequest request : Samples.requests()) {
      InferRequest read = Reader.readRequest(Writer.write(request).toByteBuffer()).orElseThrow();
      assertRequestEquals(request, read);
    }
    for (InferResponse response : Samples.responses()) {
      assertEquals(response, Reader.readInferResponse(Writer.write(response).toByteBuffer()));
    }
    Metadata metadata = Samples.metadata();
    assertEquals(metadata, Reader.readMetadata(Writer.write(metadata).toByteBuffer()));
    assertEquals(Optional.empty(), Reader.readRequest(Writer.metadataRequest().toByteBuffer()));
  }

  @Test
  void theOfficialRuntimeReadsWhatWeWrite() {
    for (InferRequest request : Samples.requests()) {
      Oracle.View view = Oracle.View.root(Writer.write(request).toByteBuffer());
      assertEquals(1, view.byteAt(0));
      Oracle.View body = view.table(1);
      assertEquals(request.config(), body.text(0));
      assertEquals(request.inputNames(), body.texts(1));
      assertEquals(request.inputs(), body.tensors(2));
      assertEquals(request.outputNames(), body.texts(3));
    }
    for (InferResponse response : Samples.responses()) {
      Oracle.View view = Oracle.View.root(Writer.write(response).toByteBuffer());
      assertEquals(response.outputs(), view.tensors(0));
      assertEquals(response.errors().isEmpty(), !view.has(1));
      for (int i = 0; i < response.errors().size(); i++) {
        assertEquals(response.errors().get(i).code(), view.element(1, i).longAt(0));
        assertEquals(response.errors().get(i).message(), view.element(1, i).text(1));
      }
    }
    Metadata metadata = Samples.metadata();
    Oracle.View view = Oracle.View.root(Writer.write(metadata).toByteBuffer());
    assertEquals(metadata.name(), view.text(0));
    assertEquals(metadata.version(), view.text(1));
    assertEquals(metadata.server(), view.text(2));
    assertEquals(metadata.description(), view.text(3));
    TensorSpec input = metadata.inputs().get(0);
    assertEquals(input.name(), view.element(4, 0).text(0));
    assertEquals(input.description(), view.element(4, 0).text(1));
    assertArrayEquals(input.shape(), view.element(4, 0).longs(2));
    assertEquals(input.type().ordinal(), view.element(4, 0).byteAt(3));
    assertEquals(2, view.length(5));
  }

  @Test
  void weReadWhatTheOfficialRuntimeWrites() throws Exception {
    for (InferRequest request : Samples.requests()) {
      assertRequestEquals(request, Reader.readRequest(Oracle.request(request)).orElseThrow());
    }
    for (InferResponse response : Samples.responses()) {
      assertEquals(response, Reader.readInferResponse(Oracle.response(response)));
    }
  }

  @Test
  void everyTensorStartsAtAMultipleOf64AndEveryOffsetPointsForward() {
    for (InferRequest request : Samples.requests()) {
      Oracle.View body = Oracle.View.root(Writer.write(request).toByteBuffer()).table(1);
      for (int i = 0; i < body.length(2); i++) {
        Oracle.View tensor = body.element(2, i);
        assertTrue(tensor.has(1), "shape is always written");
        assertEquals(0, tensor.start(1) % 8, "shape");
        if (tensor.byteAt(0) == Type.STRING.ordinal()) {
          assertTrue(tensor.has(3), "string_val is always written");
        } else {
          assertTrue(tensor.has(2), "data is always written");
          assertEquals(0, tensor.start(2) % 64, "data");
        }
      }
    }
  }

  @Test
  void largeTensorsAreSentFromTheCallersMemory() {
    Tensor large = Samples.large();
    EncodedMessage message = Writer.write(InferRequest.of(large, large));
    assertEquals(4, message.segments().size(), "tables, tensor, its length, tensor");
    large.data().putInt(0, 42);
    assertEquals(42, message.segments().get(1).order(ByteOrder.LITTLE_ENDIAN).getInt(0), "no copy");
    int sum = message.segments().stream().mapToInt(ByteBuffer::remaining).sum();
    assertEquals(message.bytes(), sum);
  }

  @Test
  void numbersThatWereReadLookIntoTheBuffer() throws Exception {
    Tensor one = Tensor.of(new float[] {1, 2}, 2);
    ByteBuffer bytes = Writer.write(new InferResponse(List.of(one), List.of())).toByteBuffer();
    int position = bytes.position();
    Tensor read = Reader.readInferResponse(bytes).outputs().get(0);
    assertEquals(position, bytes.position());
    read.data().putFloat(0, 7);
    assertEquals(7, Reader.readInferResponse(bytes).outputs().get(0).asFloatBuffer().get(0));
    assertSame(ByteOrder.LITTLE_ENDIAN, read.data().order());
  }

  @Test
  void aMessageOfTwoGibibytesIsRefusedBeforeItIsMade() {
    // The same mebibyte 2048 times: nothing is copied, so nothing large is needed.
    ByteBuffer half = ByteBuffer.allocateDirect(1 << 20);
    Tensor[] tensors = new Tensor[2048];
    Arrays.fill(tensors, Tensor.wrap(Type.UINT8, half, 1 << 20));
    InferRequest request = InferRequest.of(tensors);
    assertThrows(IllegalArgumentException.class, () -> Writer.write(request));
  }

  @Test
  void moreThanAnyReaderTakesIsNotWritten() {
    Tensor tensor = Tensor.of(new byte[1], 1);
    for (InferRequest request :
        List.of(
            InferRequest.builder().inputs(Collections.nCopies(4097, tensor)).build(),
            InferRequest.builder().inputNames(Collections.nCopies(4097, "")).build(),
            InferRequest.builder().outputs(Collections.nCopies(4097, "")).build(),
            InferRequest.builder().config("x".repeat(1 << 24)).output("y").build(),
            InferRequest.of(Tensor.ofStrings(strings((1 << 24) + 1), (1 << 24) + 1)))) {
      assertThrows(IllegalArgumentException.class, () -> Writer.write(request));
    }
    InferResponse response =
        new InferResponse(List.of(), Collections.nCopies(4097, new InferResponse.Failure(1, "")));
    assertThrows(IllegalArgumentException.class, () -> Writer.write(response));
  }

  @Test
  void errorsAreAbsentWhereThereAreNone() {
    InferResponse good = new InferResponse(List.of(Tensor.of(new byte[1], 1)), List.of());
    assertFalse(Oracle.View.root(Writer.write(good).toByteBuffer()).has(1));
  }

  @Test
  void textWithoutAUtf8FormIsRefusedInsteadOfChanged() {
    InferRequest request = InferRequest.builder().config("\ud800").build();
    assertThrows(IllegalArgumentException.class, () -> Writer.write(request));
  }

  private static byte[][] strings(int count) {
    byte[][] strings = new byte[count][];
    Arrays.fill(strings, new byte[0]);
    return strings;
  }

  private static void assertRequestEquals(InferRequest expected, InferRequest got) {
    assertEquals(expected.config(), got.config());
    assertEquals(expected.inputNames(), got.inputNames());
    assertEquals(expected.inputs(), got.inputs());
    assertEquals(expected.outputNames(), got.outputNames());
    assertFalse(got.timeout().isPresent());
  }
}
