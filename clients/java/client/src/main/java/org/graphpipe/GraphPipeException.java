package org.graphpipe;

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

  /** The server has too much to do now. Status 503. */
  public static final int OVERLOADED = 6;

  /** The caller's time was up before the model had answered. Status 504. */
  public static final int DEADLINE = 7;

  /** The server wants to know who asks. Status 401. */
  public static final int UNAUTHENTICATED = 8;

  /** The caller may not ask this. Status 403. */
  public static final int FORBIDDEN = 9;

  /** The server is starting or going away. Status 503. */
  public static final int NOT_READY = 10;

  /** The server does not do this: a method, an encoding. Status 405 or 415. */
  public static final int UNSUPPORTED = 11;

  /** A server behind the server failed. Status 502. */
  public static final int UPSTREAM_FAILED = 12;

  private static final long serialVersionUID = 1;

  /** The error's number. */
  private final long code;

  /** The HTTP status. */
  private final int status;

  /**
   * An answer that says no.
   *
   * @param code one of this class's numbers, another one of the server's, or 0
   * @param status the HTTP status of the answer
   * @param message the server's text
   */
  public GraphPipeException(long code, int status, String message) {
    super(message);
    this.code = code;
    this.status = status;
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

  @Override
  public String toString() {
    return super.toString() + " (code " + code + ", status " + status + ")";
  }

  /**
   * The number that a bare HTTP status tells. 400 and 503 stand for two each, so they tell none.
   */
  static int codeOfStatus(int status) {
    return switch (status) {
      case 401 -> UNAUTHENTICATED;
      case 403 -> FORBIDDEN;
      case 404 -> NOT_FOUND;
      case 405, 415 -> UNSUPPORTED;
      case 413 -> TOO_LARGE;
      case 500 -> MODEL_FAILED;
      case 502 -> UPSTREAM_FAILED;
      case 504 -> DEADLINE;
      default -> 0;
    };
  }
}
