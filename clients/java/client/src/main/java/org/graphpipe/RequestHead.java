package org.graphpipe;

import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Writes the heads of a client's requests, which differ only in a length and a time. */
final class RequestHead {
  private final String fixed;
  private final boolean hasOwnTimeout;

  /**
   * Prepares what is the same in each.
   *
   * @param headers names and values by turns, checked before; the last of a name holds
   */
  RequestHead(URI url, List<String> headers) {
    URI ascii = URI.create(url.toASCIIString());
    String path = ascii.getRawPath().isEmpty() ? "/" : ascii.getRawPath();
    String query = ascii.getRawQuery() == null ? "" : "?" + ascii.getRawQuery();
    String port = ascii.getPort() < 0 ? "" : ":" + ascii.getPort();
    Map<String, String> lines = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
    lines.put("Host", ascii.getHost() + port);
    lines.putAll(Transport.HEADERS);
    for (int i = 0; i < headers.size(); i += 2) {
      lines.put(headers.get(i), headers.get(i + 1));
    }
    hasOwnTimeout = lines.containsKey(Transport.TIMEOUT_HEADER);
    StringBuilder text = new StringBuilder();
    text.append("POST ").append(path).append(query).append(" HTTP/1.1\r\n");
    lines.forEach((name, value) -> text.append(name).append(": ").append(value).append("\r\n"));
    fixed = text.toString();
  }

  /** The head of a request of that length, with the empty line after it. */
  byte[] of(int bodyBytes, Duration timeout) {
    String time =
        hasOwnTimeout
            ? ""
            : Transport.TIMEOUT_HEADER + ": " + Transport.timeoutMs(timeout) + "\r\n";
    return (fixed + time + "Content-Length: " + bodyBytes + "\r\n\r\n")
        .getBytes(StandardCharsets.ISO_8859_1);
  }
}
