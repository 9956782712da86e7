package org.graphpipe;

import java.io.Closeable;
import java.io.IOException;
import java.net.ConnectException;
import java.net.SocketAddress;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.util.List;

/** A connection that is being made: to an address, through a proxy's tunnel, with TLS. */
final class Opening implements Closeable {
  private final Route route;
  private final Dial dial;
  private final long endNanos;
  private SocketChannel channel; // connected
  private Tunnel tunnel;
  private TlsLine tls;

  Opening(Route route, List<SocketAddress> addresses) {
    this.route = route;
    dial = new Dial(addresses);
    endNanos = Deadline.endNanos(route.connectTimeout());
  }

  /**
   * Goes on without waiting, and registers with the selector what there is to wait for.
   *
   * @return the connection; null where there is none yet
   * @throws ConnectException if there will be none; nothing is left open
   */
  Connection advance(Selector selector, Object attachment) throws ConnectException {
    try {
      if (channel == null) {
        channel = dial.advance(selector, attachment);
      }
      if (channel != null) {
        int ops = prepare();
        if (ops == 0) {
          return new Connection(channel, tls == null ? new Line.Plain(channel) : tls);
        }
        channel.register(selector, ops, attachment);
      }
      if (endNanos - System.nanoTime() <= 0) {
        throw route.unreachable(
            "none within " + RequestHead.timeoutMs(route.connectTimeout()) + " ms", null);
      }
      return null;
    } catch (ConnectException e) {
      close();
      throw e.getMessage() != null && e.getMessage().startsWith("no connection")
          ? e
          : route.unreachable(e);
    } catch (IOException e) {
      close();
      throw route.unreachable(e);
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
  }

  /** When to go on though nothing has come. */
  long wakeNanos() {
    boolean isSooner = channel == null && dial.hasMore() && dial.wakeNanos() - endNanos < 0;
    return isSooner ? dial.wakeNanos() : endNanos;
  }

  @Override
  public void close() {
    dial.close();
    if (channel != null) {
      try {
        channel.close();
      } catch (IOException e) {
        // Nothing is lost that anybody waits for.
      }
    }
  }

  /** What follows once the socket is connected: what to wait for, 0 when it is done. */
  private int prepare() throws IOException {
    if (route.tls() == null) {
      return 0;
    }
    if (route.proxy() != null) {
      if (tunnel == null) {
        tunnel = new Tunnel(channel, route.target(), route.proxy());
      }
      int ops = tunnel.advance();
      if (ops != 0) {
        return ops;
      }
    }
    if (tls == null) {
      tls = new TlsLine(channel, route.tls(), route.target());
    }
    return tls.handshake();
  }
}
