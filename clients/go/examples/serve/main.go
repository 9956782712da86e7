// Serve serves a function of Go, and calls it.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/graphpipe/graphpipe/clients/go"
)

func double(_ context.Context, _ string, inputs []graphpipe.Tensor) ([]graphpipe.Tensor, error) {
	x, err := graphpipe.Values[float32](inputs[0])
	if err != nil {
		return nil, err
	}
	y := make([]float32, len(x))
	for i := range x {
		y[i] = 2 * x[i]
	}
	return []graphpipe.Tensor{graphpipe.FromSlice(y, inputs[0].Shape...)}, nil
}

func model() graphpipe.Model {
	return graphpipe.Function(graphpipe.Metadata{
		Name:    "double",
		Inputs:  []graphpipe.TensorSpec{{Name: "x", Type: graphpipe.Float32}},
		Outputs: []graphpipe.TensorSpec{{Name: "y", Type: graphpipe.Float32}},
	}, double)
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:9000")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Handler:           graphpipe.Handler(model()),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       time.Minute,
	}
	go func() { log.Fatal(server.Serve(listener)) }()
	answer, err := graphpipe.Remote("http://127.0.0.1:9000", [][]float32{{1, 2}, {3, 4}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer) // [[2 4] [6 8]]
	fmt.Println("serving on http://127.0.0.1:9000 until Ctrl-C")
	select {}
}
