package org.graphpipe;

import java.net.IDN;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Where a client's requests go, read from its URL. The login of a URL is kept apart from all that
 * is shown to people.
 *
 * @param isSecure whether TLS is spoken
 * @param host a name or an address, without brackets; {@code localhost} for a Unix socket
 * @param authority what the header Host says
 * @param path with the query
 * @param login what follows {@code Basic} in the header Authorization; null where the URL has none
 * @param socket the path of a Unix socket; null for TCP
 */
record Target(
    boolean isSecure,
    String host,
    int port,
    String authority,
    String path,
    String login,
    String socket) {
  private static final int HTTP_PORT = 80;
  private static final int HTTPS_PORT = 443;
  private static final int PORT_MAX = 65535;

  /** An own reading, since {@link URI#getHost} knows no names with underscores. */
  private static final Pattern AUTHORITY =
      Pattern.compile("(?:(.*)@)?(\\[[0-9A-Fa-f:.]+(?:%\\w+)?]|[^\\[\\]@:]+)(?::(\\d{0,5}))?");

  private static final Pattern NAME = Pattern.compile("[A-Za-z0-9._~-]+");
  private static final Pattern LOGIN = Pattern.compile("//[^/?#]*@");

  /**
   * Reads {@code http://host:9000/models/NAME}, {@code https://host}, {@code unix:/p.sock} or
   * {@code unix:/p.sock:/models/NAME}.
   *
   * @throws IllegalArgumentException if it is none of these; the message has no login in it
   */
  static Target parse(String url) {
    if (url.startsWith("unix:")) {
      return ofSocket(url);
    }
    try {
      URI uri = new URI(url);
      String scheme = uri.getScheme() == null ? "" : uri.getScheme().toLowerCase(Locale.ROOT);
      boolean isSecure = scheme.equals("https");
      if ((isSecure || scheme.equals("http")) && uri.getRawAuthority() != null) {
        return ofAuthority(url, uri, isSecure);
      }
    } catch (URISyntaxException e) {
      // Its message shows the URL as it is.
    }
    throw refused(url);
  }

  /** The server for people: no path, no login. */
  String where() {
    return socket != null
        ? "unix:" + socket
        : (host.contains(":") ? "[" + host + "]" : host) + ":" + port;
  }

  boolean isLoopback() {
    String name = host.toLowerCase(Locale.ROOT);
    return socket != null
        || name.equals("localhost")
        || name.endsWith(".localhost")
        || name.equals("::1")
        || name.matches("127(\\.[0-9]+){3}");
  }

  /** The URL without a login, path and query: to ask which proxy is meant for it. */
  URI uri() {
    return URI.create((isSecure ? "https://" : "http://") + authority);
  }

  /** The URL without login and query. */
  @Override
  public String toString() {
    String plain = path.split("\\?", 2)[0];
    if (socket != null) {
      return "unix:" + socket + (plain.equals("/") ? "" : ":" + plain);
    }
    return (isSecure ? "https://" : "http://") + authority + plain;
  }

  private static Target ofAuthority(String url, URI uri, boolean isSecure) {
    Matcher parts = AUTHORITY.matcher(uri.getRawAuthority());
    if (!parts.matches()) {
      throw refused(url);
    }
    String shown = parts.group(2);
    if (!shown.startsWith("[")) {
      try {
        shown = IDN.toASCII(URLDecoder.decode(shown, StandardCharsets.UTF_8));
      } catch (IllegalArgumentException e) {
        throw refused(url);
      }
      if (!NAME.matcher(shown).matches()) {
        throw refused(url);
      }
    }
    String digits = parts.group(3) == null ? "" : parts.group(3);
    int port = digits.isEmpty() ? (isSecure ? HTTPS_PORT : HTTP_PORT) : Integer.parseInt(digits);
    if (port < 1 || port > PORT_MAX) {
      throw refused(url);
    }
    String host = shown.startsWith("[") ? shown.substring(1, shown.length() - 1) : shown;
    String authority = shown + (digits.isEmpty() ? "" : ":" + port);
    return new Target(isSecure, host, port, authority, path(uri), basic(url, parts.group(1)), null);
  }

  private static Target ofSocket(String url) {
    String rest = url.substring("unix:".length());
    int colon = rest.indexOf(":/");
    String socket = colon < 0 ? rest : rest.substring(0, colon);
    if (socket.isEmpty()) {
      throw refused(url);
    }
    try {
      URI uri = new URI("http://localhost" + (colon < 0 ? "" : rest.substring(colon + 1)));
      return new Target(false, "localhost", HTTP_PORT, "localhost", path(uri), null, socket);
    } catch (URISyntaxException e) {
      throw refused(url);
    }
  }

  private static String path(URI uri) {
    URI ascii = URI.create(uri.toASCIIString());
    String path =
        ascii.getRawPath() == null || ascii.getRawPath().isEmpty() ? "/" : ascii.getRawPath();
    return ascii.getRawQuery() == null ? path : path + "?" + ascii.getRawQuery();
  }

  private static String basic(String url, String login) {
    if (login == null) {
      return null;
    }
    try {
      // A plus is a plus here, other than in forms.
      String plain = URLDecoder.decode(login.replace("+", "%2B"), StandardCharsets.UTF_8);
      String whole = plain.contains(":") ? plain : plain + ":";
      return Base64.getEncoder().encodeToString(whole.getBytes(StandardCharsets.UTF_8));
    } catch (IllegalArgumentException e) {
      throw refused(url);
    }
  }

  private static IllegalArgumentException refused(String url) {
    return new IllegalArgumentException(
        "expected http://HOST:PORT/PATH, https://HOST/PATH or unix:/path/to.sock, got "
            + LOGIN.matcher(url).replaceFirst("//"));
  }
}
