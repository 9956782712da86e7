package graphpipe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
)

// viaHTTP talks by an [http.Client]. net/http takes another connection when a kept one is found closed before a byte was
// written, and can do so because requests have GetBody; a POST that was begun it never repeats, and neither do we.
type viaHTTP struct {
	client *http.Client
	url    *url.URL
	header http.Header
}

func newViaHTTP(at target, header http.Header, custom *http.Client) *viaHTTP {
	own := *custom
	if own.CheckRedirect == nil {
		// Following a redirect would send the request again, to somebody else.
		own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return &viaHTTP{&own, at.url, header}
}

func (v *viaHTTP) close() { v.client.CloseIdleConnections() }

func (v *viaHTTP) exchange(ctx context.Context, message segments, read func(*http.Response) error) error {
	out := newOutgoing(message)
	defer out.release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before release: a body that is still being sent is given up
	header := merged(v.header, headerOf(ctx))
	if left := millisecondsLeft(ctx); left != "" {
		header.Set(timeoutHeader, left)
	}
	req := (&http.Request{
		Method: http.MethodPost, URL: v.url, Host: v.url.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: out.body(), GetBody: func() (io.ReadCloser, error) { return out.body(), nil }, ContentLength: out.size,
	}).WithContext(ctx)
	resp, err := v.client.Do(req)
	if err != nil {
		var wrapped *url.Error // which would say the URL twice
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		var dialing *net.OpError
		if errors.As(err, &dialing) && dialing.Op == "dial" && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return err
	}
	defer resp.Body.Close()
	return read(resp)
}

// outgoing is a message on its way out. net/http may go on reading a request's body after the call has returned; the caller's
// memory must not be read that long, so release waits for whoever is reading and lets nobody read after it.
type outgoing struct {
	segments segments
	small    []byte // the whole message, if it is small
	size     int64
	use      sync.Mutex
	released bool
}

var errReleased = errors.New("graphpipe: the call is over")

func newOutgoing(s segments) *outgoing {
	o := &outgoing{segments: s, size: s.size()}
	if o.size <= joinedMax {
		o.small = s.joined()
	}
	return o
}

// release ends every use of the segments.
func (o *outgoing) release() {
	o.use.Lock()
	o.released = true
	o.segments = nil
	o.use.Unlock()
}

// body reads the message from its start. net/http sends the head alone before a body that it does not know to be in memory,
// and each write wakes the server: small messages are joined.
func (o *outgoing) body() io.ReadCloser {
	if o.small != nil {
		return io.NopCloser(bytes.NewReader(o.small))
	}
	return &outgoingBody{message: o}
}

type outgoingBody struct {
	message *outgoing
	segment int // the one to read from
	offset  int // in it
}

func (b *outgoingBody) Read(p []byte) (int, error) {
	o := b.message
	o.use.Lock()
	defer o.use.Unlock()
	if o.released {
		return 0, errReleased
	}
	total := 0
	for total < len(p) && b.segment < len(o.segments) {
		n := copy(p[total:], o.segments[b.segment][b.offset:])
		total += n
		b.offset += n
		if b.offset == len(o.segments[b.segment]) {
			b.segment, b.offset = b.segment+1, 0
		}
	}
	if total == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return total, nil
}

func (b *outgoingBody) Close() error { return nil }
