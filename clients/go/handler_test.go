package graphpipe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// adder is a function with two inputs and two outputs.
func adder() Model {
	return Function(Metadata{
		Name: "adder",
		Inputs: []TensorSpec{
			{Name: "a", Type: Float32, Shape: []int64{-1}},
			{Name: "b", Type: Float32, Shape: []int64{-1}},
		},
		Outputs: []TensorSpec{{Name: "sum", Type: Float32}, {Name: "config", Type: String}},
	}, func(_ context.Context, config string, inputs []Tensor) ([]Tensor, error) {
		a, _ := Values[float32](inputs[0])
		b, _ := Values[float32](inputs[1])
		if len(a) != len(b) {
			return nil, &Error{Code: CodeInvalidRequest, Message: "a and b differ in length"}
		}
		sum := make([]float32, len(a))
		for i := range a {
			sum[i] = a[i] + 10*b[i]
		}
		return []Tensor{FromSlice(sum), FromStrings([]string{config}, 1)}, nil
	})
}

func TestAFunctionIsServed(t *testing.T) {
	c := clientOf(t, Handler(adder()))
	one, two := FromSlice([]float32{1, 2}), FromSlice([]float32{3, 4})
	for _, r := range []struct {
		req  InferRequest
		want string
	}{
		{InferRequest{Inputs: []Tensor{one, two}}, "[[31 42] []]"},
		{InferRequest{Inputs: []Tensor{one, two}, InputNames: []string{"b", "a"}, Config: "c"}, "[[13 24] [c]]"},
		{InferRequest{Inputs: []Tensor{one, two}, InputNames: []string{"", "b", "more", "names"}}, "[[31 42] []]"},
		{InferRequest{Inputs: []Tensor{one, two}, OutputNames: []string{"config", "sum", "config"}, Config: "c"}, "[[c] [31 42] [c]]"},
		{InferRequest{Inputs: []Tensor{one, two}, OutputNames: []string{"", "sum"}}, "[[31 42] [31 42]]"},
	} {
		outputs, err := c.Infer(context.Background(), &r.req)
		if err != nil {
			t.Error(err)
			continue
		}
		var values []any
		for _, o := range outputs {
			v, _ := Nested(o)
			values = append(values, v)
		}
		if got := fmt.Sprint(values); got != r.want {
			t.Errorf("%+v gave %s, want %s", r.req, got, r.want)
		}
	}
}

