// Digits classifies a handwritten digit with the demo server:
//
//	go run ./examples/digits -url http://127.0.0.1:9000
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/graphpipe/graphpipe/clients/go"
)

//go:embed digit.json
var bundled []byte

// digit is an image of 8 x 8 pixels, row by row, from 0 (white) to 16 (black).
type digit struct {
	Pixels []float32 `json:"pixels"`
}

func main() {
	url := flag.String("url", "http://127.0.0.1:9000", "the server, or one of its models")
	file := flag.String("digit", "", "a JSON file with 64 pixels; the bundled one if empty")
	flag.Parse()
	if err := run(os.Stdout, *url, *file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(out io.Writer, url, file string) error {
	text := bundled
	if file != "" {
		var err error
		if text, err = os.ReadFile(file); err != nil {
			return err
		}
	}
	var image digit
	if err := json.Unmarshal(text, &image); err != nil {
		return fmt.Errorf("not a digit: %w", err)
	}
	if len(image.Pixels) != 64 {
		return fmt.Errorf("a digit has 64 pixels, got %d", len(image.Pixels))
	}
	client, err := graphpipe.New(url)
	if err != nil {
		return err
	}
	defer client.Close()
	outputs, err := client.Infer(context.Background(), &graphpipe.InferRequest{
		Inputs:      []graphpipe.Tensor{graphpipe.FromSlice(image.Pixels, 1, 64)},
		OutputNames: []string{"label", "probabilities"},
	})
	if err != nil {
		return err
	}
	if len(outputs) != 2 {
		return fmt.Errorf("the server gave %d outputs, not 2", len(outputs))
	}
	labels, err := graphpipe.Values[int64](outputs[0])
	if err != nil {
		return err
	}
	probabilities, err := graphpipe.Values[float32](outputs[1])
	if err != nil {
		return err
	}
	if len(labels) != 1 || len(probabilities) != 10 {
		return fmt.Errorf("the server gave %d labels and %d probabilities, not 1 and 10", len(labels), len(probabilities))
	}
	draw(out, image.Pixels)
	fmt.Fprintf(out, "This is a %d.\n", labels[0])
	for i, p := range probabilities {
		fmt.Fprintf(out, "  %d  %5.1f %%\n", i, 100*p)
	}
	return nil
}

func draw(out io.Writer, pixels []float32) {
	for i, p := range pixels {
		fmt.Fprintf(out, "%c%c", shade(p), shade(p))
		if i%8 == 7 {
			fmt.Fprintln(out)
		}
	}
}

func shade(p float32) byte {
	const shades = " .:-=+*#@"
	return shades[min(max(int(p)/2, 0), len(shades)-1)]
}
