/**
 * A client for GraphPipe: tensors go to a model server and come back, as FlatBuffers over HTTP.
 *
 * <p>Start with {@link org.graphpipe.Client}. One call walks through the files in this order:
 * {@link org.graphpipe.InferRequest} holds {@link org.graphpipe.Tensor}s, {@link
 * org.graphpipe.Writer} lays it out as an {@link org.graphpipe.EncodedMessage}, {@code
 * SocketTransport} takes a {@code Connection} from its {@code ConnectionPool} and sends the
 * segments from where they lie, {@code AnswerReader} finds the {@code AnswerHead} in what comes
 * back and collects the {@code AnswerBody} in one buffer, and {@link org.graphpipe.Reader} checks
 * every byte of it before it becomes tensors. Where TLS or a proxy is wanted, {@code
 * HttpClientTransport} goes by {@link java.net.http.HttpClient} instead: {@code SegmentPublisher}
 * hands it the segments and {@code AnswerHandler} takes the answer.
 *
 * <p>What can go wrong is told apart by type:
 *
 * <ul>
 *   <li>{@link org.graphpipe.GraphPipeException}: the server's own answer. It read the request and
 *       refused or failed it.
 *   <li>{@link java.io.IOException}: no answer was understood. {@link
 *       java.net.http.HttpTimeoutException} means that the time was up, {@link
 *       org.graphpipe.MalformedMessageException} that the answer's bytes are no GraphPipe message.
 *   <li>{@link java.lang.IllegalArgumentException}: the caller's own mistake; nothing was sent.
 * </ul>
 *
 * <p>Unless a method says otherwise, {@code null} as an argument gives {@link
 * java.lang.NullPointerException}.
 */
package org.graphpipe;
