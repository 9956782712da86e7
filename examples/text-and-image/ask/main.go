// Ask says how probable it is that a text is true of a picture:
//
//	go run . http://127.0.0.1:9000 "a red circle" red-circle.jpg
//
// The server gets the text and the file as they are.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/graphpipe/graphpipe/clients/go"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: ask URL TEXT FILE")
		os.Exit(2)
	}
	probability, err := ask(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%.6f\n", probability)
}

func ask(url, text, file string) (float32, error) {
	image, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	client, err := graphpipe.New(url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	outputs, err := client.Infer(context.Background(), &graphpipe.InferRequest{
		InputNames: []string{"text", "image"},
		Inputs: []graphpipe.Tensor{
			{Type: graphpipe.String, Shape: []int64{1}, Strings: [][]byte{[]byte(text)}},
			{Type: graphpipe.String, Shape: []int64{1}, Strings: [][]byte{image}},
		},
		OutputNames: []string{"probability"},
	})
	if err != nil {
		return 0, err
	}
	probability, err := graphpipe.Values[float32](outputs[0])
	if err != nil {
		return 0, err
	}
	return probability[0], nil
}
