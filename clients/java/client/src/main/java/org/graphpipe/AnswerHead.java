package org.graphpipe;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.DateTimeException;
import java.time.Duration;
import java.time.Instant;
import java.time.format.DateTimeFormatter;
import java.util.Arrays;
import java.util.Locale;
import java.util.regex.Pattern;

/**
 * What the head of an answer says, and whether it is one. Only what a client must know is kept.
 *
 * @param reason the words behind a status other than 200, cut short; maybe empty
 * @param contentType empty where the server gave none
 * @param length of the body; -1 where it is chunked or ends with the connection
 * @param keepAlive whether another answer may follow on this connection
 * @param server what the header of that name says where the status is not 200, cut short; or empty
 * @param retryAfter how long the server asks to wait; null where it does not say
 */
record AnswerHead(
    int status,
    String reason,
    String contentType,
    long length,
    boolean isChunked,
    boolean keepAlive,
    String server,
    Duration retryAfter) {
  private static final Duration RETRY_AFTER_MAX = Duration.ofDays(1);
  private static final int SHOWN_CHARS_MAX = 60;
  private static final Pattern TOKEN = Pattern.compile("[!#$%&'*+.^_`|~0-9A-Za-z-]+");

  /** Fifteen digits are more than anybody sends, and cannot overflow. */
  private static final Pattern LENGTH = Pattern.compile("[0-9]{1,15}");

  /**
   * Reads the lines of a head.
   *
   * @param bytes its first {@code end} bytes are the head, with the empty line after it
   * @throws IOException if these are not the bytes of HTTP/1
   */
  static AnswerHead parse(byte[] bytes, int end) throws IOException {
    String[] lines = new String(bytes, 0, end, StandardCharsets.ISO_8859_1).split("\r\n");
    String first = lines.length > 0 ? lines[0] : "";
    int status = status(first);
    String contentType = "";
    String encoding = "";
    String server = "";
    String retryAfter = "";
    String date = "";
    long length = -1;
    boolean isChunked = false;
    boolean keepAlive = first.startsWith("HTTP/1.1");
    for (int i = 1; i < lines.length; i++) {
      String line = lines[i];
      int colon = line.indexOf(':');
      if (colon < 0 || hasControls(line)) {
        throw notHttp("header line", line);
      }
      String value = line.substring(colon + 1).strip();
      switch (name(line, colon)) {
        case "content-length" -> {
          if (length >= 0 || !LENGTH.matcher(value).matches()) {
            throw new IOException(
                "the answer's Content-Length is "
                    + (length >= 0 ? "there twice" : "'" + shown(value) + "'"));
          }
          length = Long.parseLong(value);
        }
        case "transfer-encoding" -> {
          if (isChunked || !value.equalsIgnoreCase("chunked")) {
            throw new IOException(
                "the answer's Transfer-Encoding is '%s'; only chunked, once, is understood"
                    .formatted(shown(value)));
          }
          isChunked = true;
        }
        case "connection" -> {
          var words = Arrays.asList(value.toLowerCase(Locale.ROOT).split("[ \t]*,[ \t]*"));
          keepAlive = (keepAlive || words.contains("keep-alive")) && !words.contains("close");
        }
        case "content-type" -> contentType = contentType.isEmpty() ? value : contentType;
        case "content-encoding" -> encoding = value;
        case "server" -> server = status == 200 ? "" : shown(value);
        case "retry-after" -> retryAfter = value;
        case "date" -> date = value;
        default -> {
          // nothing that a client must know
        }
      }
    }
    check(status, length, isChunked, encoding);
    boolean isBodiless = status == 204 || status == 304;
    return new AnswerHead(
        status,
        status == 200 ? "" : shown(first.substring(12).strip()),
        contentType,
        isBodiless ? 0 : length,
        isChunked && !isBodiless,
        keepAlive && (isBodiless || isChunked || length >= 0),
        server,
        retryAfter.isEmpty() ? null : wait(retryAfter, date));
  }

  /** Reads seconds or a date, of at most a day; null where it is neither. */
  private static Duration wait(String retryAfter, String date) {
    if (retryAfter.matches("[0-9]+")) {
      return retryAfter.length() > 6
          ? RETRY_AFTER_MAX
          : shorter(Duration.ofSeconds(Long.parseLong(retryAfter)));
    }
    Instant until = instant(retryAfter);
    if (until == null) {
      return null;
    }
    Instant now = instant(date); // by their clock, if they say what it shows
    Duration left = Duration.between(now == null ? Instant.now() : now, until);
    return left.isNegative() ? Duration.ZERO : shorter(left);
  }

  private static Duration shorter(Duration wait) {
    return wait.compareTo(RETRY_AFTER_MAX) < 0 ? wait : RETRY_AFTER_MAX;
  }

  private static Instant instant(String date) {
    try {
      return DateTimeFormatter.RFC_1123_DATE_TIME.parse(date, Instant::from);
    } catch (DateTimeException e) {
      return null;
    }
  }

  /** Refuses a body whose end is in doubt, or which would have to be unpacked. */
  static void check(int status, long length, boolean isChunked, String encoding)
      throws IOException {
    if (isChunked && length >= 0) {
      // One reader believes the one, the next the other: what is left over would be an answer.
      throw new IOException("the answer has both a Transfer-Encoding and a Content-Length");
    }
    if (status == 200 && !encoding.isEmpty() && !encoding.equalsIgnoreCase("identity")) {
      throw new IOException("the answer is encoded as " + encoding + ", which nobody asked for");
    }
  }

  /** The status of {@code HTTP/1.1 200 OK} and its kind. */
  private static int status(String line) throws IOException {
    boolean isHttp =
        line.length() >= 12
            && (line.startsWith("HTTP/1.1 ") || line.startsWith("HTTP/1.0 "))
            && (line.length() == 12 || line.charAt(12) == ' ')
            && !hasControls(line);
    int status = 0;
    for (int i = 9; isHttp && i < 12; i++) {
      int digit = line.charAt(i) - '0';
      isHttp = digit >= 0 && digit <= 9;
      status = 10 * status + digit;
    }
    if (!isHttp || status < 100) {
      throw notHttp("first line", line);
    }
    return status;
  }

  private static String name(String line, int colon) throws IOException {
    String name = line.substring(0, colon);
    if (!TOKEN.matcher(name).matches()) {
      throw notHttp("header line", line);
    }
    return name.toLowerCase(Locale.ROOT);
  }

  private static boolean hasControls(String line) {
    return line.chars().anyMatch(c -> c < ' ' && c != '\t' || c == 0x7f);
  }

  private static IOException notHttp(String what, String line) {
    return new IOException("what came is not HTTP: " + what + " '" + shown(line) + "'");
  }

  private static String shown(String text) {
    String safe = text.replaceAll("[^ -~]", "?");
    return safe.length() <= SHOWN_CHARS_MAX ? safe : safe.substring(0, SHOWN_CHARS_MAX) + "...";
  }
}
