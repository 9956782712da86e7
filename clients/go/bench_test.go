package graphpipe

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// largeRequest is 77 MB, largeResponse 12.8 MB: a batch of 128 images and the features of it.
func largeRequest() *InferRequest {
	return &InferRequest{Inputs: []Tensor{FromSlice(make([]float32, 128*224*224*3), 128, 224, 224, 3)}}
}

func largeResponse() *InferResponse {
	return &InferResponse{Outputs: []Tensor{FromSlice(make([]float32, 3_200_000), 128, 25_000)}}
}

// smallRequest has 1 KB of data.
func smallRequest() *InferRequest {
	return &InferRequest{Inputs: []Tensor{FromSlice(make([]float32, 256), 1, 256)}, InputNames: []string{"x"}, OutputNames: []string{"y"}}
}

func smallResponse() *InferResponse {
	return &InferResponse{Outputs: []Tensor{FromSlice(make([]float32, 256), 1, 256)}}
}

func BenchmarkEncode(b *testing.B) {
	for _, c := range []struct {
		name string
		req  *InferRequest
	}{{"1KB", smallRequest()}, {"77MB", largeRequest()}, {"1000strings", thousandStrings()}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if _, err := encodeRequest(&Request{Infer: c.req}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func thousandStrings() *InferRequest {
	words := make([]string, 1000)
	for i := range words {
		words[i] = fmt.Sprintf("word number %d", i)
	}
	return &InferRequest{Inputs: []Tensor{FromStrings(words)}}
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		name string
		req  *InferRequest
	}{{"1KB", smallRequest()}, {"77MB", largeRequest()}, {"1000strings", thousandStrings()}} {
		b.Run(c.name, func(b *testing.B) {
			bytes, err := (&Request{Infer: c.req}).MarshalBinary()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for range b.N {
				if _, err := DecodeRequest(bytes); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCall compares calls with a raw socket that sends and receives the same bytes, turn by turn, to one server that
// does nothing but read a request into warm memory and write an answer made before. "ratio" is the median of the pairs.
func BenchmarkCall(b *testing.B) {
	for _, c := range []struct {
		name string
		req  *InferRequest
		resp *InferResponse
	}{{"1KB", smallRequest(), smallResponse()}, {"77MB", largeRequest(), largeResponse()}} {
		for way, options := range map[string][]Option{
			"beside_raw_socket":             nil,
			"http.Client_beside_raw_socket": {WithHTTPClient(&http.Client{Transport: tunedTransport(nil)})},
		} {
			b.Run(c.name+"/"+way, func(b *testing.B) {
				address := rawServer(b, c.resp)
				raw := dialRaw(b, address, c.req)
				client, err := New("http://"+address, options...)
				if err != nil {
					b.Fatal(err)
				}
				defer client.Close()
				var buf []byte
				call := func() {
					if _, buf, err = client.InferInto(context.Background(), c.req, buf); err != nil {
						b.Fatal(err)
					}
				}
				comparePairs(b, raw.call, call)
			})
		}
		b.Run(c.name+"/alone", func(b *testing.B) {
			client, err := New("http://" + rawServer(b, c.resp))
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			_, buf, err := client.InferInto(context.Background(), c.req, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, buf, err = client.InferInto(context.Background(), c.req, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// comparePairs runs b.N pairs and reports both medians and the median of the pairs' ratios.
func comparePairs(b *testing.B, base, subject func()) {
	base()
	subject()
	runtime.GC()
	timed := func(f func()) float64 {
		start := time.Now()
		f()
		return float64(time.Since(start).Nanoseconds())
	}
	var bases, subjects, ratios []float64
	b.ResetTimer()
	for i := range b.N {
		var x, y float64
		if i%2 == 0 {
			x = timed(base)
			y = timed(subject)
		} else {
			y = timed(subject)
			x = timed(base)
		}
		bases, subjects, ratios = append(bases, x), append(subjects, y), append(ratios, y/x)
	}
	b.ReportMetric(median(bases), "raw-ns")
	b.ReportMetric(median(subjects), "client-ns")
	b.ReportMetric(median(ratios), "ratio")
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// rawServer starts a process that answers every request on a socket with the same bytes. A server in this process would
// share its threads with the caller's, which no server does.
func rawServer(b *testing.B, resp *InferResponse) (address string) {
	body, err := resp.MarshalBinary()
	if err != nil {
		b.Fatal(err)
	}
	answer := append([]byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", len(body))), body...)
	file := filepath.Join(b.TempDir(), "answer")
	if err := os.WriteFile(file, answer, 0o600); err != nil {
		b.Fatal(err)
	}
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), rawServerVariable+"="+file)
	alive, err := server.StdinPipe() // the server ends when this does
	if err != nil {
		b.Fatal(err)
	}
	said, err := server.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		alive.Close()
		if err := server.Wait(); err != nil {
			b.Error(err)
		}
	})
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

const rawServerVariable = "GRAPHPIPE_RAW_SERVER_ANSWER"

func TestMain(m *testing.M) {
	if file := os.Getenv(rawServerVariable); file != "" {
		if err := serveRaw(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveRaw is the process that rawServer starts.
func serveRaw(file string) error {
	answer, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answerRaw(conn, answer)
		}
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func answerRaw(conn net.Conn, answer []byte) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	var warm []byte
	for {
		n, err := readHead(in)
		if err != nil {
			return
		}
		if cap(warm) < n {
			warm = make([]byte, n)
		}
		if _, err := io.ReadFull(in, warm[:n]); err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// readHead reads a message's head and returns its Content-Length.
func readHead(in *bufio.Reader) (length int, err error) {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			return length, nil
		}
		if name, value, ok := strings.Cut(string(line), ":"); ok && strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return 0, err
			}
		}
	}
}

// rawCaller is the least that a client can do.
type rawCaller struct {
	b       *testing.B
	conn    net.Conn
	in      *bufio.Reader
	head    []byte
	message segments
	warm    []byte
}

func dialRaw(b *testing.B, address string, req *InferRequest) *rawCaller {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	message, err := encodeRequest(&Request{Infer: req})
	if err != nil {
		b.Fatal(err)
	}
	head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", address, message.size())
	return &rawCaller{b: b, conn: conn, in: bufio.NewReader(conn), head: []byte(head), message: message}
}

func (c *rawCaller) call() {
	out := append(net.Buffers{c.head}, c.message...)
	if _, err := out.WriteTo(c.conn); err != nil {
		c.b.Fatal(err)
	}
	n, err := readHead(c.in)
	if err != nil {
		c.b.Fatal(err)
	}
	if cap(c.warm) < n {
		c.warm = make([]byte, n)
	}
	if _, err := io.ReadFull(c.in, c.warm[:n]); err != nil {
		c.b.Fatal(err)
	}
}

// BenchmarkHandler calls this package's own server in the same process.
func BenchmarkHandler(b *testing.B) {
	for _, c := range []struct {
		name string
		req  *InferRequest
		resp *InferResponse
	}{{"1KB", smallRequest(), smallResponse()}, {"77MB", largeRequest(), largeResponse()}} {
		b.Run(c.name, func(b *testing.B) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			server := &http.Server{Handler: Handler(fixedModel{c.resp.Outputs})}
			go server.Serve(listener)
			defer server.Close()
			client, err := New("http://" + listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			_, buf, err := client.InferInto(context.Background(), c.req, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, buf, err = client.InferInto(context.Background(), c.req, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type fixedModel struct{ outputs []Tensor }

func (m fixedModel) Metadata() *Metadata { return &Metadata{Name: "fixed"} }

func (m fixedModel) Infer(context.Context, *InferRequest) ([]Tensor, error) { return m.outputs, nil }
