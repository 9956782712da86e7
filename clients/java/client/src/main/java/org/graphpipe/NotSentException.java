package org.graphpipe;

import java.io.IOException;

/**
 * A connection that had been used before turned out to be closed: no byte of an answer came, and
 * not the whole request went out, so the model did not run. The one case to send again.
 */
final class NotSentException extends IOException {
  private static final long serialVersionUID = 1;

  NotSentException(String message, IOException cause) {
    super(message, cause);
  }
}
