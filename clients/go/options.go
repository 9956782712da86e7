package graphpipe

import (
	"net/http"
	"time"
)

// Option changes how a [Client] calls.
type Option func(*Client)

// WithTimeout bounds each call; the default is 60 s. 0 leaves it to the call's context alone.
func WithTimeout(d time.Duration) Option { return func(c *Client) { c.timeout = d } }

// WithAnswerBytesMax bounds the body of an answer; the default is 1 GiB. A larger one is refused before memory is taken
// for it.
func WithAnswerBytesMax(n int64) Option { return func(c *Client) { c.answerBytesMax = n } }

// WithHeader adds a header to every request, such as Authorization.
func WithHeader(key, value string) Option { return func(c *Client) { c.header.Add(key, value) } }

// WithHTTPClient sends the calls with h, for example to use its proxy, its TLS settings or its tests' transport. It takes
// the place of the client's own transport, which writes tensors to the socket from where they are; h copies them through a
// small buffer instead. It cannot be used with a unix: URL. h itself is not changed.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.custom = h } }
