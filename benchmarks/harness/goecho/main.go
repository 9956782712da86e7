// Command goecho is a yardstick for benchmarks/transport.py: a net/http server that decodes and encodes the same messages.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"

	graphpipe "github.com/graphpipe/graphpipe/clients/go"
)

type echo struct{}

func (echo) Metadata() *graphpipe.Metadata { return &graphpipe.Metadata{Name: "echo"} }

func (echo) Infer(_ context.Context, req *graphpipe.InferRequest) ([]graphpipe.Tensor, error) {
	return req.Inputs, nil
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.Serve(listener, graphpipe.Handler(echo{})))
}
