package org.graphpipe;

import java.io.IOException;

/** Bytes that are no GraphPipe message, or that promise what they do not hold. */
public final class MalformedMessageException extends IOException {
  private static final long serialVersionUID = 1;

  /**
   * Describes what is wrong with the bytes.
   *
   * @param message what was expected and what came
   */
  public MalformedMessageException(String message) {
    super(message);
  }
}
