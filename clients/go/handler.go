package graphpipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	defaultBodyBytesMax     = 64 << 20
	defaultInFlightBytesMax = 512 << 20
	defaultStringsMax       = 1 << 20
	errorMessageMax         = 4 << 10 // bytes of an error's message
	retryAfter              = time.Second
)

// Model answers inferences. Its methods are called from many goroutines at once.
type Model interface {
	// Metadata says what the model takes and gives.
	Metadata() *Metadata
	// Infer runs the model once. The request's tensors may be used until the response was sent, and no longer: the outputs
	// may borrow them. An [*Error] is told to the caller as it is. Any other error, and a panic, is logged, and the caller
	// is told only that the model failed.
	Infer(ctx context.Context, req *InferRequest) ([]Tensor, error)
}

// HandlerOption changes how [Handler] serves.
type HandlerOption func(*handler)

// WithBodyBytesMax bounds the body of a request; the default is 64 MiB. A larger one is refused before memory is taken for it.
func WithBodyBytesMax(n int64) HandlerOption { return func(h *handler) { h.bodyBytesMax = n } }

// WithInFlightBytesMax bounds the memory of all requests' bodies together, from their first byte to the end of their answers;
// the default is 512 MiB, or one body if that is more. What does not fit is refused with [CodeOverloaded].
func WithInFlightBytesMax(n int64) HandlerOption { return func(h *handler) { h.inFlightBytesMax = n } }

// WithStringsMax bounds the strings in a request; the default is 2^20. Each takes 24 bytes of memory beside its own.
func WithStringsMax(n int) HandlerOption { return func(h *handler) { h.stringsMax = n } }

// WithLogger chooses where failures of the model are logged; the default is [slog.Default].
func WithLogger(l *slog.Logger) HandlerOption { return func(h *handler) { h.log = l } }

// Handler serves the model: an inference or a request for metadata by POST, the metadata as JSON by GET. It answers on every
// path that it is mounted at. Memory for a body is taken as its bytes come. How long they may take to come is for the server
// to say:
//
//	server := &http.Server{
//		Addr: "127.0.0.1:9000", Handler: graphpipe.Handler(model),
//		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute, IdleTimeout: time.Minute,
//	}
//	log.Fatal(server.ListenAndServe())
func Handler(model Model, options ...HandlerOption) http.Handler {
	h := &handler{
		model: model, bodyBytesMax: defaultBodyBytesMax, inFlightBytesMax: defaultInFlightBytesMax,
		stringsMax: defaultStringsMax, log: slog.Default(),
	}
	for _, option := range options {
		option(h)
	}
	h.bodyBytesMax = min(h.bodyBytesMax, messageMax)
	h.inFlightBytesMax = max(h.inFlightBytesMax, h.bodyBytesMax)
	return h
}

type handler struct {
	model            Model
	bodyBytesMax     int64
	inFlightBytesMax int64
	stringsMax       int
	log              *slog.Logger
	inFlight         atomic.Int64 // bytes of memory that requests have
}

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	room := &room{taken: &h.inFlight, most: h.inFlightBytesMax}
	defer room.leave()
	kind, answer, err := h.answer(r, room)
	if err != nil {
		kind, answer = h.refuse(w, r, err)
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.FormatInt(answer.size(), 10))
	if err != nil {
		w.WriteHeader(err.httpStatus())
	}
	for _, b := range answer {
		if _, err := w.Write(b); err != nil {
			return // the caller is gone
		}
	}
}

// answer returns a good answer's body and its content type.
func (h *handler) answer(r *http.Request, room *room) (string, segments, *Error) {
	switch r.Method {
	case http.MethodGet:
		body, err := h.metadataJSON()
		return "application/json", segments{body}, err
	case http.MethodPost:
		body, err := h.post(r, room)
		return "application/octet-stream", body, err
	}
	return "", nil, &Error{
		Code: CodeUnsupported, Status: http.StatusMethodNotAllowed,
		Message: fmt.Sprintf("method %s is not served; POST a request, or GET the metadata", r.Method),
	}
}

func (h *handler) metadataJSON() (body []byte, err *Error) {
	defer h.recovered(&err)
	meta := *h.model.Metadata()
	meta.Inputs, meta.Outputs = withShapes(meta.Inputs), withShapes(meta.Outputs)
	body, failed := json.MarshalIndent(meta, "", "    ")
	if failed != nil {
		return nil, h.modelFailed(failed)
	}
	return body, nil
}

// withShapes makes lists of nothing be [] in JSON, not null.
func withShapes(all []TensorSpec) []TensorSpec {
	shaped := make([]TensorSpec, len(all))
	copy(shaped, all)
	for i := range shaped {
		if shaped[i].Shape == nil {
			shaped[i].Shape = []int64{}
		}
	}
	return shaped
}

