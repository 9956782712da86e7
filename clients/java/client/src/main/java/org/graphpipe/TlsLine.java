package org.graphpipe;

import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.SocketChannel;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLEngineResult;
import javax.net.ssl.SSLEngineResult.HandshakeStatus;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLParameters;

/** TLS over a socket that never waits. The server's certificate must be for the target's host. */
final class TlsLine implements Line {
  /** Several records leave, and come, with one call of the system. */
  private static final int BUFFER_BYTES = 48 * 1024;

  private static final ByteBuffer NOTHING = ByteBuffer.allocate(0);

  private final SocketChannel channel;
  private final SSLEngine engine;
  private ByteBuffer in; // encrypted: what came, from position to limit
  private ByteBuffer out; // encrypted: what is to go, up to the position
  private ByteBuffer plain; // decrypted and not yet taken, from position to limit

  TlsLine(SocketChannel channel, SSLContext context, Target target) throws SSLException {
    this.channel = channel;
    engine = context.createSSLEngine(target.host(), target.port());
    engine.setUseClientMode(true);
    SSLParameters parameters = engine.getSSLParameters();
    parameters.setEndpointIdentificationAlgorithm("HTTPS");
    parameters.setApplicationProtocols(new String[] {"http/1.1"});
    engine.setSSLParameters(parameters);
    int bytes = Math.max(BUFFER_BYTES, engine.getSession().getPacketBufferSize());
    in = ByteBuffer.allocate(bytes).limit(0);
    out = ByteBuffer.allocate(bytes);
    plain = ByteBuffer.allocate(engine.getSession().getApplicationBufferSize()).limit(0);
    engine.beginHandshake();
  }

  /**
   * Goes on with the handshake as far as it goes without waiting.
   *
   * @return what to wait for, as a {@link SelectionKey} has it; 0 when it is done
   */
  int handshake() throws IOException {
    while (true) {
      switch (engine.getHandshakeStatus()) {
        case NEED_TASK -> runTasks();
        case NEED_WRAP -> {
          wrap(NOTHING);
          if (!flush()) {
            return SelectionKey.OP_WRITE;
          }
        }
        case NEED_UNWRAP, NEED_UNWRAP_AGAIN -> {
          if (!flush()) {
            return SelectionKey.OP_WRITE;
          }
          SSLEngineResult result = engine.unwrap(in, plain.clear());
          plain.flip();
          if (result.getStatus() == SSLEngineResult.Status.CLOSED) {
            throw new SSLException("the server ended the TLS handshake");
          }
          if (needsMore(result) && !refill()) {
            return SelectionKey.OP_READ;
          }
        }
        default -> {
          return flush() ? 0 : SelectionKey.OP_WRITE;
        }
      }
    }
  }

  @Override
  public int read(ByteBuffer room) throws IOException {
    while (!plain.hasRemaining()) {
      boolean isRoomy = room.remaining() >= engine.getSession().getApplicationBufferSize();
      SSLEngineResult result = engine.unwrap(in, isRoomy ? room : plain.clear());
      if (!isRoomy) {
        plain.flip();
      }
      if (result.getStatus() == SSLEngineResult.Status.CLOSED) {
        return -1;
      }
      follow(result);
      if (isRoomy && result.bytesProduced() > 0) {
        return result.bytesProduced();
      }
      if (needsMore(result) && !refill()) {
        return 0;
      }
    }
    int bytes = Math.min(plain.remaining(), room.remaining());
    room.put(plain.slice(plain.position(), bytes));
    plain.position(plain.position() + bytes);
    return bytes;
  }

  @Override
  public int write(ByteBuffer part) throws IOException {
    int before = part.remaining();
    while (part.hasRemaining() && hasRoom()) {
      follow(wrap(part));
    }
    return before - part.remaining();
  }

  @Override
  public boolean flush() throws IOException {
    if (out.position() == 0) {
      return true;
    }
    out.flip();
    try {
      channel.write(out);
    } finally {
      out.compact();
    }
    return out.position() == 0;
  }

  @Override
  public boolean isPending() {
    return plain.hasRemaining() || in.hasRemaining();
  }

  @Override
  public void goodbye() {
    try {
      engine.closeOutbound();
      if (hasRoom()) {
        wrap(NOTHING);
        flush();
      }
    } catch (IOException e) {
      // Nobody is there to hear it.
    }
  }

  /** Whether one more record can be made. */
  private boolean hasRoom() throws IOException {
    int record = engine.getSession().getPacketBufferSize();
    if (out.remaining() >= record) {
      return true;
    }
    flush();
    if (out.position() == 0 && out.capacity() < record) {
      out = ByteBuffer.allocate(record);
    }
    return out.remaining() >= record;
  }

  private SSLEngineResult wrap(ByteBuffer part) throws SSLException {
    SSLEngineResult result = engine.wrap(part, out);
    if (result.getStatus() == SSLEngineResult.Status.CLOSED && part.hasRemaining()) {
      throw new SSLException("the server has ended the TLS connection");
    }
    if (result.getStatus() == SSLEngineResult.Status.BUFFER_OVERFLOW) {
      out =
          ByteBuffer.allocate(out.position() + 2 * engine.getSession().getPacketBufferSize())
              .put(out.flip());
    }
    return result;
  }

  /** Does what TLS itself wants between records: new keys, answers to them. */
  private void follow(SSLEngineResult result) throws IOException {
    HandshakeStatus status = result.getHandshakeStatus();
    while (status == HandshakeStatus.NEED_TASK || status == HandshakeStatus.NEED_WRAP) {
      if (status == HandshakeStatus.NEED_TASK) {
        runTasks();
      } else {
        wrap(NOTHING);
        flush();
      }
      status = engine.getHandshakeStatus();
    }
    if (status == HandshakeStatus.NEED_UNWRAP) {
      throw new SSLException(
          "the server wants another TLS handshake in the middle of a connection");
    }
  }

  private void runTasks() {
    for (Runnable task = engine.getDelegatedTask(); task != null; ) {
      task.run();
      task = engine.getDelegatedTask();
    }
  }

  /** Whether a record is incomplete; makes room for a larger one than was agreed. */
  private boolean needsMore(SSLEngineResult result) {
    if (result.getStatus() == SSLEngineResult.Status.BUFFER_OVERFLOW) {
      int bytes = Math.max(engine.getSession().getApplicationBufferSize(), 2 * plain.capacity());
      plain = ByteBuffer.allocate(bytes).limit(0);
      return false;
    }
    return result.getStatus() == SSLEngineResult.Status.BUFFER_UNDERFLOW;
  }

  /** Takes in more of what is encrypted; false where nothing is there yet. */
  private boolean refill() throws IOException {
    if (in.remaining() == in.capacity()) {
      in = ByteBuffer.allocate(2 * in.capacity()).put(in).flip();
    }
    in.compact();
    int bytes;
    try {
      bytes = channel.read(in);
    } finally {
      in.flip();
    }
    if (bytes < 0) {
      // Whoever sits in between may end a connection, but not make the end look like the server's.
      throw new EOFException("the connection ended without a goodbye of TLS");
    }
    return bytes > 0;
  }
}
