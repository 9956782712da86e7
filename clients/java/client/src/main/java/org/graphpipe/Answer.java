package org.graphpipe;

import java.nio.ByteBuffer;

/** What a server said, whole, before anybody looked into it. */
record Answer(AnswerHead head, ByteBuffer body) {}
