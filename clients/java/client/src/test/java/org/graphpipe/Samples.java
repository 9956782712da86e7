package org.graphpipe;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/** Messages that between them hold everything a message can hold. */
final class Samples {
  private Samples() {}

  static List<Tensor> tensors() {
    List<Tensor> tensors = new ArrayList<>();
    Random random = new Random(1);
    for (Type type : Type.values()) {
      if (type.isNumeric()) {
        for (long[] shape : new long[][] {{}, {0}, {0, 3}, {5}, {2, 3}, {1, 2, 1, 3}}) {
          byte[] bytes = new byte[Shape.elements(shape, Type.UINT8) * type.elementBytes()];
          random.nextBytes(bytes);
          tensors.add(
              Tensor.wrap(type, ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN), shape));
        }
      }
    }
    tensors.add(Tensor.ofStrings(new byte[][] {{0, (byte) 0xff, 0}, {}}, 2));
    tensors.add(Tensor.ofStrings(new String[] {"h\u00e9", "", "\ud83d\ude00", "x"}, 2, 2));
    tensors.add(Tensor.ofStrings(new String[] {"scalar"}));
    tensors.add(Tensor.ofStrings(new byte[0][], 0, 7));
    return tensors;
  }

  static List<InferRequest> requests() {
    List<InferRequest> requests = new ArrayList<>();
    requests.add(InferRequest.builder().build());
    requests.add(InferRequest.builder().inputs(tensors()).build());
    requests.add(
        InferRequest.builder()
            .config("{\"k\": 1}")
            .input("a", Tensor.of(new float[] {1, 2}, 2))
            .input(Tensor.ofStrings(new String[] {"x"}, 1))
            .input("b\u00df", large())
            .input("c", Tensor.ofStrings(new byte[][] {new byte[40000], {1}}, 2))
            .input("d", large())
            .outputs(List.of("y", "", "y"))
            .build());
    return requests;
  }

  static List<InferResponse> responses() {
    return List.of(
        new InferResponse(List.of(), List.of()),
        new InferResponse(tensors(), List.of()),
        new InferResponse(List.of(large(), Tensor.of(new long[] {1}, 1), large()), List.of()),
        new InferResponse(
            List.of(),
            List.of(
                new InferResponse.Failure(3, "no such output"),
                new InferResponse.Failure(Long.MIN_VALUE, ""))));
  }

  static Metadata metadata() {
    return new Metadata(
        "digits",
        "sha256:1",
        "graphpipe 1",
        "",
        List.of(new TensorSpec("x", "an image", new long[] {-1, 64}, Type.FLOAT32)),
        List.of(
            new TensorSpec("label", "", new long[] {-1}, Type.INT64),
            new TensorSpec("other", "any shape", new long[0], Type.NULL)));
  }

  /** Larger than what the writer copies. */
  static Tensor large() {
    ByteBuffer data = ByteBuffer.allocateDirect(4 * 5003).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < 5003; i++) {
      data.putInt(4 * i, i * 0x01010101);
    }
    return Tensor.wrap(Type.UINT32, data, 5003);
  }

  /** Every kind of message, encoded. */
  static List<byte[]> encoded() {
    List<byte[]> messages = new ArrayList<>();
    requests().forEach(request -> messages.add(Writer.write(request).toByteBuffer().array()));
    responses().forEach(response -> messages.add(Writer.write(response).toByteBuffer().array()));
    messages.add(Writer.write(metadata()).toByteBuffer().array());
    messages.add(Writer.metadataRequest().toByteBuffer().array());
    return messages;
  }
}
