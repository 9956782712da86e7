package graphpipe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// echo answers its inputs and tells what it was asked.
type echo struct{}

func (echo) Metadata() *Metadata {
	return &Metadata{Name: "echo", Server: "test", Inputs: []TensorSpec{{Name: "x", Shape: []int64{-1}, Type: Float32}}}
}

func (echo) Infer(_ context.Context, req *InferRequest) ([]Tensor, error) { return req.Inputs, nil }

// clientOf returns a client of a server that lives as long as the test.
func clientOf(t *testing.T, h http.Handler, options ...Option) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return newClient(t, server.URL, options...)
}

func newClient(t *testing.T, url string, options ...Option) *Client {
	t.Helper()
	c, err := New(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// bothWays runs a test with the client's own connections and with net/http's.
func bothWays(t *testing.T, test func(t *testing.T, options ...Option)) {
	t.Run("own connections", func(t *testing.T) { test(t) })
	t.Run("http.Client", func(t *testing.T) {
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		test(t, WithHTTPClient(&http.Client{Transport: transport}))
	})
}

func TestEveryTensorSurvivesARoundTrip(t *testing.T) {
	bothWays(t, func(t *testing.T, options ...Option) {
		c := clientOf(t, Handler(echo{}), options...)
		outputs, err := c.Infer(context.Background(), &InferRequest{Inputs: everyTensor()})
		if err != nil {
			t.Fatal(err)
		}
		if !alike(&InferResponse{Outputs: outputs}, &InferResponse{Outputs: everyTensor()}) {
			t.Errorf("got %+v", outputs)
		}
	})
}

func TestLargeTensorsSurviveARoundTrip(t *testing.T) {
	bothWays(t, func(t *testing.T, options ...Option) {
		c := clientOf(t, Handler(echo{}), options...)
		large := make([]uint32, 3<<20)
		for i := range large {
			large[i] = uint32(i) * 2654435761
		}
		for range 3 {
			output, err := c.Execute(context.Background(), FromSlice(large))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(output.Data, bytesOf(large)) {
				t.Fatal("the bytes changed on the way")
			}
		}
	})
}

func TestTwoHundredCallsAtOnceGetTheirOwnAnswers(t *testing.T) {
	bothWays(t, func(t *testing.T, options ...Option) {
		c := clientOf(t, Handler(echo{}), options...)
		var group sync.WaitGroup
		for caller := range 8 {
			group.Add(1)
			go func() {
				defer group.Done()
				for i := range 100 {
					size := 1 + (i*7919)%30_000
					values := make([]int64, size)
					values[0], values[size-1] = int64(caller), int64(i)
					output, err := c.Execute(context.Background(), FromSlice(values))
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := Values[int64](output); err != nil || len(got) != size || !bytes.Equal(bytesOf(got), bytesOf(values)) {
						t.Errorf("caller %d got another's answer: %v", caller, err)
						return
					}
				}
			}()
		}
		group.Wait()
	})
}

func TestMetadataIsRead(t *testing.T) {
	bothWays(t, func(t *testing.T, options ...Option) {
		meta, err := clientOf(t, Handler(echo{}), options...).Metadata(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if meta.Name != "echo" || len(meta.Inputs) != 1 || meta.Inputs[0].Type != Float32 || meta.Inputs[0].Shape[0] != -1 {
			t.Errorf("got %+v", meta)
		}
	})
}

func TestInferIntoReceivesIntoTheCallersBuffer(t *testing.T) {
	c := clientOf(t, Handler(echo{}))
	req := &InferRequest{Inputs: []Tensor{FromSlice(make([]float32, 1000))}}
	_, buf, err := c.InferInto(context.Background(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	outputs, again, err := c.InferInto(context.Background(), req, buf[:0])
	if err != nil {
		t.Fatal(err)
	}
	if &again[0] != &buf[0] || &outputs[0].Data[3999] != &buf[len(buf)-1] {
		t.Error("the second answer is not in the buffer of the first")
	}
}

func TestMemoryDoesNotGrowWithTheTensors(t *testing.T) {
	b, err := (&InferResponse{Outputs: []Tensor{FromSlice(make([]float32, 1<<20))}}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
	url, _ := rawReply(t, func(_ int, conn net.Conn, in *bufio.Reader) {
		for readRequest(in) == nil {
			conn.Write(answer)
		}
	})
	c := newClient(t, url)
	req := &InferRequest{Inputs: []Tensor{FromSlice(make([]float32, 8<<20))}}
	var buf []byte
	call := func() {
		if _, buf, err = c.InferInto(context.Background(), req, buf); err != nil {
			t.Fatal(err)
		}
	}
	call()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 5 {
		call()
	}
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) / 5; took > 64<<10 {
		t.Errorf("a call with 32 MB out and 4 MB in took %d bytes of memory", took)
	}
}

func TestHeadersSayWhatServersRelyOn(t *testing.T) {
	bothWays(t, func(t *testing.T, options ...Option) {
		requests, lengths := make(chan *http.Request, 1), make(chan int64, 1)
		server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			requests <- r.Clone(context.Background())
			lengths <- n
			w.WriteHeader(http.StatusTeapot)
		})
		c := clientOf(t, server, append(options, WithHeader("Authorization", "Bearer x"), WithTimeout(5*time.Second))...)
		for _, values := range []int{1, 5_000, 100_000} {
			_, err := c.Execute(context.Background(), FromSlice(make([]float32, values)))
			var refused *Error
			if !errors.As(err, &refused) || refused.Status != http.StatusTeapot {
				t.Fatal(err)
			}
			got, length := <-requests, <-lengths
			if got.Method != http.MethodPost || got.ContentLength != length || length < int64(4*values) || len(got.TransferEncoding) != 0 {
				t.Errorf("%s, Content-Length %d of %d, %v", got.Method, got.ContentLength, length, got.TransferEncoding)
			}
			if got.Header.Get("Accept") != contentType || got.Header.Get("Accept-Encoding") != "identity" {
				t.Errorf("%v", got.Header)
			}
			if left, err := strconv.Atoi(got.Header.Get("GraphPipe-Timeout-Ms")); err != nil || left < 3000 || left > 5000 {
				t.Errorf("GraphPipe-Timeout-Ms is %q", got.Header.Get("GraphPipe-Timeout-Ms"))
			}
			if got.Header.Get("Authorization") != "Bearer x" {
				t.Errorf("%v", got.Header)
			}
		}
	})
}

func TestAServersRefusalIsAnErrorWithCodeAndStatus(t *testing.T) {
	refusal := func(code Code, message string) string {
		b, err := (&InferResponse{Errors: []ErrorEntry{{code, message}}}).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, c := range []struct {
		name   string
		status int
		kind   string
		body   string
		want   Error
	}{
		{"ours", 400, contentType, refusal(2, "no such input"), Error{Code: 2, Status: 400, Message: "no such input"}},
		{"ours with a parameter", 503, "Application/Vnd.GraphPipe; v=1", refusal(10, "loading"), Error{Code: 10, Status: 503, Message: "loading"}},
		{"a code of the future", 422, contentType, refusal(99, "new"), Error{Code: 99, Status: 422, Message: "new"}},
		{"the original's text", 400, "text/plain; charset=utf-8", "shape mismatch\n", Error{Code: 0, Status: 400, Message: "shape mismatch"}},
		{"a proxy's page", 502, "text/html", "<html>bad gateway</html>", Error{Code: 12, Status: 502, Message: "something in between answered 502 Bad Gateway"}},
		{"nothing", 404, "", "", Error{Code: 3, Status: 404, Message: "Not Found"}},
		{"over his own limit", 429, contentType, refusal(6, "slowly"), Error{Code: 6, Status: 429, Message: "slowly"}},
		{"busy, whoever says so", 503, "text/plain", "busy", Error{Code: 6, Status: 503, Message: "busy"}},
		{"garbage called ours", 500, contentType, "\xff\xff\xff\xff\x00garbage", Error{Code: 4, Status: 500, Message: "Internal Server Error"}},
		{"text that is not UTF-8", 413, "text/plain", "too \xff large", Error{Code: 5, Status: 413, Message: "too \uFFFD large"}},
		{"a success that is not 200", 204, "", "", Error{Code: 0, Status: 204, Message: "No Content"}},
		{"a redirect", 307, "text/plain", "go away", Error{Code: 0, Status: 307, Message: "go away"}},
		{"errors on a 200", 200, contentType, refusal(4, "failed"), Error{Code: 4, Status: 200, Message: "failed"}},
		{"a very long text", 400, "text/plain", strings.Repeat("x", 1<<20), Error{Code: 0, Status: 400, Message: strings.Repeat("x", refusalBytesMax)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, options ...Option) {
				client := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					w.Header().Set("Content-Type", c.kind)
					w.Header().Set("Location", "/elsewhere")
					w.WriteHeader(c.status)
					io.WriteString(w, c.body)
				}), options...)
				for range 2 { // the second on a kept connection, if it is kept
					_, err := client.Execute(context.Background(), Scalar(1.0))
					var refused *Error
					if !errors.As(err, &refused) || *refused != c.want {
						t.Errorf("got %+v, %v", refused, err)
					}
				}
			})
		})
	}
}

