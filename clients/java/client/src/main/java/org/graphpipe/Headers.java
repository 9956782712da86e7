package org.graphpipe;

import java.util.Collections;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.regex.Pattern;

/** Headers that a user adds: each name once, whatever its case. Not for several threads at once. */
final class Headers {
  private static final Pattern TOKEN = Pattern.compile("[!#$%&'*+.^_`|~0-9A-Za-z-]+");

  /** What says where a message ends, to whom it goes, or what the answer may look like. */
  private static final Set<String> OURS =
      Set.of(
          "accept-encoding",
          "connection",
          "content-encoding",
          "content-length",
          "expect",
          "graphpipe-timeout-ms",
          "host",
          "keep-alive",
          "proxy-connection",
          "te",
          "trailer",
          "transfer-encoding",
          "upgrade");

  private final SortedMap<String, String> lines = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);

  /**
   * Sets a header in place of one of the same name.
   *
   * @throws IllegalArgumentException if this is no header, or one that the client says itself
   */
  void set(String name, String value) {
    if (!TOKEN.matcher(name).matches()) {
      throw new IllegalArgumentException(
          "this cannot be the name of a header: '" + shown(name) + "'");
    }
    if (OURS.contains(name.toLowerCase(Locale.ROOT))) {
      throw new IllegalArgumentException(
          "the header " + name + " cannot be set: the client says it itself");
    }
    if (value.chars().anyMatch(c -> c < ' ' && c != '\t' || c == 0x7f)) {
      // The value itself may be a key.
      throw new IllegalArgumentException(
          "the value of the header " + name + " has control characters");
    }
    lines.remove(name); // for the case of its name
    lines.put(name, value);
  }

  /** A copy that does not change; names by their order, in any case. */
  Map<String, String> copy() {
    if (lines.isEmpty()) {
      return Map.of();
    }
    return Collections.unmodifiableMap(new TreeMap<>(lines));
  }

  private static String shown(String name) {
    return name.replaceAll("[^ -~]", "?");
  }
}
