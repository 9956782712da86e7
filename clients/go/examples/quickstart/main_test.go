package main

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/graphpipe/graphpipe/clients/go"
)

func TestTheProgramRunsAgainstAServerLikeTheDemo(t *testing.T) {
	model := graphpipe.Metadata{
		Inputs:  []graphpipe.TensorSpec{{Name: "pixels", Type: graphpipe.Float32, Shape: []int64{-1, 64}}},
		Outputs: []graphpipe.TensorSpec{{Name: "label", Type: graphpipe.Int64}, {Name: "probabilities", Type: graphpipe.Float32}},
	}
	answer := func(_ context.Context, _ string, inputs []graphpipe.Tensor) ([]graphpipe.Tensor, error) {
		rows := inputs[0].Shape[0]
		return []graphpipe.Tensor{
			graphpipe.FromSlice(make([]int64, rows)), graphpipe.FromSlice(make([]float32, 10*rows), rows, 10),
		}, nil
	}
	server := httptest.NewServer(graphpipe.Handler(graphpipe.Function(model, answer)))
	defer server.Close()
	if err := more(server.URL); err != nil {
		t.Error(err)
	}
	if err := quick(server.URL); err != nil {
		t.Error(err)
	}
}
