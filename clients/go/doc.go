// Package graphpipe calls models over GraphPipe, a tensor RPC of FlatBuffers messages over HTTP, and serves Go functions
// the same way. It speaks the original GraphPipe of 2018 byte for byte and depends on the standard library alone.
//
//	client, err := graphpipe.New("http://127.0.0.1:9000")
//	output, err := client.Execute(ctx, graphpipe.FromSlice(pixels, 1, 64))
//	labels, err := graphpipe.Values[int64](output)
//
// A tensor's bytes are never copied on the way out, and on the way in they stay where they were received: a decoded
// [Tensor] borrows the answer's buffer.
//
// One request walks through the files in this order: values.go or nested.go (Go values to [Tensor]), messages.go,
// encode.go over writer.go (messages to segments), client.go, pool.go and connection.go (segments to the socket),
// receive.go (the answer into one buffer), decode.go over reader.go (bytes to messages). handler.go and function.go are
// the other end. samehost.go, showing.go, segment.go and segmentpool.go show tensors to a server on the same host, in place of
// sending them.
package graphpipe
