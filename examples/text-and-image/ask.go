// Ask a server of this example whether a text is true of pictures, from clients/go:
//
//	go run ../../examples/text-and-image/ask.go http://127.0.0.1:9000 "a red circle" one.jpg other.jpg
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/graphpipe/graphpipe/clients/go"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "expected a URL, a text and files")
		os.Exit(2)
	}
	if err := ask(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// ask prints one line for each file: the probability that the text is true of it.
func ask(url, text string, files []string) error {
	texts, images := make([]string, len(files)), make([][]byte, len(files))
	for i, file := range files {
		image, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		texts[i], images[i] = text, image
	}
	client, err := graphpipe.New(url)
	if err != nil {
		return err
	}
	defer client.Close()
	n := int64(len(files))
	outputs, err := client.Infer(context.Background(), &graphpipe.InferRequest{
		Inputs:      []graphpipe.Tensor{graphpipe.FromStrings(texts, n), graphpipe.FromByteStrings(images, n)},
		InputNames:  []string{"text", "image"},
		OutputNames: []string{"probability"},
	})
	if err != nil {
		return err
	}
	probabilities, err := graphpipe.Values[float32](outputs[0])
	if err != nil {
		return err
	}
	for i, probability := range probabilities {
		fmt.Printf("%.7f %s\n", probability, files[i])
	}
	return nil
}
