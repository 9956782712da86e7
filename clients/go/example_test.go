package graphpipe_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/graphpipe/graphpipe/clients/go"
)

// doubler is a server of one function.
func doubler() *httptest.Server {
	model := graphpipe.Function(graphpipe.Metadata{
		Name:    "double",
		Inputs:  []graphpipe.TensorSpec{{Name: "x", Type: graphpipe.Float32, Shape: []int64{-1}}},
		Outputs: []graphpipe.TensorSpec{{Name: "y", Type: graphpipe.Float32, Shape: []int64{-1}}},
	}, func(_ context.Context, _ string, inputs []graphpipe.Tensor) ([]graphpipe.Tensor, error) {
		x, err := graphpipe.Values[float32](inputs[0])
		if err != nil {
			return nil, err
		}
		y := make([]float32, len(x))
		for i := range x {
			y[i] = 2 * x[i]
		}
		return []graphpipe.Tensor{graphpipe.FromSlice(y)}, nil
	})
	return httptest.NewServer(graphpipe.Handler(model))
}

func Example() {
	server := doubler()
	defer server.Close()
	client, err := graphpipe.New(server.URL)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	output, err := client.Execute(context.Background(), graphpipe.FromSlice([]float32{1, 2, 3}))
	if err != nil {
		panic(err)
	}
	fmt.Println(graphpipe.Values[float32](output))
	// Output: [2 4 6] <nil>
}

func ExampleClient_Infer() {
	server := doubler()
	defer server.Close()
	client, err := graphpipe.New(server.URL)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	outputs, err := client.Infer(context.Background(), &graphpipe.InferRequest{
		Inputs:      []graphpipe.Tensor{graphpipe.FromSlice([]float32{1, 2})},
		InputNames:  []string{"x"},
		OutputNames: []string{"y"},
	})
	fmt.Println(len(outputs), outputs[0].Shape, err)
	// Output: 1 [2] <nil>
}

func ExampleClient_InferInto() {
	server := doubler()
	defer server.Close()
	client, err := graphpipe.New(server.URL)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	var buf []byte // grows to the largest answer
	for i := range 3 {
		var outputs []graphpipe.Tensor
		request := &graphpipe.InferRequest{Inputs: []graphpipe.Tensor{graphpipe.FromSlice([]float32{float32(i)})}}
		if outputs, buf, err = client.InferInto(context.Background(), request, buf); err != nil {
			panic(err)
		}
		values, _ := graphpipe.Values[float32](outputs[0])
		fmt.Println(values)
	}
	// Output:
	// [0]
	// [2]
	// [4]
}

func ExampleClient_Metadata() {
	server := doubler()
	defer server.Close()
	client, err := graphpipe.New(server.URL)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	meta, err := client.Metadata(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(meta.Name, meta.Inputs[0].Name, meta.Inputs[0].Type, meta.Inputs[0].Shape)
	// Output: double x float32 [-1]
}

func ExampleError() {
	server := doubler()
	defer server.Close()
	client, err := graphpipe.New(server.URL)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	_, err = client.Execute(context.Background(), graphpipe.FromSlice([]float64{1}))
	var refused *graphpipe.Error
	if errors.As(err, &refused) {
		fmt.Println(refused.Status, refused.Message)
	}
	fmt.Println(errors.Is(err, graphpipe.CodeInvalidRequest), graphpipe.SafeToRetry(err))
	// Output:
	// 400 input "x" takes float32, got float64
	// true false
}

func ExampleSafeToRetry() {
	client, err := graphpipe.New("http://127.0.0.1:1", graphpipe.WithConnectTimeout(time.Second))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	_, err = client.Execute(context.Background(), graphpipe.Scalar(1.0))
	fmt.Println(errors.Is(err, graphpipe.ErrUnreachable), graphpipe.SafeToRetry(err))
	// Output: true true
}

func ExampleContextWithHeader() {
	server := doubler()
	defer server.Close()
	client, err := graphpipe.New(server.URL, graphpipe.WithAPIKey("key"))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	ctx := graphpipe.ContextWithHeader(context.Background(), "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	_, err = client.Execute(ctx, graphpipe.FromSlice([]float32{1}))
	fmt.Println(err)
	// Output: <nil>
}

func ExampleRemote() {
	server := doubler()
	defer server.Close()
	answer, err := graphpipe.Remote(server.URL, []float32{1, 2})
	fmt.Println(answer, err)
	// Output: [2 4] <nil>
}

func ExampleFromStrings() {
	texts := graphpipe.FromStrings([]string{"one", "two"}, 2)
	fmt.Println(graphpipe.StringValues(texts))
	// Output: [one two] <nil>
}

func ExampleFromNested() {
	tensor, err := graphpipe.FromNested([][]float32{{1, 2}, {3, 4}})
	if err != nil {
		panic(err)
	}
	values, err := graphpipe.Nested(tensor)
	fmt.Println(tensor.Shape, values, err)
	// Output: [2 2] [[1 2] [3 4]] <nil>
}

func ExampleInferRequest_encoding() {
	request := graphpipe.Request{Infer: &graphpipe.InferRequest{Inputs: []graphpipe.Tensor{graphpipe.Scalar(int64(7))}}}
	b, err := request.MarshalBinary()
	if err != nil {
		panic(err)
	}
	back, err := graphpipe.DecodeRequest(b)
	if err != nil {
		panic(err)
	}
	fmt.Println(graphpipe.Values[int64](back.Infer.Inputs[0]))
	// Output: [7] <nil>
}
