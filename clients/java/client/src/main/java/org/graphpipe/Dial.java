package org.graphpipe;

import java.io.Closeable;
import java.io.IOException;
import java.net.ConnectException;
import java.net.SocketAddress;
import java.net.StandardProtocolFamily;
import java.net.StandardSocketOptions;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.channels.UnsupportedAddressTypeException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Queue;

/**
 * Tries a server's addresses side by side until one takes us. Each has a head start over the next,
 * so that a name whose first address is dead costs a moment and not a timeout. (RFC 8305 has the
 * idea.)
 */
final class Dial implements Closeable {
  private static final long HEAD_START_NANOS = 250_000_000;

  private final Queue<SocketAddress> untried;
  private final List<SocketChannel> trying = new ArrayList<>();
  private IOException failure = new ConnectException("it has no address");
  private long nextNanos;

  Dial(List<SocketAddress> addresses) {
    untried = new ArrayDeque<>(addresses);
  }

  /**
   * Goes on without waiting.
   *
   * @return a connected channel, registered with the selector; null where none is yet
   * @throws IOException if none of the addresses takes us
   */
  SocketChannel advance(Selector selector, Object attachment) throws IOException {
    for (Iterator<SocketChannel> all = trying.iterator(); all.hasNext(); ) {
      SocketChannel channel = all.next();
      try {
        if (channel.finishConnect()) {
          return won(channel);
        }
      } catch (IOException e) {
        failure = e;
        channel.close();
        all.remove();
        nextNanos = System.nanoTime();
      }
    }
    while (!untried.isEmpty() && (trying.isEmpty() || nextNanos - System.nanoTime() <= 0)) {
      SocketChannel channel = begin(untried.remove(), selector, attachment);
      if (channel != null) {
        return won(channel);
      }
      nextNanos = System.nanoTime() + HEAD_START_NANOS;
    }
    if (trying.isEmpty()) {
      throw failure;
    }
    return null;
  }

  /** Whether there is something to do at {@link #wakeNanos}, though nothing has come by then. */
  boolean hasMore() {
    return !untried.isEmpty();
  }

  long wakeNanos() {
    return nextNanos;
  }

  @Override
  public void close() {
    for (SocketChannel channel : trying) {
      try {
        channel.close();
      } catch (IOException e) {
        // Nothing is lost that anybody waits for.
      }
    }
    trying.clear();
  }

  /** Begins to connect; the channel where that is done already. */
  private SocketChannel begin(SocketAddress address, Selector selector, Object attachment) {
    boolean isUnix = address instanceof UnixDomainSocketAddress;
    SocketChannel channel = null;
    try {
      channel = isUnix ? SocketChannel.open(StandardProtocolFamily.UNIX) : SocketChannel.open();
      trying.add(channel);
      channel.configureBlocking(false);
      if (!isUnix) {
        channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
        channel.setOption(StandardSocketOptions.SO_KEEPALIVE, true);
      }
      channel.register(selector, SelectionKey.OP_CONNECT, attachment);
      return channel.connect(address) ? channel : null;
    } catch (IOException e) {
      failure = e;
    } catch (UnsupportedAddressTypeException | UnsupportedOperationException e) {
      failure = new ConnectException("this system has no such addresses as " + address);
    }
    if (channel != null) {
      trying.remove(channel);
      try {
        channel.close();
      } catch (IOException e) {
        // It was never connected.
      }
    }
    return null;
  }

  private SocketChannel won(SocketChannel channel) {
    trying.remove(channel);
    close();
    return channel;
  }
}
