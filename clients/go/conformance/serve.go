package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/graphpipe/graphpipe/clients/go"
)

// echo answers its inputs, unless the config asks for something else.
type echo struct{}

func (echo) Metadata() *graphpipe.Metadata {
	return &graphpipe.Metadata{
		Name: "echo", Inputs: []graphpipe.TensorSpec{{Name: "input"}}, Outputs: []graphpipe.TensorSpec{{Name: "output"}},
	}
}

func (echo) Infer(ctx context.Context, req *graphpipe.InferRequest) ([]graphpipe.Tensor, error) {
	switch req.Config {
	case "fail":
		return nil, errors.New("what only the log gets to see")
	case "refuse":
		return nil, &graphpipe.Error{Code: graphpipe.CodeInvalidRequest, Message: "größe"}
	case "sleep":
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Second):
		}
	}
	return req.Inputs, nil
}

// serve starts a server with this package's handler; it lasts as long as the program.
func serve() (*result, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: graphpipe.Handler(echo{}), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return &result{OK: true, URL: "http://" + listener.Addr().String()}, nil
}
