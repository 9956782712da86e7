package main

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/graphpipe/graphpipe/clients/go"
)

func TestTheServedFunctionDoubles(t *testing.T) {
	server := httptest.NewServer(graphpipe.Handler(model()))
	defer server.Close()
	answer, err := graphpipe.Remote(server.URL, [][]float32{{1, 2}, {3, 4}})
	if err != nil || fmt.Sprint(answer) != "[[2 4] [6 8]]" {
		t.Error(answer, err)
	}
}
