package graphpipe

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// exchanger sends one request and reads its answer. There are two: [pool], our own connections, and [viaHTTP].
type exchanger interface {
	// exchange posts the message and gives the answer's head and body to read, which must leave the body alone afterwards.
	// When it has returned, nobody reads the message any more. An error of its own is a *brokenExchange where that is known.
	exchange(ctx context.Context, message segments, read func(*http.Response) error) error
	close()
}

// brokenExchange is an exchange without an answer.
type brokenExchange struct {
	err      error
	reused   bool // the connection had carried an answer before
	sent     bool // the whole request was given to the kernel
	answered bool // a byte of an answer came
	closed   bool // the other side ended the connection
}

func (b *brokenExchange) Error() string { return b.err.Error() }

func (b *brokenExchange) Unwrap() error { return b.err }

// mayRepeat says whether the request may be sent once more after the error: the server closed a connection that was kept too
// long, and had not been given the whole request. Whatever else went wrong, the model may have run, and it may not be safe
// to run twice.
func mayRepeat(err error) bool {
	var broken *brokenExchange
	return errors.As(err, &broken) && broken.reused && broken.closed && !broken.sent && !broken.answered
}

// newExchanger chooses how a client talks to the target: by our own connections, unless the user or the environment's proxy
// settings want it otherwise, or a kept connection cannot be probed on this system.
func newExchanger(at target, o *options) (exchanger, error) {
	if o.custom != nil {
		if at.socket != "" {
			return nil, errors.New("graphpipe: a unix: URL needs the client's own connections, not WithHTTPClient")
		}
		if o.tls != nil || o.proxy != nil || o.connectionsMax != 0 {
			return nil, errors.New("graphpipe: WithHTTPClient brings its own TLS, proxy and limits; give them to its Transport")
		}
		return newViaHTTP(at, o.header, o.custom), nil
	}
	if at.socket == "" {
		proxy, err := o.proxyFor(at)
		if err != nil {
			return nil, err
		}
		if proxy != nil || !canProbe {
			transport := tunedTransport(http.ProxyURL(proxy))
			transport.TLSClientConfig = o.tls
			transport.MaxConnsPerHost = o.connectionsMax
			transport.DialContext = (&net.Dialer{Timeout: o.connectTimeout, KeepAlive: keepAlive}).DialContext
			return newViaHTTP(at, o.header, &http.Client{Transport: transport}), nil
		}
	}
	return newPool(at, o), nil
}

// millisecondsLeft is the time until the context's deadline, as the server is told it.
func millisecondsLeft(ctx context.Context) string {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ""
	}
	return strconv.FormatInt(max(time.Until(deadline).Milliseconds(), 1), 10)
}

// ended puts the context's error in the place of what its end did to an exchange.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// closedByPeer says whether the error is a connection that the other side ended.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// tunedTransport is net/http's, tuned for tensors.
func tunedTransport(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	return &http.Transport{
		Proxy:               proxy,
		DisableCompression:  true,
		MaxIdleConnsPerHost: idleConnsMax,
		IdleConnTimeout:     idleMax,
		TLSHandshakeTimeout: 10 * time.Second,
		WriteBufferSize:     64 << 10,
	}
}
