package graphpipe

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"time"
)

// options is what a client is made with.
type options struct {
	header         http.Header
	timeout        time.Duration
	connectTimeout time.Duration
	answerBytesMax int64
	connectionsMax int
	tls            *tls.Config
	proxy          *string // nil: the environment's
	custom         *http.Client
}

func defaults() *options {
	return &options{
		header: http.Header{
			"Accept":          {contentType},
			"Accept-Encoding": {"identity"},
			"Content-Type":    {"application/octet-stream"},
			"User-Agent":      {"graphpipe-go/" + Version},
		},
		timeout: defaultTimeout, connectTimeout: defaultConnectTimeout, answerBytesMax: defaultAnswerBytesMax,
	}
}

// proxyFor returns the proxy on the way to the target, nil where there is none. The environment's is never for loopback.
func (o *options) proxyFor(at target) (*url.URL, error) {
	switch {
	case o.proxy == nil:
		return http.ProxyFromEnvironment(&http.Request{URL: at.url})
	case *o.proxy == "":
		return nil, nil
	}
	return parseURL(*o.proxy)
}

// Option changes how a [Client] calls.
type Option func(*options)

// WithTimeout bounds each call; the default is 60 s. 0 leaves it to the call's context alone.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithConnectTimeout bounds the making of a connection, which is part of a call; the default is 30 s.
func WithConnectTimeout(d time.Duration) Option { return func(o *options) { o.connectTimeout = d } }

// WithAnswerBytesMax bounds the body of an answer; the default is 1 GiB. A larger one is refused before memory is taken
// for it.
func WithAnswerBytesMax(n int64) Option { return func(o *options) { o.answerBytesMax = n } }

// WithConnectionsMax bounds the connections that are open at once; further calls wait for one. The default, 0, is no bound.
func WithConnectionsMax(n int) Option { return func(o *options) { o.connectionsMax = n } }

// WithHeader sends a header with every request, in place of the client's own of the same name. [ContextWithHeader] is for one
// call. What frames a message (Content-Length, say) cannot be set.
func WithHeader(key, value string) Option { return func(o *options) { o.header.Set(key, value) } }

// WithAPIKey sends a key with every request, as "Authorization: Bearer KEY".
func WithAPIKey(key string) Option { return WithHeader("Authorization", "Bearer "+key) }

// WithTLSConfig chooses certificates and roots for https. The configuration is cloned.
func WithTLSConfig(config *tls.Config) Option { return func(o *options) { o.tls = config.Clone() } }

// WithProxy sends the calls through the proxy at the URL, or through none if it is empty, whatever the environment says
// (HTTP_PROXY, HTTPS_PROXY, NO_PROXY).
func WithProxy(url string) Option { return func(o *options) { o.proxy = &url } }

// WithHTTPClient sends the calls with h, for example to use its middleware or its tests' transport. It takes the place of the
// client's own transport, which writes tensors to the socket from where they are; h copies them through a small buffer
// instead. It cannot be used with a unix: URL. h itself is not changed.
func WithHTTPClient(h *http.Client) Option { return func(o *options) { o.custom = h } }