func TestWhatAFunctionDoesNotTakeIsRefusedInWordsThatHelp(t *testing.T) {
	c := clientOf(t, Handler(adder()))
	one := FromSlice([]float32{1, 2})
	for want, req := range map[string]InferRequest{
		`input "b" is missing`:                         {Inputs: []Tensor{one}},
		`input "a" was given twice`:                    {Inputs: []Tensor{one, one}, InputNames: []string{"", "a"}},
		`unknown input "x"; the inputs are ["a" "b"]`:  {Inputs: []Tensor{one}, InputNames: []string{"x"}},
		`input 2 has no name, and there are 2 inputs`:  {Inputs: []Tensor{one, one, one}},
		`unknown output "y" at 0`:                      {Inputs: []Tensor{one, one}, OutputNames: []string{"y"}},
		`unknown output "" at 2`:                       {Inputs: []Tensor{one, one}, OutputNames: []string{"sum", "sum", ""}},
		`input "a" takes float32, got float64`:         {Inputs: []Tensor{FromSlice([]float64{1}), one}},
		`input "b" takes shape [-1] (-1: any), got []`: {Inputs: []Tensor{one, Scalar(float32(1))}},
		`a and b differ in length`:                     {Inputs: []Tensor{one, FromSlice([]float32{1})}},
	} {
		_, err := c.Infer(context.Background(), &req)
		var refused *Error
		if !errors.As(err, &refused) || refused.Code != CodeInvalidRequest || refused.Status != 400 || !strings.Contains(refused.Message, want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// failing is a model that fails in a chosen way.
type failing struct {
	infer func(context.Context) ([]Tensor, error)
}

func (failing) Metadata() *Metadata { return &Metadata{Name: "failing"} }

func (f failing) Infer(ctx context.Context, _ *InferRequest) ([]Tensor, error) { return f.infer(ctx) }

func TestAModelsFailureIsToldInOurWordsAndLogged(t *testing.T) {
	for name, c := range map[string]struct {
		infer func(context.Context) ([]Tensor, error)
		want  Error
		log   string
	}{
		"error":      {func(context.Context) ([]Tensor, error) { return nil, errors.New("/secret/path") }, Error{Code: 4, Status: 500, Message: "the model failed on this input"}, "/secret/path"},
		"panic":      {func(context.Context) ([]Tensor, error) { panic("/secret/path") }, Error{Code: 4, Status: 500, Message: "the model failed on this input"}, "/secret/path"},
		"bug":        {func(context.Context) ([]Tensor, error) { return outOfRange(nil), nil }, Error{Code: 4, Status: 500, Message: "the model failed on this input"}, "out of range"},
		"bad output": {func(context.Context) ([]Tensor, error) { return []Tensor{{Type: Float32, Shape: []int64{3}}}, nil }, Error{Code: 4, Status: 500, Message: "the model failed on this input"}, "output 0"},
		"own words": {func(context.Context) ([]Tensor, error) {
			return nil, fmt.Errorf("x: %w", &Error{Code: CodeOverloaded, Message: "busy"})
		}, Error{Code: 6, Status: 503, Message: "busy"}, ""},
		"own status": {func(context.Context) ([]Tensor, error) { return nil, &Error{Code: 99, Status: 422, Message: "odd"} }, Error{Code: 99, Status: 422, Message: "odd"}, ""},
		"long words": {func(context.Context) ([]Tensor, error) {
			return nil, &Error{Code: 2, Message: strings.Repeat("é", 4000)}
		}, Error{Code: 2, Status: 400, Message: strings.Repeat("é", 2046) + "..."}, ""},
		"its own deadline": {func(ctx context.Context) ([]Tensor, error) { return nil, context.DeadlineExceeded }, Error{Code: 4, Status: 500, Message: "the model failed on this input"}, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			client := clientOf(t, Handler(failing{c.infer}, WithLogger(slog.New(slog.NewTextHandler(&log, nil)))))
			for range 2 { // the server lives on
				_, err := client.Infer(context.Background(), &InferRequest{})
				var refused *Error
				if !errors.As(err, &refused) || *refused != c.want {
					t.Errorf("got %+v, %v", refused, err)
				}
			}
			if !strings.Contains(log.String(), c.log) || (c.log == "") != (log.Len() == 0) {
				t.Errorf("the log has %q", log.String())
			}
		})
	}
}

func outOfRange(all []Tensor) []Tensor { return all[:len(all)+1] }

func TestTheCallersDeadlineReachesTheModel(t *testing.T) {
	h := Handler(failing{func(ctx context.Context) ([]Tensor, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(requestBytes(t)))
	r.Header.Set("GraphPipe-Timeout-Ms", "20")
	r.Header.Set("Accept", contentType)
	w := httptest.NewRecorder()
	start := time.Now()
	h.ServeHTTP(w, r)
	if refused := refusal(w.Result()); refused.Code != CodeDeadline || refused.Status != 504 || time.Since(start) > 5*time.Second {
		t.Errorf("got %v after %v", refused, time.Since(start))
	}
}

func requestBytes(t *testing.T) []byte {
	b, err := (&Request{Infer: smallRequest()}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBadRequestsGetTheStatusAndCodeOfTheirFault(t *testing.T) {
	good := requestBytes(t)
	null := forgeTensor(uint8(Null), []int64{2}, nil, nil)
	for _, c := range []struct {
		name, method string
		header       [2]string
		body         []byte
		code         Code
		status       int
	}{
		{"empty", "POST", [2]string{}, nil, 1, 400},
		{"garbage", "POST", [2]string{}, []byte("garbage"), 1, 400},
		{"no type", "POST", [2]string{}, null, 1, 400},
		{"too large", "POST", [2]string{}, make([]byte, 5000), 5, 413},
		{"gzip", "POST", [2]string{"Content-Encoding", "gzip"}, good, 11, 415},
		{"put", "PUT", [2]string{}, good, 11, 405},
		{"head", "HEAD", [2]string{}, nil, 11, 405},
		{"odd deadline", "POST", [2]string{"GraphPipe-Timeout-Ms", "soon"}, good, 2, 400},
		{"past deadline", "POST", [2]string{"GraphPipe-Timeout-Ms", "0"}, good, 7, 504},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := Handler(echo{}, WithBodyBytesMax(4000))
			for accept, kind := range map[string]string{contentType: contentType, "*/*": "text/plain; charset=utf-8", "": "text/plain; charset=utf-8", "text/html, APPLICATION/vnd.graphpipe;q=1": contentType} {
				for _, length := range []int64{int64(len(c.body)), -1} {
					r := httptest.NewRequest(c.method, "/any/path", bytes.NewReader(c.body))
					r.ContentLength = length
					if c.header[0] != "" {
						r.Header.Set(c.header[0], c.header[1])
					}
					if accept != "" {
						r.Header.Set("Accept", accept)
					}
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					got := w.Result()
					if got.StatusCode != c.status || got.Header.Get("Content-Type") != kind || got.Header.Get("Content-Length") == "" {
						t.Errorf("%s: %d, %v", accept, got.StatusCode, got.Header)
					}
					if (c.status == 405) != (got.Header.Get("Allow") != "") {
						t.Errorf("Allow is %q", got.Header.Get("Allow"))
					}
					if kind == contentType {
						if refused := refusal(got); refused.Code != c.code || refused.Message == "" {
							t.Errorf("got %+v", refused)
						}
					} else if text, _ := io.ReadAll(got.Body); len(text) < 10 || text[len(text)-1] != '\n' {
						t.Errorf("got %q", text)
					}
				}
			}
		})
	}
}

func TestGETAnswersTheMetadataAsTheOriginalDid(t *testing.T) {
	server := httptest.NewServer(Handler(adder()))
	defer server.Close()
	resp, err := http.Get(server.URL + "/anything")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	var keys map[string]any
	if err := json.Unmarshal(text, &keys); err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d, %v, %s", resp.StatusCode, resp.Header, text)
	}
	want := "{\n    \"Name\": \"adder\",\n    \"Version\": \"\",\n    \"Server\": \"\",\n    \"Description\": \"\",\n    \"Inputs\": [\n        {\n            \"Name\": \"a\",\n            \"Description\": \"\",\n            \"Shape\": [\n                -1\n            ],\n            \"Type\": 10\n        },"
	if !strings.HasPrefix(string(text), want) || strings.Contains(string(text), "null") {
		t.Errorf("got %s", text)
	}
}

func TestRemoteTakesAndGivesGoValues(t *testing.T) {
	server := httptest.NewServer(Handler(echo{}))
	defer server.Close()
	got, err := Remote(server.URL, [][]float32{{1, 2}, {3, 4}})
	if err != nil || fmt.Sprint(got) != "[[1 2] [3 4]]" {
		t.Errorf("got %v, %v", got, err)
	}
	all, err := MultiRemote(nil, server.URL, "config", []any{int64(1), []string{"a", "b"}}, []string{"x", "y"}, nil)
	if err != nil || fmt.Sprint(all) != "[1 [a b]]" {
		t.Errorf("got %v, %v", all, err)
	}
	if _, err := MultiRemote(server.Client(), server.URL, "", []any{struct{}{}}, nil, nil); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if _, err := MultiRemote(server.Client(), "nowhere", "", nil, nil, nil); err == nil {
		t.Error("no error")
	}
}
