//go:build linux && (amd64 || arm64)

package graphpipe

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// theServer is this project's own, where it is set up beside this folder.
const theServer = "../../.venv/bin/graphpipe-serve"

const models = `import numpy as np


def first(x):
    """So many columns of as many images as came."""
    return x[:, :25_000]
`

// realServer returns the URLs of an echo and of a function, which gives 12.8 MB for 77.
func realServer(t testing.TB) (echo, first string) {
	t.Helper()
	server, err := filepath.Abs(theServer)
	if err == nil {
		_, err = os.Stat(server)
	}
	if err != nil {
		t.Skip("the server is not set up here: make serve does that")
	}
	folder := t.TempDir()
	file := filepath.Join(folder, "models.py")
	if err := os.WriteFile(file, []byte(models), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder, "s")
	process := exec.Command(server, "--model", "echo=echo", "--model", "first="+file+":first", "--listen", "unix:"+socket)
	var said bytes.Buffer
	process.Stdout, process.Stderr = &said, &said
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Signal(os.Interrupt)
		process.Wait()
		if t.Failed() {
			t.Logf("the server said:\n%s", said.String())
		}
	})
	client, err := New("unix:" + socket + ":/models/echo")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for ends := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err = client.Metadata(context.Background()); err == nil {
			break
		}
		if time.Now().After(ends) {
			t.Fatalf("%v\n%s", err, said.String())
		}
	}
	return "unix:" + socket + ":/models/echo", "unix:" + socket + ":/models/first"
}

// byBytes is a client that shows nothing.
func byBytes(t testing.TB, url string) *Client {
	c, err := New(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.sameHost = nil
	return c
}

func TestTheServerLooksAtMemory(t *testing.T) {
	echo, first := realServer(t)
	t.Run("and answers the same as by bytes", func(t *testing.T) { sameAsByBytes(t, echo) })
	t.Run("that the caller allocated", func(t *testing.T) { allocated(t, echo) })
	t.Run("and its errors are the same", func(t *testing.T) { sameErrors(t, first) })
}

func sameAsByBytes(t *testing.T, url string) {
	c, plain := newClient(t, url), byBytes(t, url)
	large := bytesOf(numbered(300_000, 3))
	var inputs []Tensor
	for kind := Uint8; kind <= Float64; kind++ {
		n := int64(len(large) / kind.Size())
		inputs = append(inputs, Tensor{Type: kind, Shape: []int64{n / 100, 100}, Data: large[:n/100*100*int64(kind.Size())]})
	}
	inputs = append(inputs, everyTensor()...)
	inputs = append(inputs, FromStrings([]string{"a", "", "b"}), FromSlice(make([]float32, 0), 0, 7))
	for range 3 {
		sameTensors(t, infer(t, c, inputs...), infer(t, plain, inputs...))
	}
	// One after the other, so that segments change their use.
	for _, input := range inputs {
		sameTensors(t, infer(t, c, input), []Tensor{input})
	}
	c.sameHost.mu.Lock()
	defer c.sameHost.mu.Unlock()
	if !c.sameHost.refusedUntil.IsZero() || len(c.sameHost.rooms) == 0 {
		t.Error("the server did not look at memory")
	}
}

func allocated(t *testing.T, url string) {
	c := newClient(t, url)
	values, free := Alloc[float32](c, 1_000_000)
	defer free()
	buf, freeBuf := Alloc[uint8](c, 4_000_000)
	defer freeBuf()
	for i := range 4 {
		copy(values, numbered(len(values), i))
		outputs, _, err := c.InferInto(context.Background(), &InferRequest{Inputs: []Tensor{FromSlice(values)}}, buf)
		if err != nil {
			t.Fatal(err)
		}
		sameTensors(t, outputs, []Tensor{FromSlice(values)})
		if !slices.Equal(outputs[0].Shape, []int64{1_000_000}) || addressOf(outputs[0].Data) != addressOf(buf) {
			t.Error("the answer was copied")
		}
	}
}

func sameErrors(t *testing.T, url string) {
	for _, c := range []*Client{newClient(t, url), byBytes(t, url)} {
		// No second dimension.
		_, err := c.Infer(context.Background(), &InferRequest{Inputs: []Tensor{FromSlice(numbered(100_000, 1))}})
		refused, ok := err.(*Error)
		if !ok || refused.Code != CodeModelFailed || refused.Status != http.StatusInternalServerError {
			t.Errorf("%v", err)
		}
	}
}

// BenchmarkSameHost is 77 MB in and 12.8 MB out, by bytes and by memory, and one copy of both, in turn.
func BenchmarkSameHost(b *testing.B) {
	_, url := realServer(b)
	inputs := numbered(128*224*224*3, 1)
	c, err := New(url)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	plain := byBytes(b, url)
	values, free := Alloc[float32](c, len(inputs))
	defer free()
	copy(values, inputs)
	buf, freeBuf := Alloc[uint8](c, 13<<20)
	defer freeBuf()
	call := func(c *Client, values []float32, buf []byte) func() {
		req := &InferRequest{Inputs: []Tensor{FromSlice(values, 128, 224*224*3)}}
		return func() {
			var err error
			if _, buf, err = c.InferInto(context.Background(), req, buf); err != nil {
				b.Fatal(err)
			}
		}
	}
	to, out := make([]float32, len(inputs)), make([]float32, 128*25_000)
	ways := []struct {
		name string
		run  func()
		took []float64
	}{
		{name: "memcpy", run: func() { copy(to, inputs); copy(out, inputs) }},
		{name: "bytes", run: call(plain, inputs, make([]byte, 0, 13<<20))},
		{name: "memory", run: call(c, inputs, make([]byte, 0, 13<<20))},
		{name: "Alloc", run: call(c, values, buf)},
	}
	for range 3 { // the first calls make what later ones use again
		for i := range ways {
			ways[i].run()
		}
	}
	b.ResetTimer()
	for range b.N {
		for i := range ways {
			start := time.Now()
			ways[i].run()
			ways[i].took = append(ways[i].took, float64(time.Since(start).Microseconds())/1000)
		}
	}
	for i := range ways {
		slices.Sort(ways[i].took)
		b.ReportMetric(ways[i].took[len(ways[i].took)/2], ways[i].name+"-ms")
	}
}