// rawReply serves each connection by hand.
func rawReply(t *testing.T, serve func(n int, conn net.Conn, in *bufio.Reader)) (url string, connections *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	connections = new(atomic.Int32)
	t.Cleanup(func() {
		listener.Close()
		group.Wait()
	})
	group.Add(1)
	go func() {
		defer group.Done()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n := int(connections.Add(1))
			group.Add(1)
			go func() {
				defer group.Done()
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				serve(n, conn, bufio.NewReader(conn))
			}()
		}
	}()
	return "http://" + listener.Addr().String(), connections
}

// readRequest reads one whole request.
func readRequest(in *bufio.Reader) error {
	n, err := readHead(in)
	if err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, in, int64(n))
	return err
}

func goodAnswer(t *testing.T) string {
	b, err := (&InferResponse{Outputs: []Tensor{Scalar(int32(42))}}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
}

func TestABrokenServerGivesAnErrorThatIsNotItsAnswer(t *testing.T) {
	good := goodAnswer(t)
	for name, reply := range map[string]string{
		"nothing":                  "",
		"half a head":              "HTTP/1.1 200 OK\r\nContent-Le",
		"another protocol":         "SSH-2.0-OpenSSH_9.6\r\n",
		"no body":                  "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"a body that breaks off":   good[:len(good)-3],
		"a negative length":        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
		"two lengths":              "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		"text":                     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"gzip":                     "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
		"a body over the limit":    "HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n",
		"exabytes":                 "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n",
		"chunks over the limit":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nF4241\r\n" + strings.Repeat("x", 1000001) + "\r\n0\r\n\r\n",
		"a chunk that breaks off":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhello",
		"a chunk of no size":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
		"a head without end":       "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 12_000),
		"another protocol, agreed": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, options ...Option) {
				limit := int64(1_000_000)
				if name == "exabytes" {
					limit = math.MaxInt64
				}
				url, _ := rawReply(t, func(_ int, conn net.Conn, in *bufio.Reader) {
					if readRequest(in) == nil {
						io.WriteString(conn, reply)
					}
				})
				c := newClient(t, url, append(options, WithAnswerBytesMax(limit), WithTimeout(10*time.Second))...)
				outputs, err := c.Infer(context.Background(), smallRequest())
				var refused *Error
				if err == nil || (errors.As(err, &refused) && refused.Status != http.StatusSwitchingProtocols) {
					t.Errorf("got %v, %v", outputs, err)
				}
				if strings.Contains(name, "limit") && !errors.Is(err, ErrAnswerTooLarge) {
					t.Errorf("got %v", err)
				}
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("waited for %v", err)
				}
			})
		})
	}
}

