package org.graphpipe;

import java.net.ConnectException;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;

/**
 * The server's own answer: it read the request and refused or failed it. Asking again gives the
 * same answer unless the code says that it was a matter of time ({@link #OVERLOADED}, {@link
 * #DEADLINE}, {@link #NOT_READY}).
 *
 * <p>{@link #getMessage()} is the server's text, unchanged.
 */
public final class GraphPipeException extends RuntimeException {
  /** The request's bytes are no GraphPipe message. Status 400. */
  public static final int MALFORMED = 1;

  /** The request does not fit the model: names, types, shapes. Status 400. */
  public static final int INVALID_REQUEST = 2;

  /** There is no such model or path. Status 404. */
  public static final int NOT_FOUND = 3;

  /** The model failed on this input. Status 500. */
  public static final int MODEL_FAILED = 4;

  /** The request is larger than the server takes. Status 413. */
  public static final int TOO_LARGE = 5;

  /** The server has too much to do now (status 503), or for this caller (429). */
  public static final int OVERLOADED = 6;

  /** The caller's time was up before the model had answered. Status 504. */
  public static final int DEADLINE = 7;

  /** The server wants to know who asks. Status 401. */
  public static final int UNAUTHENTICATED = 8;

  /** The caller may not ask this. Status 403. */
  public static final int FORBIDDEN = 9;

  /** The server is starting or going away. Status 503. */
  public static final int NOT_READY = 10;

  /**
   * The server does not do this: a method, an encoding, a kind of request. Status 405, 415, 501.
   */
  public static final int UNSUPPORTED = 11;

  /** A server behind the server failed. Status 502. */
  public static final int UPSTREAM_FAILED = 12;

  private static final long serialVersionUID = 1;

  /** The error's number. */
  private final long code;

  /** The HTTP status. */
  private final int status;

  /** How long to wait; null where the server does not say. */
  private final Duration retryAfter;

  /**
   * An answer that says no.
   *
   * @param code one of this class's numbers, another one of the server's, or 0
   * @param status the HTTP status of the answer
   * @param message the server's text
   */
  public GraphPipeException(long code, int status, String message) {
    this(code, status, message, null);
  }

  /**
   * An answer that says no, and when it may be another.
   *
   * @param code one of this class's numbers, another one of the server's, or 0
   * @param status the HTTP status of the answer
   * @param message the server's text
   * @param retryAfter how long the server asks to wait; null where it does not say
   */
  public GraphPipeException(long code, int status, String message, Duration retryAfter) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /**
   * Whether the model has surely not run for a call that failed so, and may run for the next one:
   * no connection was made, or the server was too busy ({@link #OVERLOADED}) or not ready ({@link
   * #NOT_READY}). After any other failure nobody can say whether the model ran, or another try
   * gives the same.
   *
   * @param failure what a call threw, or what its future failed with
   * @return whether it is safe to try again
   */
  public static boolean safeToRetry(Throwable failure) {
    Throwable known = failure;
    while ((known instanceof CompletionException || known instanceof ExecutionException)
        && known.getCause() != null) {
      known = known.getCause();
    }
    return known instanceof ConnectException
        || known instanceof GraphPipeException refusal
            && (refusal.code == OVERLOADED || refusal.code == NOT_READY);
  }

  /**
   * The error's number, the same in every language.
   *
   * @return one of this class's constants or a number that this version does not know; 0 where the
   *     server gave none and its status does not tell
   */
  public long code() {
    return code;
  }

  /**
   * The HTTP status that came with the answer.
   *
   * @return such as 400; 200 where a foreign server hides its errors behind that
   */
  public int status() {
    return status;
  }

  /**
   * How long the server asks to wait before another try, at most a day.
   *
   * @return empty where it does not say
   */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }

  @Override
  public String toString() {
    return super.toString() + " (code " + code + ", status " + status + ")";
  }

  /**
   * The number that a bare HTTP status tells. 400 stands for two, so it tells none; a 503 or a 429
   * is somebody too busy, whoever that is.
   */
  static int codeOfStatus(int status) {
    return switch (status) {
      case 401 -> UNAUTHENTICATED;
      case 403 -> FORBIDDEN;
      case 404 -> NOT_FOUND;
      case 405, 415, 501, 505 -> UNSUPPORTED;
      case 413 -> TOO_LARGE;
      case 429, 503 -> OVERLOADED;
      case 500 -> MODEL_FAILED;
      case 502 -> UPSTREAM_FAILED;
      case 504 -> DEADLINE;
      default -> 0;
    };
  }
}
