package org.graphpipe;

import java.io.IOException;

/**
 * A request of a kind that did not exist when this was written: a later client's, and no mistake.
 */
public final class UnsupportedMessageException extends IOException {
  private static final long serialVersionUID = 1;

  /**
   * Says what is not known.
   *
   * @param message what came and what is known
   */
  public UnsupportedMessageException(String message) {
    super(message);
  }
}
