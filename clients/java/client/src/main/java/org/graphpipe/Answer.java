package org.graphpipe;

import java.nio.ByteBuffer;

/**
 * What a server said, whole, before anybody looked into it.
 *
 * @param contentType empty where the server gave none
 */
record Answer(int status, String contentType, ByteBuffer body) {}
