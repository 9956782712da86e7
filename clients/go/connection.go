package graphpipe

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	headBytesMax = 1 << 20 // of an answer

	// A message up to this size is copied behind its head, to leave in one write.
	joinedMax = 12 << 10
	// One up to this size fits into the kernel's buffer, so that writing it does not wait for the server to read.
	inlineMax = 64 << 10
	// How long a server that has answered may go on reading the request.
	lateReadMax = 50 * time.Millisecond
)

// connection carries one exchange at a time.
type connection struct {
	net.Conn          // with TLS where it is spoken
	plain    net.Conn // without
	raw      syscall.RawConn
	in       *bufio.Reader // over limited
	limited  headLimit
	head     []byte    // memory for the heads of requests
	since    time.Time // it is idle
	used     bool      // it has carried an answer
}

// Close ends the connection at once. TLS would say goodbye first, and wait for room to say it.
func (c *connection) Close() error { return c.plain.Close() }

// writing is a request on its way out.
type writing struct {
	done chan error // nil if it was written inline
	err  error
}

// write sends a request, and with its first byte descriptors, if there are any. A large one is sent beside the reading of the answer, since a server may answer before it has read
// the whole, and would otherwise wait for us as we wait for it.
func (c *connection) write(head []byte, message segments, fds []int) *writing {
	size := message.size()
	joined := size <= joinedMax
	if joined {
		for _, b := range message {
			head = append(head, b...)
		}
		c.head = head
	}
	if len(fds) > 0 {
		n, err := pass(c.plain.(*net.UnixConn), head, fds)
		if err != nil {
			return &writing{err: err}
		}
		head = head[n:]
	}
	if joined {
		_, err := c.Write(head)
		return &writing{err: err}
	}
	all := append(net.Buffers{head}, message...)
	if size <= inlineMax {
		_, err := all.WriteTo(c.Conn)
		return &writing{err: err}
	}
	w := &writing{done: make(chan error, 1)}
	go func() {
		_, err := all.WriteTo(c.Conn)
		w.done <- err
	}()
	return w
}

// finish returns when the request is no longer read, and says what kept it from being sent wholly.
func (w *writing) finish(c *connection, answered bool) error {
	if w.done == nil {
		return w.err
	}
	if answered {
		late := time.NewTimer(lateReadMax)
		defer late.Stop()
		select {
		case err := <-w.done:
			return err
		case <-late.C:
		}
	}
	c.Close()
	return <-w.done
}

// readHead reads the head of the answer.
func (c *connection) readHead(trace tracing) (*http.Response, error) {
	c.limited.left, c.limited.any = headBytesMax, false
	if trace.ClientTrace != nil {
		if _, err := c.in.Peek(1); err == nil {
			trace.firstByte()
		}
	}
	for {
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 {
			c.limited.left = -1
			return resp, nil
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			return nil, fmt.Errorf("the server answered %s", resp.Status)
		}
	}
}

// headLimit bounds what is read before the head of an answer has ended.
type headLimit struct {
	conn net.Conn
	left int64 // negative: no limit
	any  bool  // something was read
}

var errHeadTooLarge = errors.New("the head of the answer is over 1 MiB")

// Read implements [io.Reader].
func (l *headLimit) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, errHeadTooLarge
	}
	if l.left > 0 && int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.conn.Read(p)
	if l.left > 0 {
		l.left -= int64(n)
	}
	l.any = l.any || n > 0
	return n, err
}

// endedBody notes that a body was read to its end, after which the connection can carry the next exchange.
type endedBody struct {
	io.Reader
	ended bool
}

// Read implements [io.Reader].
func (b *endedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// Close implements [io.Closer]; the connection's fate is decided where it was taken.
func (b *endedBody) Close() error { return nil }
