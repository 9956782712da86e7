// Quickstart is the client in ten lines, and then what else a program needs. README.md shows parts of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/graphpipe/graphpipe/clients/go"
)

func main() {
	url := "http://127.0.0.1:9000"
	if len(os.Args) > 1 {
		url = os.Args[1]
	}
	if err := quick(url); err != nil {
		explain(err)
	}
	if err := more(url); err != nil {
		explain(err)
	}
	if err := sameHost(url); err != nil {
		explain(err)
	}
}

func quick(url string) error {
	client, err := graphpipe.New(url)
	if err != nil {
		return err
	}
	defer client.Close()
	pixels := make([]float32, 64)
	outputs, err := client.Infer(context.Background(), &graphpipe.InferRequest{
		Inputs:      []graphpipe.Tensor{graphpipe.FromSlice(pixels, 1, 64)},
		OutputNames: []string{"label"},
	})
	if err != nil {
		return err
	}
	label, err := graphpipe.Values[int64](outputs[0])
	fmt.Println(label, err)
	return err
}

func more(url string) error {
	client, err := graphpipe.New(url,
		graphpipe.WithTimeout(5*time.Second),
		graphpipe.WithAnswerBytesMax(64<<20),
		graphpipe.WithHeader("Authorization", "Bearer "+os.Getenv("TOKEN")))
	if err != nil {
		return err
	}
	defer client.Close()

	meta, err := client.Metadata(context.Background())
	if err != nil {
		return err
	}
	fmt.Println(meta.Name, meta.Inputs, meta.Outputs)

	pixels := graphpipe.FromSlice(make([]float32, 2*64), 2, 64)
	request := &graphpipe.InferRequest{
		Inputs:      []graphpipe.Tensor{pixels},
		InputNames:  []string{meta.Inputs[0].Name},
		OutputNames: []string{"label", "probabilities"},
	}
	var buf []byte // grows to the largest answer, and then nothing is allocated for answers any more
	for range 3 {
		var outputs []graphpipe.Tensor
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		outputs, buf, err = client.InferInto(ctx, request, buf)
		cancel()
		if err != nil {
			return err
		}
		labels, err := graphpipe.Values[int64](outputs[0])
		if err != nil {
			return err
		}
		fmt.Println(labels)
	}
	return nil
}

// sameHost works everywhere, and copies nothing where the server is on this host and the URL is unix:/path/to.sock.
func sameHost(url string) error {
	client, err := graphpipe.New(url)
	if err != nil {
		return err
	}
	defer client.Close()
	images, free := graphpipe.Alloc[float32](client, 128*64)
	defer free()
	answer, freeAnswer := graphpipe.Alloc[byte](client, 1<<20)
	defer freeAnswer()
	outputs, _, err := client.InferInto(context.Background(), &graphpipe.InferRequest{
		Inputs: []graphpipe.Tensor{graphpipe.FromSlice(images, 128, 64)},
	}, answer)
	if err != nil {
		return err
	}
	fmt.Println(outputs[0].Shape)
	return nil
}

func explain(err error) {
	var refused *graphpipe.Error
	switch {
	case errors.As(err, &refused) && refused.Code == graphpipe.CodeOverloaded:
		log.Print("busy, try again later: ", refused.Message)
	case errors.As(err, &refused):
		log.Printf("the server refused or failed it: %s (code %d, status %d)", refused.Message, refused.Code, refused.Status)
	case errors.Is(err, graphpipe.ErrInvalid):
		log.Print("nothing was sent: ", err)
	case errors.Is(err, context.DeadlineExceeded):
		log.Print("too late: ", err)
	default:
		log.Print("no answer was understood; the model may have run: ", err)
	}
}