func (h *handler) post(r *http.Request, room *room) (segments, *Error) {
	ctx, cancel, refused := deadlineOf(r)
	if refused != nil {
		return nil, refused
	}
	defer cancel()
	body, refused := h.receive(r, room)
	if refused != nil {
		return nil, refused
	}
	req, err := decodeRequest(body, h.stringsMax)
	switch {
	case errors.Is(err, ErrUnsupported):
		return nil, &Error{Code: CodeUnsupported, Status: http.StatusNotImplemented, Message: err.Error()}
	case errors.Is(err, errTooManyStrings) && h.stringsMax < stringsMax:
		return nil, &Error{Code: CodeTooLarge, Message: fmt.Sprintf("the request has more than %d strings", h.stringsMax)}
	case err != nil:
		return nil, &Error{Code: CodeMalformed, Message: err.Error()}
	}
	return h.run(ctx, req)
}

// run lets the model answer and encodes what it says.
func (h *handler) run(ctx context.Context, req *Request) (answer segments, refused *Error) {
	defer h.recovered(&refused)
	if req.Infer == nil {
		answer, err := encodeMetadata(h.model.Metadata())
		if err != nil {
			return nil, h.modelFailed(err)
		}
		return answer, nil
	}
	outputs, err := h.model.Infer(ctx, req.Infer)
	if err == nil {
		answer, err = encodeInferResponse(&InferResponse{Outputs: outputs})
	}
	var told *Error
	switch {
	case err == nil:
		return answer, nil
	case errors.As(err, &told):
		return nil, told
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, &Error{Code: CodeDeadline, Message: "the deadline passed before the model had answered"}
	}
	return nil, h.modelFailed(err)
}

// modelFailed keeps the cause in our log; its text may hold paths or data.
func (h *handler) modelFailed(cause error) *Error {
	h.log.Error("graphpipe: model failed", "model", h.name(), "cause", cause)
	return &Error{Code: CodeModelFailed, Message: "the model failed on this input"}
}

func (h *handler) name() (name string) {
	defer func() { _ = recover() }() // it is only for the log
	return h.model.Metadata().Name
}

func (h *handler) recovered(refused **Error) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause == http.ErrAbortHandler {
		panic(cause)
	}
	*refused = h.modelFailed(fmt.Errorf("panic: %v\n%s", cause, debug.Stack()))
}

// deadlineOf gives the request's context the time that its caller has left.
func deadlineOf(r *http.Request) (context.Context, context.CancelFunc, *Error) {
	text := r.Header.Get(timeoutHeader)
	if text == "" {
		return r.Context(), func() {}, nil
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, nil, invalidRequest("GraphPipe-Timeout-Ms is %q, not a whole number of milliseconds", text)
	}
	if ms <= 0 {
		return nil, nil, &Error{Code: CodeDeadline, Message: "the deadline had passed when the request came"}
	}
	const longest = 365 * 24 * time.Hour
	left := longest
	if ms < longest.Milliseconds() {
		left = time.Duration(ms) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(r.Context(), left)
	return ctx, cancel, nil
}

// receive reads the request's body.
func (h *handler) receive(r *http.Request, room *room) ([]byte, *Error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, &Error{
			Code: CodeUnsupported, Message: fmt.Sprintf("Content-Encoding %q is not supported; send the message as it is", encoding),
		}
	}
	body, err := grow(r.Body, r.ContentLength, h.bodyBytesMax, room)
	switch {
	case errors.Is(err, errTooLong):
		return nil, &Error{Code: CodeTooLarge, Message: fmt.Sprintf("the request is over the limit of %d bytes", h.bodyBytesMax)}
	case errors.Is(err, errNoRoom):
		return nil, &Error{
			Code: CodeOverloaded, RetryAfter: retryAfter,
			Message: fmt.Sprintf("requests of more than %d bytes are in flight; try again", h.inFlightBytesMax),
		}
	}
	if err != nil {
		return nil, &Error{Code: CodeMalformed, Message: "the request broke off"}
	}
	return body, nil
}

// refuse returns an error's body in the form that the caller can read, and its content type.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, refused *Error) (string, segments) {
	if refused.httpStatus() == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, POST")
	}
	if refused.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((refused.RetryAfter+time.Second-1)/time.Second), 10))
	}
	message := cut(refused.Message, errorMessageMax)
	if accepts(r, contentType) {
		entry := ErrorEntry{refused.Code, message}
		if body, err := encodeInferResponse(&InferResponse{Errors: []ErrorEntry{entry}}); err == nil {
			return contentType, body
		}
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	return "text/plain; charset=utf-8", segments{[]byte(message + "\n")}
}

// httpStatus is the status to answer an error with, which is never a success.
func (e *Error) httpStatus() int {
	if e.Status >= 400 && e.Status <= 599 {
		return e.Status
	}
	return e.Code.Status()
}

// accepts says whether the Accept header names the type itself; */* does not.
func accepts(r *http.Request, kind string) bool {
	for _, line := range r.Header.Values("Accept") {
		for _, one := range strings.Split(line, ",") {
			name, _, _ := strings.Cut(one, ";")
			if strings.EqualFold(strings.TrimSpace(name), kind) {
				return true
			}
		}
	}
	return false
}

// cut shortens a text to at most n bytes, between characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const more = "..."
	return strings.ToValidUTF8(s[:n-len(more)], "") + more
}
