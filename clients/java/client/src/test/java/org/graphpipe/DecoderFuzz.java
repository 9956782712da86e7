package org.graphpipe;

import java.nio.ByteBuffer;
import java.util.List;
import java.util.Optional;

/**
 * A target for Jazzer: what is read is written and read as the same, and what is refused is refused
 * as malformed or unsupported. An input is four bytes, of which the first says which kind of
 * message follows; tests/fuzz/decoder.py has the others.
 */
public final class DecoderFuzz {
  private static final int PREFIX_BYTES = 4;

  private DecoderFuzz() {}

  /** Throws whatever is a finding. */
  public static void fuzzerTestOneInput(byte[] data) {
    if (data.length <= PREFIX_BYTES) {
      return;
    }
    ByteBuffer message = ByteBuffer.wrap(data, PREFIX_BYTES, data.length - PREFIX_BYTES).slice();
    try {
      switch ((data[0] & 0xff) % 3) {
        case 0 -> request(message);
        case 1 -> response(message);
        default -> metadata(message);
      }
    } catch (MalformedMessageException | UnsupportedMessageException e) {
      // The two ways to say no.
    }
  }

  private static void request(ByteBuffer message)
      throws MalformedMessageException, UnsupportedMessageException {
    Optional<InferRequest> read = Reader.readRequest(message);
    if (read.isPresent()) {
      InferRequest request = read.get();
      try {
        InferRequest back = Reader.readRequest(Writer.write(request).toByteBuffer()).orElseThrow();
        same(told(request), told(back));
      } catch (MalformedMessageException | UnsupportedMessageException e) {
        throw new AssertionError("what was read and written is refused", e);
      }
    }
  }

  private static void response(ByteBuffer message) throws MalformedMessageException {
    InferResponse read = Reader.readInferResponse(message);
    try {
      same(read, Reader.readInferResponse(Writer.write(read).toByteBuffer()));
    } catch (MalformedMessageException e) {
      throw new AssertionError("what was read and written is refused", e);
    }
  }

  private static void metadata(ByteBuffer message) throws MalformedMessageException {
    Metadata read = Reader.readMetadata(message);
    try {
      same(told(read), told(Reader.readMetadata(Writer.write(read).toByteBuffer())));
    } catch (MalformedMessageException e) {
      throw new AssertionError("what was read and written is refused", e);
    }
  }

  private static List<Object> told(InferRequest request) {
    return List.of(request.config(), request.inputNames(), request.inputs(), request.outputNames());
  }

  /** The number of a type that is not known here is not sent. */
  private static List<Object> told(Metadata metadata) {
    return List.of(
        metadata.name(),
        metadata.version(),
        metadata.server(),
        metadata.description(),
        metadata.inputs().stream().map(DecoderFuzz::sent).toList(),
        metadata.outputs().stream().map(DecoderFuzz::sent).toList());
  }

  private static TensorSpec sent(TensorSpec spec) {
    return new TensorSpec(spec.name(), spec.description(), spec.shape(), spec.type());
  }

  private static void same(Object read, Object back) {
    if (!read.equals(back)) {
      throw new AssertionError(read + " came back as " + back);
    }
  }
}