func TestAnAnswerInChunksIsRead(t *testing.T) {
	bothWays(t, func(t *testing.T, options ...Option) {
		c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := (&InferResponse{Outputs: []Tensor{FromSlice(make([]float64, 100_000))}}).MarshalBinary()
			for len(b) > 0 {
				n := min(len(b), 10_000)
				w.Write(b[:n])
				w.(http.Flusher).Flush()
				b = b[n:]
			}
		}), options...)
		for range 2 {
			output, err := c.Execute(context.Background(), Scalar(1.0))
			if err != nil || len(output.Data) != 800_000 {
				t.Errorf("got %d bytes, %v", len(output.Data), err)
			}
		}
	})
}

func TestADeadlineEndsACallWhereverItIs(t *testing.T) {
	for name, serve := range map[string]func(conn net.Conn, in *bufio.Reader){
		"server reads nothing":     func(net.Conn, *bufio.Reader) {},
		"server answers nothing":   func(_ net.Conn, in *bufio.Reader) { readRequest(in) },
		"server stops in the head": func(c net.Conn, in *bufio.Reader) { readRequest(in); io.WriteString(c, "HTTP/1.1 2") },
		"server stops in the body": func(c net.Conn, in *bufio.Reader) {
			readRequest(in)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
		},
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, options ...Option) {
				hang := make(chan struct{})
				url, _ := rawReply(t, func(_ int, conn net.Conn, in *bufio.Reader) {
					serve(conn, in)
					<-hang
				})
				t.Cleanup(func() { close(hang) }) // before the server waits for its connections
				large := &InferRequest{Inputs: []Tensor{FromSlice(make([]float32, 8<<20))}}

				c := newClient(t, url, append(options, WithTimeout(0))...)
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				defer cancel()
				if _, err := c.Infer(ctx, large); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("context's deadline: %v", err)
				}

				ctx, cancel = context.WithCancel(context.Background())
				time.AfterFunc(100*time.Millisecond, cancel)
				if _, err := c.Infer(ctx, large); !errors.Is(err, context.Canceled) {
					t.Errorf("cancelled: %v", err)
				}

				c = newClient(t, url, append(options, WithTimeout(100*time.Millisecond))...)
				if _, err := c.Infer(context.Background(), large); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("client's timeout: %v", err)
				}
			})
		})
	}
}

