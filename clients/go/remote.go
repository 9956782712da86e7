package graphpipe

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// shared keeps the connections of [Remote], which has no client to keep them.
var shared = &http.Client{Transport: tunedTransport(http.ProxyFromEnvironment)}

// Remote calls a model of one input and one output with Go values, as the original library did: numbers, strings, and nested
// slices and arrays of them, by the rules of [FromNested] and [Nested]. It waits for 60 s at most.
func Remote(uri string, in any) (any, error) {
	outputs, err := MultiRemote(nil, uri, "", []any{in}, nil, nil)
	if err != nil {
		return nil, err
	}
	if len(outputs) != 1 {
		return nil, fmt.Errorf("graphpipe: the model gave %d outputs where one was expected", len(outputs))
	}
	return outputs[0], nil
}

// MultiRemote is [Remote] for several inputs and outputs, with a config for the model. Without names, the server's defaults
// are meant. A nil client stands for one that all such calls share.
func MultiRemote(client *http.Client, uri, config string, ins []any, inputNames, outputNames []string) ([]any, error) {
	req := InferRequest{Inputs: make([]Tensor, len(ins)), InputNames: inputNames, OutputNames: outputNames, Config: config}
	for i, in := range ins {
		var err error
		if req.Inputs[i], err = FromNested(in); err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
	}
	var options []Option
	switch {
	case client != nil:
		options = append(options, WithHTTPClient(client))
	case !strings.HasPrefix(uri, "unix:"):
		options = append(options, WithHTTPClient(shared))
	}
	c, err := New(uri, options...)
	if err != nil {
		return nil, err
	}
	if len(options) == 0 {
		defer c.Close()
	}
	tensors, err := c.Infer(context.Background(), &req)
	if err != nil {
		return nil, err
	}
	outs := make([]any, len(tensors))
	for i, t := range tensors {
		if outs[i], err = Nested(t); err != nil {
			return nil, fmt.Errorf("output %d: %w", i, err)
		}
	}
	return outs, nil
}
