// Conformance reads test cases as JSON lines from standard input and writes their results as JSON lines to standard output,
// with this client as the subject. Every language has such an adapter, and all speak the same lines.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/graphpipe/graphpipe/clients/go"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// testCase is a line of input; its op says which of the other fields it has.
type testCase struct {
	ID        string            `json:"id"`
	Op        string            `json:"op"`
	Message   string            `json:"message"`
	Bytes     string            `json:"bytes"`
	Value     json.RawMessage   `json:"value"`
	URL       string            `json:"url"`
	TimeoutMs int64             `json:"timeout_ms"`
	Values    []json.RawMessage `json:"values"`
	Calls     int               `json:"calls"`
}

// result is a line of output.
type result struct {
	ID      string  `json:"id,omitempty"`
	OK      bool    `json:"ok"`
	Value   any     `json:"value,omitempty"`
	Values  []any   `json:"values,omitempty"`
	Results []any   `json:"results,omitempty"`
	URL     string  `json:"url,omitempty"`
	Bytes   *string `json:"bytes,omitempty"`
	Error   string  `json:"error,omitempty"`
	Code    *number `json:"code,omitempty"`
	Status  int     `json:"status,omitempty"`
	Message string  `json:"message,omitempty"`
}

// run answers every case. A line that is no case ends it with an error.
func run(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	buffered := bufio.NewWriter(out)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 1 {
			var c testCase
			if err := json.Unmarshal(line, &c); err != nil {
				return fmt.Errorf("not a case: %w", err)
			}
			r, err := answer(&c)
			if err != nil {
				return fmt.Errorf("case %q: %w", c.ID, err)
			}
			r.ID = c.ID
			if err := json.NewEncoder(buffered).Encode(r); err != nil {
				return err
			}
			if err := buffered.Flush(); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func answer(c *testCase) (*result, error) {
	switch c.Op {
	case "decode":
		return decode(c)
	case "encode":
		return encode(c)
	case "call":
		return call(c)
	case "calls":
		return calls(c)
	case "metadata":
		return metadata(c)
	case "loops":
		return loops(c)
	case "serve":
		return serve()
	}
	return nil, fmt.Errorf("unknown op %q", c.Op)
}

func decode(c *testCase) (*result, error) {
	b, err := base64.StdEncoding.DecodeString(c.Bytes)
	if err != nil {
		return nil, err
	}
	var value any
	switch c.Message {
	case "request":
		var m *graphpipe.Request
		if m, err = graphpipe.DecodeRequest(b); err == nil {
			value = valueOfRequest(m)
		}
	case "infer_response":
		var m *graphpipe.InferResponse
		if m, err = graphpipe.DecodeInferResponse(b); err == nil {
			value = valueOfInferResponse(m)
		}
	case "metadata_response":
		var m *graphpipe.Metadata
		if m, err = graphpipe.DecodeMetadata(b); err == nil {
			value = valueOfMetadata(m)
		}
	default:
		return nil, fmt.Errorf("unknown message %q", c.Message)
	}
	switch {
	case errors.Is(err, graphpipe.ErrMalformed):
		return &result{Error: "malformed"}, nil
	case errors.Is(err, graphpipe.ErrUnsupported):
		return &result{Error: "unsupported"}, nil
	}
	return &result{OK: err == nil, Value: value}, err
}

func encode(c *testCase) (*result, error) {
	var message interface{ MarshalBinary() ([]byte, error) }
	var err error
	switch c.Message {
	case "request":
		message, err = requestOfValue(c.Value)
	case "infer_response":
		message, err = inferResponseOfValue(c.Value)
	case "metadata_response":
		message, err = metadataOfValue(c.Value)
	default:
		err = fmt.Errorf("unknown message %q", c.Message)
	}
	if err != nil {
		return nil, err
	}
	b, err := message.MarshalBinary()
	if err != nil {
		return &result{Error: "invalid", Message: err.Error()}, nil
	}
	text := base64.StdEncoding.EncodeToString(b)
	return &result{OK: true, Bytes: &text}, nil
}

func inferRequestOfValue(text json.RawMessage) (*graphpipe.InferRequest, error) {
	req, err := requestOfValue(text)
	if err != nil {
		return nil, err
	}
	if req.Infer == nil {
		return nil, errors.New("a call needs an inference")
	}
	return req.Infer, nil
}

func call(c *testCase) (*result, error) {
	req, err := inferRequestOfValue(c.Value)
	if err != nil {
		return nil, err
	}
	client, err := newClient(c)
	if err != nil {
		return noAnswer(err), nil
	}
	defer client.Close()
	return infer(client, req), nil
}

// calls makes one call after another through one client.
func calls(c *testCase) (*result, error) {
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	results := []any{}
	for _, value := range c.Values {
		req, err := inferRequestOfValue(value)
		if err != nil {
			return nil, err
		}
		results = append(results, infer(client, req))
	}
	return &result{OK: true, Results: results}, nil
}

func newClient(c *testCase) (*graphpipe.Client, error) {
	var options []graphpipe.Option
	if c.TimeoutMs > 0 {
		options = append(options, graphpipe.WithTimeout(time.Duration(c.TimeoutMs)*time.Millisecond))
	}
	return graphpipe.New(c.URL, options...)
}

func infer(client *graphpipe.Client, req *graphpipe.InferRequest) *result {
	outputs, err := client.Infer(context.Background(), req)
	if err != nil {
		return noAnswer(err)
	}
	return &result{OK: true, Value: valueOfInferResponse(&graphpipe.InferResponse{Outputs: outputs})}
}

func metadata(c *testCase) (*result, error) {
	client, err := graphpipe.New(c.URL)
	if err != nil {
		return noAnswer(err), nil
	}
	defer client.Close()
	m, err := client.Metadata(context.Background())
	if err != nil {
		return noAnswer(err), nil
	}
	return &result{OK: true, Value: valueOfMetadata(m)}, nil
}

// loops runs loops of equal calls, all at once and through one client: one loop for each value.
func loops(c *testCase) (*result, error) {
	client, err := graphpipe.New(c.URL)
	if err != nil {
		return noAnswer(err), nil
	}
	defer client.Close()
	requests := make([]*graphpipe.InferRequest, len(c.Values))
	for i, value := range c.Values {
		if requests[i], err = inferRequestOfValue(value); err != nil {
			return nil, err
		}
	}
	answers := make([]any, len(requests))
	failures := make([]error, len(requests))
	var running sync.WaitGroup
	for i, req := range requests {
		running.Add(1)
		go func() {
			defer running.Done()
			answers[i], failures[i] = loop(client, req, c.Calls)
		}()
	}
	running.Wait()
	for _, err := range failures {
		if err != nil {
			return noAnswer(err), nil
		}
	}
	return &result{OK: true, Values: answers}, nil
}

func loop(client *graphpipe.Client, req *graphpipe.InferRequest, calls int) (any, error) {
	var first any
	for i := range calls {
		outputs, err := client.Infer(context.Background(), req)
		if err != nil {
			return nil, err
		}
		answer := valueOfInferResponse(&graphpipe.InferResponse{Outputs: outputs})
		if i == 0 {
			first = answer
		} else if !reflect.DeepEqual(answer, first) {
			return nil, fmt.Errorf("call %d was answered differently", i)
		}
	}
	return first, nil
}

// noAnswer tells the server's own answer from the lack of one.
func noAnswer(err error) *result {
	var refused *graphpipe.Error
	if errors.As(err, &refused) {
		code := number(refused.Code)
		return &result{Error: "server", Code: &code, Status: refused.Status, Message: refused.Message}
	}
	return &result{Error: "no_answer", Message: err.Error()}
}