func TestARefusalBeforeTheRequestWasReadIsUnderstood(t *testing.T) {
	bothWays(t, func(t *testing.T, options ...Option) {
		url, _ := rawReply(t, func(_ int, conn net.Conn, in *bufio.Reader) {
			readHead(in)
			io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhuge")
			time.Sleep(300 * time.Millisecond) // a server that lingers, so that its words are not lost
		})
		c := newClient(t, url, options...)
		_, err := c.Execute(context.Background(), FromSlice(make([]float32, 8<<20)))
		var refused *Error
		if !errors.As(err, &refused) || refused.Code != CodeTooLarge || refused.Message != "huge" {
			t.Errorf("got %v", err)
		}
	})
}

func TestAddressesAndHeadersThatCannotBeUsedAreRefused(t *testing.T) {
	for _, url := range []string{"", "localhost:9000", "ftp://host/", "http://", "unix:", "http://host:port/", "unix::/models/x"} {
		if _, err := New(url); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
	for key, value := range map[string]string{"X": "a\r\nEvil: 1", "a b": "", "": "", "content-length": "3", "Transfer-Encoding": "chunked", "Host": "x", "Connection": "close"} {
		if _, err := New("http://host", WithHeader(key, value)); err == nil {
			t.Errorf("the header %q: %q was accepted", key, value)
		}
	}
	if _, err := New("unix:/p.sock", WithHTTPClient(http.DefaultClient)); err == nil {
		t.Error("a Unix socket with an http.Client was accepted")
	}
}

func TestNoRequestIsRefused(t *testing.T) {
	c := clientOf(t, Handler(echo{}))
	if _, err := c.Infer(context.Background(), nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestNothingListeningIsNoAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	bothWays(t, func(t *testing.T, options ...Option) {
		_, err = newClient(t, "http://"+listener.Addr().String(), options...).Metadata(context.Background())
		var refused *Error
		if err == nil || errors.As(err, &refused) {
			t.Errorf("got %v", err)
		}
	})
}
