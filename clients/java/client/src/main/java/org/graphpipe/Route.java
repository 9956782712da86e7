package org.graphpipe;

import java.net.ConnectException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.UnixDomainSocketAddress;
import java.net.UnknownHostException;
import java.nio.file.InvalidPathException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import javax.net.ssl.SSLContext;

/**
 * How connections to a target are made.
 *
 * @param proxy null where there is none
 * @param tls null where the target speaks no TLS
 * @param connectTimeout for each connection, with all that belongs to making it
 */
record Route(Target target, Target proxy, SSLContext tls, Duration connectTimeout) {
  /** The other end of the socket. */
  Target peer() {
    return proxy == null ? target : proxy;
  }

  /** Whether {@link #addresses} asks nobody. */
  boolean isNumeric() {
    Target peer = peer();
    return peer.socket() != null
        || peer.host().contains(":")
        || peer.host().matches("[0-9]+(\\.[0-9]+){3}");
  }

  /**
   * The addresses of the other end, to be tried in this order. May wait for the system to find
   * them.
   *
   * @throws ConnectException if there are none
   */
  List<SocketAddress> addresses() throws ConnectException {
    Target peer = peer();
    try {
      if (peer.socket() != null) {
        return List.of(UnixDomainSocketAddress.of(peer.socket()));
      }
      List<SocketAddress> addresses = new ArrayList<>();
      for (InetAddress address : InetAddress.getAllByName(peer.host())) {
        addresses.add(new InetSocketAddress(address, peer.port()));
      }
      return addresses;
    } catch (UnknownHostException e) {
      throw unreachable("its name is unknown", e);
    } catch (InvalidPathException e) {
      throw unreachable("this is no path", e);
    }
  }

  /** No connection was made, so the model has not run. */
  ConnectException unreachable(Throwable cause) {
    String said = String.valueOf(cause.getMessage());
    if (said.contains("Too many open files")) {
      return unreachable(
          "Too many open files: this process may open no more (see ulimit -n)", cause);
    }
    boolean isTls = cause instanceof javax.net.ssl.SSLException;
    String why = cause.getMessage() == null ? cause.getClass().getSimpleName() : said;
    String question =
        !isTls && said.toLowerCase(Locale.ROOT).contains("refused")
            ? "; is a server running there?"
            : "";
    return unreachable(why + question, cause);
  }

  /** No connection was made, so the model has not run. */
  ConnectException unreachable(String why, Throwable cause) {
    String who = proxy == null ? target.where() : "the proxy " + proxy.where();
    ConnectException unreachable = new ConnectException("no connection to " + who + ": " + why);
    if (cause != null) {
      unreachable.initCause(cause);
    }
    return unreachable;
  }
}
