package graphpipe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestMemoryForABodyIsTakenAsItComes(t *testing.T) {
	h := Handler(echo{}, WithBodyBytesMax(1<<30), WithInFlightBytesMax(8<<30))
	server := httptest.NewServer(h)
	defer server.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var all []net.Conn
	for range 7 {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\nabc")
		all = append(all, conn)
	}
	for end := time.Now().Add(10 * time.Second); h.(*handler).inFlight.Load() < 7*firstRoom && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 64<<20 {
		t.Errorf("seven heads took %d bytes", taken)
	}
	for _, conn := range all {
		conn.Close()
	}
	for end := time.Now().Add(10 * time.Second); h.(*handler).inFlight.Load() != 0; {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are still in flight", h.(*handler).inFlight.Load())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestABodyIsTheSameHoweverItComes(t *testing.T) {
	whole := bytes.Repeat([]byte("0123456789abcdef"), 1<<17) // two steps of growth
	for _, size := range []int{0, 1, firstRoom - 1, firstRoom, firstRoom + 1, len(whole)} {
		for _, length := range []int64{int64(size), -1} {
			for _, limit := range []int64{int64(size), int64(size) + 1, 1 << 30} {
				h := &handler{inFlightBytesMax: 1 << 40}
				r := &room{taken: &h.inFlight, most: h.inFlightBytesMax}
				body, err := grow(iotest.HalfReader(bytes.NewReader(whole[:size])), length, limit, r)
				if err != nil || !bytes.Equal(body, whole[:size]) {
					t.Errorf("%d bytes of length %d under %d: %d, %v", size, length, limit, len(body), err)
				}
				r.leave()
				if h.inFlight.Load() != 0 {
					t.Errorf("%d bytes are left", h.inFlight.Load())
				}
			}
			if _, err := grow(bytes.NewReader(whole[:size]), length, int64(size)-1, &room{taken: &(&handler{}).inFlight, most: 1 << 40}); !errors.Is(err, errTooLong) {
				t.Errorf("%d bytes of length %d: %v", size, length, err)
			}
		}
	}
	short := &room{taken: &(&handler{}).inFlight, most: 1 << 40}
	if _, err := grow(strings.NewReader("abc"), 4, 10, short); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func TestBodiesInFlightAreBoundedTogether(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	model := failing{func(context.Context) ([]Tensor, error) { began <- struct{}{}; <-end; return nil, nil }}
	c := clientOf(t, Handler(model, WithBodyBytesMax(3<<20), WithInFlightBytesMax(3<<20)))
	first := make(chan error)
	large := &InferRequest{Inputs: []Tensor{FromSlice(make([]byte, 5<<19))}}
	go func() {
		_, err := c.Infer(context.Background(), large)
		first <- err
	}()
	<-began
	_, err := c.Infer(context.Background(), large)
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != CodeOverloaded || refused.RetryAfter != time.Second {
		t.Error(err)
	}
	close(end)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestStringsInARequestAreBounded(t *testing.T) {
	c := clientOf(t, Handler(echo{}, WithStringsMax(1000)))
	for n, want := range map[int]Code{1000: 0, 1001: CodeTooLarge} {
		half := FromStrings(make([]string, n-500), int64(n-500))
		_, err := c.Infer(context.Background(), &InferRequest{Inputs: []Tensor{half, FromStrings(make([]string, 500), 500)}})
		if want == 0 && err != nil || want != 0 && !errors.Is(err, want) {
			t.Errorf("%d strings: %v", n, err)
		}
	}
}

func TestARequestOfALaterKindIsUnsupported(t *testing.T) {
	b := requestBytes(t)
	_, root, err := newReader(b)
	if err != nil {
		t.Fatal(err)
	}
	at, _ := root.field(0, 1)
	b[at] = 3
	if _, err := DecodeRequest(b); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(b))
	r.Header.Set("Accept", contentType)
	Handler(echo{}).ServeHTTP(w, r)
	if refused := refusal(w.Result()); refused.Code != CodeUnsupported || refused.Status != 501 {
		t.Errorf("got %+v", refused)
	}
}

func TestATypeOfALaterSchemaIsKeptByItsNumber(t *testing.T) {
	b, err := (&Metadata{Name: "m", Inputs: []TensorSpec{{Name: "x", Type: Float32}}}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	_, root, _ := newReader(b)
	at, _, _ := root.offsets(4, 1)
	to, _ := root.r.follow(at)
	spec, _ := root.r.table(to)
	place, _ := spec.field(3, 1)
	b[place] = 77
	meta, err := DecodeMetadata(b)
	if err != nil || meta.Inputs[0].Type != Null || meta.Inputs[0].TypeNumber != 77 {
		t.Errorf("%+v, %v", meta, err)
	}
}
