package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/graphpipe/graphpipe/clients/go"
)

// The values of the cases. A []byte is base64 in JSON, and a number of 64 bits a string.

// number is a string in JSON.
type number int64

// MarshalText writes it in decimal.
func (n number) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(n), 10), nil }

// UnmarshalText reads it in decimal.
func (n *number) UnmarshalText(text []byte) error {
	value, err := strconv.ParseInt(string(text), 10, 64)
	*n = number(value)
	return err
}

func numbersOf(all []int64) []number {
	numbers := make([]number, len(all))
	for i, n := range all {
		numbers[i] = number(n)
	}
	return numbers
}

func int64sOf(all []number) []int64 {
	numbers := make([]int64, len(all))
	for i, n := range all {
		numbers[i] = int64(n)
	}
	return numbers
}

type requestValue struct {
	Type        string        `json:"type"`
	Config      string        `json:"config"`
	InputNames  []string      `json:"input_names"`
	Inputs      []tensorValue `json:"inputs"`
	OutputNames []string      `json:"output_names"`
}

type inferResponseValue struct {
	Outputs []tensorValue `json:"outputs"`
	Errors  []errorValue  `json:"errors"`
}

type errorValue struct {
	Code    number `json:"code"`
	Message string `json:"message"`
}

type metadataValue struct {
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	Server      string    `json:"server"`
	Description string    `json:"description"`
	Inputs      []ioValue `json:"inputs"`
	Outputs     []ioValue `json:"outputs"`
}

type ioValue struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Shape       []number `json:"shape"`
	Type        string   `json:"type"`
	TypeNumber  uint8    `json:"type_number,omitempty"`
}

type tensorValue struct {
	Type    string    `json:"type"`
	Shape   []number  `json:"shape"`
	Data    *[]byte   `json:"data,omitempty"`
	Strings *[][]byte `json:"strings,omitempty"`
}

func valueOfRequest(m *graphpipe.Request) any {
	if m.Infer == nil {
		return map[string]string{"type": "metadata"}
	}
	return requestValue{
		"infer", m.Infer.Config, list(m.Infer.InputNames), valuesOfTensors(m.Infer.Inputs), list(m.Infer.OutputNames),
	}
}

func valueOfInferResponse(m *graphpipe.InferResponse) any {
	v := inferResponseValue{valuesOfTensors(m.Outputs), []errorValue{}}
	for _, e := range m.Errors {
		v.Errors = append(v.Errors, errorValue{number(e.Code), e.Message})
	}
	return v
}

func valueOfMetadata(m *graphpipe.Metadata) any {
	return metadataValue{m.Name, m.Version, m.Server, m.Description, valuesOfIOs(m.Inputs), valuesOfIOs(m.Outputs)}
}

func valuesOfIOs(all []graphpipe.TensorSpec) []ioValue {
	values := []ioValue{}
	for _, io := range all {
		values = append(values, ioValue{io.Name, io.Description, numbersOf(io.Shape), io.Type.String(), io.TypeNumber})
	}
	return values
}

func valuesOfTensors(all []graphpipe.Tensor) []tensorValue {
	values := []tensorValue{}
	for _, t := range all {
		v := tensorValue{Type: t.Type.String(), Shape: numbersOf(t.Shape)}
		if t.Type == graphpipe.String {
			strings := make([][]byte, len(t.Strings))
			for i, s := range t.Strings {
				strings[i] = list(s) // a nil would be null
			}
			v.Strings = &strings
		} else {
			data := list(t.Data)
			v.Data = &data
		}
		values = append(values, v)
	}
	return values
}

// list is never null in JSON.
func list[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// parse reads a value. A field that nobody knows is a mistake of the case, or of this program.
func parse(text json.RawMessage, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

func requestOfValue(text json.RawMessage) (*graphpipe.Request, error) {
	var v requestValue
	if err := parse(text, &v); err != nil {
		return nil, err
	}
	switch v.Type {
	case "metadata":
		return &graphpipe.Request{}, nil
	case "infer":
		inputs, err := tensorsOfValues(v.Inputs)
		return &graphpipe.Request{Infer: &graphpipe.InferRequest{
			Inputs: inputs, InputNames: v.InputNames, OutputNames: v.OutputNames, Config: v.Config,
		}}, err
	}
	return nil, fmt.Errorf("unknown type of request %q", v.Type)
}

func inferResponseOfValue(text json.RawMessage) (*graphpipe.InferResponse, error) {
	var v inferResponseValue
	if err := parse(text, &v); err != nil {
		return nil, err
	}
	outputs, err := tensorsOfValues(v.Outputs)
	m := &graphpipe.InferResponse{Outputs: outputs}
	for _, e := range v.Errors {
		m.Errors = append(m.Errors, graphpipe.ErrorEntry{Code: graphpipe.Code(e.Code), Message: e.Message})
	}
	return m, err
}

func metadataOfValue(text json.RawMessage) (*graphpipe.Metadata, error) {
	var v metadataValue
	if err := parse(text, &v); err != nil {
		return nil, err
	}
	inputs, errInputs := iosOfValues(v.Inputs)
	outputs, errOutputs := iosOfValues(v.Outputs)
	return &graphpipe.Metadata{
		Name: v.Name, Version: v.Version, Server: v.Server, Description: v.Description, Inputs: inputs, Outputs: outputs,
	}, errors.Join(errInputs, errOutputs)
}

func iosOfValues(values []ioValue) (all []graphpipe.TensorSpec, err error) {
	for _, v := range values {
		kind, ok := graphpipe.TypeNamed(v.Type)
		if !ok {
			return nil, fmt.Errorf("unknown element type %q", v.Type)
		}
		all = append(all, graphpipe.TensorSpec{Name: v.Name, Description: v.Description, Shape: int64sOf(v.Shape), Type: kind})
	}
	return all, nil
}

func tensorsOfValues(values []tensorValue) (all []graphpipe.Tensor, err error) {
	for _, v := range values {
		kind, ok := graphpipe.TypeNamed(v.Type)
		if !ok {
			kind = graphpipe.Type(255) // which cannot be sent either
		}
		t := graphpipe.Tensor{Type: kind, Shape: int64sOf(v.Shape)}
		if v.Data != nil {
			t.Data = *v.Data
		}
		if v.Strings != nil {
			t.Strings = *v.Strings
		}
		all = append(all, t)
	}
	return all, nil
}
