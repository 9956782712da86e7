package graphpipe

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	refusalBytesMax = 64 << 10 // of an error's body; the rest is not read
	firstReadBytes  = 64 << 10 // memory to start with for a body of unknown length
)

var errTooLong = errors.New("body over the limit")

// receiveBody reads a whole body into buf if it fits, else into new memory. Its length is -1 if unknown. A body over the
// limit gives errTooLong: before memory is taken for it if the length is known, and while it is read if not.
func receiveBody(body io.Reader, length, limit int64, buf []byte) ([]byte, error) {
	if length > limit {
		return nil, errTooLong
	}
	if length >= 0 {
		if length > int64(cap(buf)) {
			buf = make([]byte, length)
		}
		buf = buf[:length]
		if n, err := io.ReadFull(body, buf); err != nil {
			return nil, fmt.Errorf("body broke off at %d of %d bytes: %w", n, length, err)
		}
		return buf, nil
	}
	if cap(buf) == 0 {
		buf = make([]byte, 0, firstReadBytes)
	}
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return nil, errTooLong
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, fmt.Errorf("body broke off at %d bytes: %w", len(buf), err)
		}
	}
}

// receive reads the body of a good answer, into buf if it fits.
func receive(resp *http.Response, limit int64, buf []byte) ([]byte, error) {
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, fmt.Errorf("the answer has the Content-Encoding %q, which was not asked for", encoding)
	}
	body, err := receiveBody(resp.Body, resp.ContentLength, limit, buf)
	if errors.Is(err, errTooLong) {
		return nil, fmt.Errorf("%w: over the limit of %d bytes", ErrAnswerTooLarge, limit)
	}
	return body, err
}

// refusal reads the answer of a status other than 200. Our servers send an InferResponse with errors, others a text, proxies a
// page of HTML.
func refusal(resp *http.Response) *Error {
	refused := &Error{Code: codeOfStatus(resp.StatusCode), Status: resp.StatusCode, RetryAfter: retryAfterOf(resp.Header)}
	// What cannot be read adds nothing to the status, so an error here has nobody to tell.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, refusalBytesMax))
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	switch {
	case kind == contentType:
		if r, err := DecodeInferResponse(body); err == nil && len(r.Errors) > 0 {
			refused.Code, refused.Message = r.Errors[0].Code, r.Errors[0].Message
			return refused
		}
	case kind == "text/html":
		refused.Message = ofProxy(resp)
		return refused
	default:
		refused.Message = strings.TrimSpace(strings.ToValidUTF8(string(body), "\uFFFD"))
	}
	if refused.Message == "" {
		refused.Message = http.StatusText(resp.StatusCode)
	}
	return refused
}

// ofProxy says in words what a page of HTML stands for: no server of this protocol sends one.
func ofProxy(resp *http.Response) string {
	who, _, _ := strings.Cut(cut(resp.Header.Get("Server"), 40), "/")
	if who == "" {
		who = "something in between"
	}
	words := fmt.Sprintf("%s answered %d %s", who, resp.StatusCode, http.StatusText(resp.StatusCode))
	if resp.StatusCode == http.StatusRequestEntityTooLarge && who == "nginx" {
		words = "nginx answered 413: is its client_max_body_size too small?"
	}
	return words
}

// retryAfterOf reads a Retry-After of seconds or of a date, of at most a day. What is neither is as if it were not there.
func retryAfterOf(header http.Header) time.Duration {
	const longest = 24 * time.Hour
	text := strings.TrimSpace(header.Get("Retry-After"))
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(n)*time.Second, longest)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now := time.Now()
	if said, err := http.ParseTime(header.Get("Date")); err == nil {
		now = said // their clock
	}
	return min(max(at.Sub(now), 0), longest)
}
