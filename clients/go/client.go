package graphpipe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	defaultTimeout        = 60 * time.Second
	defaultConnectTimeout = 30 * time.Second
	defaultAnswerBytesMax = 1 << 30

	// contentType is what a client that can read an InferResponse with errors accepts, and how such a body is marked.
	contentType = "application/vnd.graphpipe"
	// timeoutHeader is GraphPipe-Timeout-Ms as net/http spells its keys.
	timeoutHeader = "Graphpipe-Timeout-Ms"
)

// Client calls one model. It keeps connections open between calls and is safe for concurrent use.
type Client struct {
	target         target
	way            exchanger
	sameHost       *sameHost // nil where the server is not asked to look at our memory
	timeout        time.Duration
	answerBytesMax int64
	closed         atomic.Bool
}

// New returns a client of the model at the address: http://host:9000 for the server's first model, http://host:9000/models/NAME
// for another, https://..., unix:/path/to.sock or unix:/path/to.sock:/models/NAME. It connects with the first call.
func New(address string, options ...Option) (*Client, error) {
	at, err := parseTarget(address)
	if err != nil {
		return nil, err
	}
	chosen := defaults()
	for _, option := range options {
		option(chosen)
	}
	if err := checkHeader(chosen.header); err != nil {
		return nil, err
	}
	if at.url.User != nil && chosen.header.Get("Authorization") == "" {
		password, _ := at.url.User.Password()
		basic := http.Request{Header: chosen.header}
		basic.SetBasicAuth(at.url.User.Username(), password)
	}
	way, err := newExchanger(at, chosen)
	if err != nil {
		return nil, err
	}
	c := &Client{target: at, way: way, timeout: chosen.timeout, answerBytesMax: min(chosen.answerBytesMax, messageMax)}
	if own, ok := way.(*pool); ok && at.socket != "" && canShare {
		c.sameHost = newSameHost(own, chosen, c.answerBytesMax)
	}
	return c, nil
}

// Close closes the connections that no call is using, and the others as their calls end. A call afterwards is [ErrClosed].
func (c *Client) Close() {
	c.closed.Store(true)
	c.way.close()
	if c.sameHost != nil {
		c.sameHost.close()
	}
}

// Execute runs a model of one input and one output once, with the server's defaults for both.
func (c *Client) Execute(ctx context.Context, input Tensor) (Tensor, error) {
	outputs, err := c.Infer(ctx, &InferRequest{Inputs: []Tensor{input}})
	if err != nil {
		return Tensor{}, err
	}
	if len(outputs) != 1 {
		return Tensor{}, fmt.Errorf("graphpipe: the model gave %d outputs where one was expected; name one with Infer", len(outputs))
	}
	return outputs[0], nil
}

// Infer runs the model once and returns its outputs in the order of req.OutputNames, or of the server's default outputs
// when there are none. The outputs share one buffer, which nobody else uses.
//
// An [*Error] is the server's own answer: it read the request and refused or failed it. Any other error means that no
// answer was understood; it wraps [ErrInvalid] if nothing was sent, and the context's error if that ended the call. The
// time that is left until the context's deadline, or the client's timeout, is sent along, so that the server can stop too.
//
// A model may not be safe to run twice, so a request is sent again, once, in one case only: a kept connection turned out
// closed while the request was still being written. [SafeToRetry] tells after which errors a caller may try again without
// running a model twice. When Infer has returned, nothing reads req any more.
func (c *Client) Infer(ctx context.Context, req *InferRequest) ([]Tensor, error) {
	outputs, _, err := c.InferInto(ctx, req, nil)
	return outputs, err
}

// InferInto is [Client.Infer] that receives the answer into the memory of buf, up to its capacity, or into new memory where
// that is too small. It returns the buffer that was used, which the outputs borrow: pass it to the next call once the
// outputs are done with. A buffer serves one call at a time.
func (c *Client) InferInto(ctx context.Context, req *InferRequest, buf []byte) ([]Tensor, []byte, error) {
	if req == nil {
		return nil, buf, invalid("no request")
	}
	message, err := encodeRequest(&Request{Infer: req})
	if err != nil {
		return nil, buf, err
	}
	ctx, cancel, err := c.begin(ctx)
	if err != nil {
		return nil, buf, err
	}
	defer cancel()
	resp, answer, err := c.ask(ctx, req, message, buf)
	if err != nil {
		return nil, answer, err
	}
	if len(resp.Errors) > 0 {
		first := resp.Errors[0]
		return nil, answer, &Error{Code: first.Code, Status: http.StatusOK, Message: first.Message}
	}
	return resp.Outputs, answer, nil
}

// ask sends a request in whichever way is quickest, and decodes its answer.
func (c *Client) ask(ctx context.Context, req *InferRequest, message segments, buf []byte) (*InferResponse, []byte, error) {
	if c.sameHost != nil && c.sameHost.allocated.isSpent(buf) {
		buf = nil
	}
	if c.sameHost != nil && c.sameHost.fits(req) {
		resp, answer, err := c.sameHost.infer(ctx, req, buf)
		if !errors.Is(err, errAsBytes) {
			return resp, answer, c.told(err)
		}
	}
	answer, err := c.post(ctx, message, buf)
	if err != nil {
		return nil, buf, err
	}
	resp, err := DecodeInferResponse(answer)
	return resp, answer, c.told(err)
}

// Metadata asks what the model takes and gives. Its errors are those of [Client.Infer].
func (c *Client) Metadata(ctx context.Context) (*Metadata, error) {
	message, err := encodeRequest(&Request{})
	if err != nil {
		return nil, err
	}
	ctx, cancel, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	answer, err := c.post(ctx, message, nil)
	if err != nil {
		return nil, err
	}
	m, err := DecodeMetadata(answer)
	if err != nil {
		return nil, c.noAnswer(err)
	}
	return m, nil
}

// begin checks what every call is checked for, and bounds its time.
func (c *Client) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if c.closed.Load() {
		return nil, nil, fmt.Errorf("graphpipe: %w", ErrClosed)
	}
	if err := checkHeader(headerOf(ctx)); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", err, ErrInvalid)
	}
	if c.timeout > 0 {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		return ctx, cancel, nil
	}
	return ctx, func() {}, nil
}

// post sends a message and returns the body of a good answer, in buf if it fits.
func (c *Client) post(ctx context.Context, message segments, buf []byte) (answer []byte, err error) {
	read := func(resp *http.Response) (err error) {
		if resp.StatusCode != http.StatusOK {
			return refusal(resp)
		}
		answer, err = receive(resp, c.answerBytesMax, buf)
		return err
	}
	if err = c.way.exchange(ctx, message, read); mayRepeat(err) {
		err = c.way.exchange(ctx, message, read)
	}
	return answer, c.told(err)
}

// told is an error of an exchange as the caller is told it: the server's own answer, or that there is none.
func (c *Client) told(err error) error {
	var refused *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refused
	}
	return c.noAnswer(err)
}

func (c *Client) noAnswer(err error) error {
	return fmt.Errorf("graphpipe: no answer from %s: %w", c.target, err)
}
