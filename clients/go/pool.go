package graphpipe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// A connection that waited longer than this is closed here, before servers with the usual limits close it.
	idleMax      = 30 * time.Second
	keepAlive    = 30 * time.Second // between the kernel's own questions
	idleConnsMax = 1024
)

// pool talks HTTP/1.1 to one server over connections of its own, one exchange at a time on each. It writes small requests and
// reads answers in the caller's goroutine. net/http's transport hands each request to one goroutine and each answer to another;
// BenchmarkCall measures what that costs: a 1 KB call took 2.2 to 2.7 times as long as over a raw socket, and takes 1.3 to 1.4
// times so. The pool also knows exactly how much of a request was sent, on which the right to repeat it depends.
type pool struct {
	at     target
	dialer net.Dialer
	tls    *tls.Config // for https
	header http.Header
	fixed  []byte                                   // what every request's head starts with
	open   chan struct{}                            // holds one for each connection in use, where they are bounded
	agree  func(context.Context, *connection) error // makes a fresh connection fit for what the pool is for, or closes it

	mu       sync.Mutex
	idle     []*connection // the one used last comes last
	sweeper  *time.Timer   // runs while there are idle connections
	isClosed bool
}

func newPool(at target, o *options) *pool {
	p := &pool{
		at:     at,
		dialer: net.Dialer{Timeout: o.connectTimeout, KeepAlive: keepAlive},
		header: o.header,
	}
	p.fixed = p.start(o.header)
	if o.connectionsMax > 0 {
		p.open = make(chan struct{}, o.connectionsMax)
	}
	if at.url.Scheme == "https" {
		p.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		if o.tls != nil {
			p.tls = o.tls
		}
		if p.tls.ServerName == "" {
			p.tls.ServerName = at.url.Hostname()
		}
		p.tls.NextProtos = []string{"http/1.1"}
	}
	return p
}

// start is what the head of a request with these headers starts with.
func (p *pool) start(header http.Header) []byte {
	head := bytes.NewBuffer(fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\n", p.at.url.RequestURI(), p.at.url.Host))
	header.Write(head) // to memory: there is no error
	return head.Bytes()
}

func (p *pool) exchange(ctx context.Context, message segments, read func(*http.Response) error) error {
	return p.send(ctx, func() (parcel, error) { return parcel{message: message}, nil }, read)
}

// parcel is a request: its message, and what goes with it.
type parcel struct {
	message segments
	fields  []byte // further lines of its head
	fds     []int  // attached to its first byte
}

// send is exchange of what is packed when there is a connection for it.
func (p *pool) send(ctx context.Context, pack func() (parcel, error), read func(*http.Response) error) error {
	if p.open != nil {
		select {
		case p.open <- struct{}{}:
			defer func() { <-p.open }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	trace := tracing{httptrace.ContextClientTrace(ctx)}
	trace.getConn(p.at)
	c, err := p.take(ctx, trace)
	if err != nil {
		return ended(ctx, err)
	}
	request, err := pack()
	if err != nil {
		p.put(c)
		return err
	}
	reused := c.used
	trace.gotConn(c)
	// Whatever ends the context wakes whoever reads or writes.
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	writing := c.write(p.head(ctx, c, request.message.size(), request.fields), request.message, request.fds)
	trace.wrote(writing)
	resp, err := c.readHead(trace)
	whole := false
	if err == nil {
		c.used = true
		body := &endedBody{Reader: resp.Body, ended: resp.ContentLength == 0}
		resp.Body = body
		err = read(resp)
		whole = body.ended && !resp.Close && c.in.Buffered() == 0
	}
	unsent := writing.finish(c, resp != nil)
	if stop() && whole && unsent == nil {
		p.put(c)
		trace.putIdle()
	} else {
		c.Close()
	}
	if resp != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = ended(ctx, err)
		}
		return err
	}
	return &brokenExchange{
		err: ended(ctx, err), reused: reused, sent: unsent == nil, answered: c.limited.any,
		closed: ctx.Err() == nil && (closedByPeer(err) || closedByPeer(unsent)),
	}
}

// head writes the request's head into the connection's own memory.
func (p *pool) head(ctx context.Context, c *connection, length int64, fields []byte) []byte {
	start := p.fixed
	if own := headerOf(ctx); own != nil {
		start = p.start(merged(p.header, own))
	}
	c.head = append(c.head[:0], start...)
	if left := millisecondsLeft(ctx); left != "" {
		c.head = append(append(append(c.head, timeoutHeader+": "...), left...), "\r\n"...)
	}
	c.head = append(c.head, fields...)
	c.head = append(c.head, "Content-Length: "...)
	c.head = strconv.AppendInt(c.head, length, 10)
	c.head = append(c.head, "\r\n\r\n"...)
	return c.head
}

// take returns a kept connection that is still good, or a new one.
func (p *pool) take(ctx context.Context, trace tracing) (*connection, error) {
	for {
		c := p.kept()
		if c == nil {
			c, err := p.dial(ctx, trace)
			if err == nil && p.agree != nil {
				err = p.agree(ctx, c)
			}
			return c, err
		}
		if time.Since(c.since) < idleMax && quiet(c.raw) {
			return c, nil
		}
		c.Close()
	}
}

func (p *pool) kept() *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c
}

func (p *pool) put(c *connection) {
	c.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed || len(p.idle) >= idleConnsMax {
		c.Close()
		return
	}
	p.idle = append(p.idle, c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(idleMax, p.sweep)
	}
}

// sweep closes what nobody took for long. It runs as long as there are idle connections.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := p.idle[:0]
	for _, c := range p.idle {
		if time.Since(c.since) < idleMax {
			fresh = append(fresh, c)
		} else {
			c.Close()
		}
	}
	clear(p.idle[len(fresh):])
	p.idle = fresh
	p.sweeper = nil
	if len(fresh) > 0 {
		p.sweeper = time.AfterFunc(idleMax, p.sweep)
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.Close()
	}
	p.idle = nil
	p.isClosed = true
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
}

func (p *pool) dial(ctx context.Context, trace tracing) (*connection, error) {
	network, address := p.at.address()
	conn, err := p.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	raw, err := conn.(syscall.Conn).SyscallConn() // TCP and Unix connections have one
	if err != nil {
		conn.Close()
		return nil, err
	}
	plain := conn
	if p.tls != nil {
		secure := tls.Client(conn, p.tls)
		trace.tlsStart()
		err := secure.HandshakeContext(ctx)
		trace.tlsDone(secure, err)
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		conn = secure
	}
	c := &connection{Conn: conn, plain: plain, raw: raw, limited: headLimit{conn: conn}}
	c.in = bufio.NewReader(&c.limited)
	return c, nil
}
