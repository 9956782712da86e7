package graphpipe

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Error is a server's own answer: it read the request and refused or failed it. Every other error of a call means that no
// answer was understood.
//
//	var refused *graphpipe.Error
//	if errors.As(err, &refused) { log.Print(refused.Code, refused.Status, refused.Message) }
//	if errors.Is(err, graphpipe.CodeOverloaded) { ... }
//
// A [Model] returns an Error to choose what its caller sees.
type Error struct {
	// Code says what went wrong; 0 where the server has no numbers and the status tells no more.
	Code Code
	// Status is the HTTP status. A Model may leave it 0: it follows from the code.
	Status int
	// Message is for people.
	Message string
	// RetryAfter is how long the server asks to wait before another try; 0 where it does not say.
	RetryAfter time.Duration
}

// Error returns the message behind the status and the meaning of the code.
func (e *Error) Error() string {
	switch {
	case e.Status == 0:
		return fmt.Sprintf("graphpipe: %v: %s", e.Code, e.Message)
	case e.Code == 0:
		return fmt.Sprintf("graphpipe: server answered %d: %s", e.Status, e.Message)
	}
	return fmt.Sprintf("graphpipe: server answered %d (%v): %s", e.Status, e.Code, e.Message)
}

// Is makes errors.Is(err, graphpipe.CodeOverloaded) say whether that is the error's code.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && e.Code == code
}

// SafeToRetry says whether the model has surely not run for a call that failed with this error, and may run for the next
// one: no connection was made, or the server was too busy or not ready. After any other error of a call without an answer
// nobody can say whether the model ran.
func SafeToRetry(err error) bool {
	return errors.Is(err, ErrUnreachable) || errors.Is(err, CodeOverloaded) || errors.Is(err, CodeNotReady)
}

var (
	// ErrMalformed is wrapped by the error for bytes that are not a valid message.
	ErrMalformed = errors.New("malformed message")
	// ErrInvalid is wrapped by the error for a value that cannot be sent; nothing was sent.
	ErrInvalid = errors.New("invalid message")
	// ErrAnswerTooLarge is wrapped by the error for an answer over the client's limit.
	ErrAnswerTooLarge = errors.New("answer too large")
	// ErrUnsupported is wrapped by the error for a request of a kind that did not exist when this was written.
	ErrUnsupported = errors.New("unsupported message")
	// ErrUnreachable is wrapped by the error of a call for which no connection was made: the model did not run.
	ErrUnreachable = errors.New("no connection")
	// ErrClosed is wrapped by the error of a call after [Client.Close]; nothing was sent.
	ErrClosed = errors.New("the client is closed")
)

// Code is the stable number of a kind of failure, the same in every language. It is an error only so that [errors.Is] takes it.
type Code int64

// The codes that servers of this protocol answer with.
const (
	CodeMalformed       Code = 1  // the bytes are no message
	CodeInvalidRequest  Code = 2  // the model does not take such a request
	CodeNotFound        Code = 3  // no such model
	CodeModelFailed     Code = 4  // the model failed on this input
	CodeTooLarge        Code = 5  // over the server's size limit
	CodeOverloaded      Code = 6  // try again later; with status 429 the limit is the caller's own
	CodeDeadline        Code = 7  // the deadline passed first
	CodeUnauthenticated Code = 8  // credentials are missing or wrong
	CodeForbidden       Code = 9  // the credentials do not reach this far
	CodeNotReady        Code = 10 // the model is not there yet, or no longer
	CodeUnsupported     Code = 11 // a method or an encoding that the server does not speak
	CodeUpstreamFailed  Code = 12 // a server behind the server failed
)

var codes = map[Code]struct {
	status int
	name   string
}{
	CodeMalformed:       {http.StatusBadRequest, "malformed message"},
	CodeInvalidRequest:  {http.StatusBadRequest, "invalid request"},
	CodeNotFound:        {http.StatusNotFound, "not found"},
	CodeModelFailed:     {http.StatusInternalServerError, "model failed"},
	CodeTooLarge:        {http.StatusRequestEntityTooLarge, "too large"},
	CodeOverloaded:      {http.StatusServiceUnavailable, "overloaded"},
	CodeDeadline:        {http.StatusGatewayTimeout, "deadline exceeded"},
	CodeUnauthenticated: {http.StatusUnauthorized, "unauthenticated"},
	CodeForbidden:       {http.StatusForbidden, "forbidden"},
	CodeNotReady:        {http.StatusServiceUnavailable, "not ready"},
	CodeUnsupported:     {http.StatusUnsupportedMediaType, "unsupported"},
	CodeUpstreamFailed:  {http.StatusBadGateway, "upstream failed"},
}

// String returns the code's meaning in two words.
func (c Code) String() string {
	if known, ok := codes[c]; ok {
		return known.name
	}
	return fmt.Sprintf("code %d", int64(c))
}

// Error returns what String does.
func (c Code) Error() string { return c.String() }

// Status returns the HTTP status that goes with the code, 500 for a code that is not ours.
func (c Code) Status() int {
	if known, ok := codes[c]; ok {
		return known.status
	}
	return http.StatusInternalServerError
}

// codeOfStatus reads a code from a status of a server that sends none. 400 stands for two codes, so it tells none; a 503 or
// a 429 is somebody too busy, whoever that is.
func codeOfStatus(status int) Code {
	switch status {
	case http.StatusBadRequest:
		return 0
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return CodeOverloaded
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return CodeUnsupported
	}
	for code, known := range codes {
		if known.status == status {
			return code
		}
	}
	return 0
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("graphpipe: %w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
