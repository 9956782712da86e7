package main

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/graphpipe/graphpipe/clients/go"
)

// demoServer takes and gives what the demo server does. It says 0 for an image that is white in the middle.
func demoServer(t *testing.T) string {
	model := graphpipe.Function(graphpipe.Metadata{
		Name:   "digits",
		Inputs: []graphpipe.TensorSpec{{Name: "pixels", Type: graphpipe.Float32, Shape: []int64{-1, 64}}},
		Outputs: []graphpipe.TensorSpec{
			{Name: "label", Type: graphpipe.Int64, Shape: []int64{-1}},
			{Name: "probabilities", Type: graphpipe.Float32, Shape: []int64{-1, 10}},
		},
	}, func(_ context.Context, _ string, inputs []graphpipe.Tensor) ([]graphpipe.Tensor, error) {
		pixels, err := graphpipe.Values[float32](inputs[0])
		if err != nil {
			return nil, err
		}
		label, probabilities := int64(1), make([]float32, 10)
		if pixels[4*8+3] == 0 {
			label = 0
		}
		probabilities[label] = 1
		return []graphpipe.Tensor{graphpipe.FromSlice([]int64{label}), graphpipe.FromSlice(probabilities, 1, 10)}, nil
	})
	server := httptest.NewServer(graphpipe.Handler(model))
	t.Cleanup(server.Close)
	return server.URL
}

func TestTheBundledDigitIsClassified(t *testing.T) {
	var out strings.Builder
	if err := run(&out, demoServer(t), ""); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "This is a 0.") || !strings.Contains(out.String(), "0  100.0 %") {
		t.Error(out.String())
	}
}

func TestAFileThatIsNoDigitIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "digit.json")
	for _, text := range []string{"", "{}", `{"pixels": [1]}`, `{"pixels": "a"}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(&strings.Builder{}, demoServer(t), file); err == nil {
			t.Errorf("%q was taken for a digit", text)
		}
	}
}
