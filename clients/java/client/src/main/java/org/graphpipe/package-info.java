/**
 * A client for GraphPipe: tensors go to a model server and come back, as FlatBuffers over HTTP.
 *
 * <p>Start with {@link org.graphpipe.Client}. One call walks through the files in this order:
 * {@link org.graphpipe.InferRequest} holds {@link org.graphpipe.Tensor}s, {@link
 * org.graphpipe.Writer} lays it out as an {@link org.graphpipe.EncodedMessage}, {@code Transport}
 * takes a {@code Connection} from its {@code ConnectionPool} and drives an {@code Exchange} over
 * it, which sends the segments from where they lie; {@code AnswerReader} finds the {@code
 * AnswerHead} in what comes back and collects the {@code AnswerBody} in one buffer, and {@link
 * org.graphpipe.Reader} checks every byte of it before it becomes tensors, or {@code Refusal} an
 * exception. Connections are made by an {@code Opening}: a {@code Dial} along the {@code Route} to
 * the {@code Target}, a {@code Tunnel} through a proxy, a {@code TlsLine}. Nothing of that waits. A
 * caller's own thread waits in {@code Transport}; for all calls that no thread waits for there is
 * one {@code Engine}, whose calls are {@code AsyncCall}s.
 *
 * <p>What can go wrong is told apart by type:
 *
 * <ul>
 *   <li>{@link org.graphpipe.GraphPipeException}: the server's own answer. It read the request and
 *       refused or failed it.
 *   <li>{@link java.io.IOException}: no answer was understood. {@link
 *       java.net.http.HttpTimeoutException} means that the time was up, {@link
 *       java.net.ConnectException} that no connection was made, {@link
 *       org.graphpipe.MalformedMessageException} that the answer's bytes are no GraphPipe message.
 *   <li>{@link java.lang.IllegalArgumentException}: the caller's own mistake; nothing was sent.
 *   <li>{@link java.lang.IllegalStateException}: the client is closed.
 * </ul>
 *
 * <p>{@link org.graphpipe.GraphPipeException#safeToRetry} tells after which of them nothing has
 * run.
 *
 * <p>Unless a method says otherwise, {@code null} as an argument gives {@link
 * java.lang.NullPointerException}.
 */
package org.graphpipe;
