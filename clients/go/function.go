package graphpipe

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Function makes a [Model] of a function that takes every input of the metadata and gives every output of it, in the
// metadata's order. Requests are checked against the metadata first: names, defaults, and types and dimensions where they
// are known. The caller gets the outputs that were asked for.
func Function(meta Metadata, f func(ctx context.Context, config string, inputs []Tensor) ([]Tensor, error)) Model {
	return &function{meta, f}
}

type function struct {
	meta Metadata
	f    func(ctx context.Context, config string, inputs []Tensor) ([]Tensor, error)
}

func (m *function) Metadata() *Metadata { return &m.meta }

func (m *function) Infer(ctx context.Context, req *InferRequest) ([]Tensor, error) {
	inputs, err := m.inputs(req)
	if err != nil {
		return nil, err
	}
	wanted, err := m.wanted(req.OutputNames)
	if err != nil {
		return nil, err
	}
	all, err := m.f(ctx, req.Config, inputs)
	if err != nil {
		return nil, err
	}
	if len(all) != len(m.meta.Outputs) {
		return nil, fmt.Errorf("the function gave %d outputs, its metadata has %d", len(all), len(m.meta.Outputs))
	}
	outputs := make([]Tensor, len(wanted))
	for i, at := range wanted {
		outputs[i] = all[at]
	}
	return outputs, nil
}

// inputs puts the request's inputs in the metadata's order.
func (m *function) inputs(req *InferRequest) ([]Tensor, error) {
	ordered := make([]Tensor, len(m.meta.Inputs))
	given := make([]bool, len(ordered))
	for i, tensor := range req.Inputs {
		at := i
		if i < len(req.InputNames) && req.InputNames[i] != "" {
			if at = position(m.meta.Inputs, req.InputNames[i]); at < 0 {
				return nil, invalidRequest("unknown input %q; the inputs are %q", req.InputNames[i], names(m.meta.Inputs))
			}
		} else if i >= len(ordered) {
			return nil, invalidRequest("input %d has no name, and there are %d inputs: %q", i, len(ordered), names(m.meta.Inputs))
		}
		spec := &m.meta.Inputs[at]
		if given[at] {
			return nil, invalidRequest("input %q was given twice", spec.Name)
		}
		if err := spec.takes(&tensor); err != nil {
			return nil, err
		}
		given[at], ordered[at] = true, tensor
	}
	if missing := slices.Index(given, false); missing >= 0 {
		return nil, invalidRequest("input %q is missing", m.meta.Inputs[missing].Name)
	}
	return ordered, nil
}

// wanted turns output names into places in the metadata.
func (m *function) wanted(asked []string) ([]int, error) {
	if len(asked) == 0 {
		asked = make([]string, len(m.meta.Outputs))
	}
	places := make([]int, len(asked))
	for i, name := range asked {
		places[i] = i
		if name != "" {
			places[i] = position(m.meta.Outputs, name)
		}
		if places[i] < 0 || places[i] >= len(m.meta.Outputs) {
			return nil, invalidRequest("unknown output %q at %d; the outputs are %q", name, i, names(m.meta.Outputs))
		}
	}
	return places, nil
}

// takes checks a tensor against what is known of an input.
func (m *TensorSpec) takes(t *Tensor) error {
	if m.Type != Null && t.Type != m.Type {
		return invalidRequest("input %q takes %v, got %v", m.Name, m.Type, t.Type)
	}
	if len(m.Shape) == 0 {
		return nil // a scalar's shape or an unknown one
	}
	fits := len(t.Shape) == len(m.Shape)
	for i := 0; fits && i < len(m.Shape); i++ {
		fits = m.Shape[i] == -1 || m.Shape[i] == t.Shape[i]
	}
	if !fits {
		return invalidRequest("input %q takes shape %v (-1: any), got %v", m.Name, m.Shape, t.Shape)
	}
	return nil
}

// position is where the name is in the metadata. TensorFlow's callers write x and x:0 for the same tensor.
func position(all []TensorSpec, name string) int {
	at := slices.IndexFunc(all, func(spec TensorSpec) bool { return spec.Name == name })
	if at < 0 {
		bare := strings.TrimSuffix(name, ":0")
		at = slices.IndexFunc(all, func(spec TensorSpec) bool { return strings.TrimSuffix(spec.Name, ":0") == bare })
	}
	return at
}

func names(all []TensorSpec) []string {
	list := make([]string, len(all))
	for i := range all {
		list[i] = all[i].Name
	}
	return list
}

func invalidRequest(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidRequest, Message: fmt.Sprintf(format, args...)}
}
