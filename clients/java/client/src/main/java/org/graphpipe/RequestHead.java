package org.graphpipe;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;

/** Writes the heads of a client's requests, which mostly differ only in a length and a time. */
final class RequestHead {
  /** Tells the server how long the caller waits. */
  static final String TIMEOUT_HEADER = "GraphPipe-Timeout-Ms";

  /** The media type of a failure that is a message; it is sent only to those who ask for it. */
  static final String ERROR_TYPE = "application/vnd.graphpipe";

  /** This release's number, as the pom has it. */
  private static final String VERSION = "0.1.0";

  private static final Map<String, String> OURS =
      Map.of(
          "Accept",
          ERROR_TYPE,
          "Content-Type",
          "application/octet-stream",
          "User-Agent",
          "graphpipe-java/" + VERSION);

  private final String firstLine;
  private final Map<String, String> lines = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
  private final String fixed;

  /**
   * Prepares what is the same in each.
   *
   * @param proxy that forwards each request; null where there is none, or it only makes a tunnel
   * @param headers the user's, checked before; they take the place of ours
   */
  RequestHead(Target target, Target proxy, Map<String, String> headers) {
    String whole = proxy == null ? target.path() : "http://" + target.authority() + target.path();
    firstLine = "POST " + whole + " HTTP/1.1\r\nHost: " + target.authority() + "\r\n";
    lines.putAll(OURS);
    if (target.login() != null) {
      lines.put("Authorization", "Basic " + target.login());
    }
    if (proxy != null && proxy.login() != null) {
      lines.put("Proxy-Authorization", "Basic " + proxy.login());
    }
    lines.putAll(headers);
    fixed = text(lines);
  }

  /**
   * The head of a request of that length, with the empty line after it.
   *
   * @param own headers of this request alone, in place of those of all
   */
  byte[] of(int bodyBytes, Duration timeout, Map<String, String> own) {
    String start = fixed;
    if (!own.isEmpty()) {
      Map<String, String> all = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
      all.putAll(lines);
      all.putAll(own);
      start = text(all);
    }
    String end = TIMEOUT_HEADER + ": " + timeoutMs(timeout) + "\r\nContent-Length: " + bodyBytes;
    return (start + end + "\r\n\r\n").getBytes(StandardCharsets.UTF_8);
  }

  /** What {@link #TIMEOUT_HEADER} says. */
  static long timeoutMs(Duration timeout) {
    Duration longest = Duration.ofMillis(Long.MAX_VALUE);
    return timeout.compareTo(longest) < 0 ? Math.max(1, timeout.toMillis()) : Long.MAX_VALUE;
  }

  private String text(Map<String, String> all) {
    StringBuilder text = new StringBuilder(firstLine);
    all.forEach((name, value) -> text.append(name).append(": ").append(value).append("\r\n"));
    return text.toString();
  }
}
