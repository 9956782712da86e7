package graphpipe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAKeptConnectionThatTheServerClosedIsReplaced(t *testing.T) {
	bothWays(t, func(t *testing.T, options ...Option) {
		answer := goodAnswer(t)
		url, connections := rawReply(t, func(_ int, conn net.Conn, in *bufio.Reader) {
			if readRequest(in) == nil {
				io.WriteString(conn, answer)
			}
		})
		c := newClient(t, url, options...)
		for i := range 3 {
			if _, err := c.Infer(context.Background(), smallRequest()); err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
			time.Sleep(20 * time.Millisecond) // for the server's farewell to arrive
		}
		if connections.Load() != 3 {
			t.Errorf("%d connections", connections.Load())
		}
	})
}

func TestARequestHalfWrittenToAKeptConnectionIsSentAgainOnce(t *testing.T) {
	answer := goodAnswer(t)
	url, connections := rawReply(t, func(n int, conn net.Conn, in *bufio.Reader) {
		if n == 1 {
			readRequest(in)
			io.WriteString(conn, answer)
			readHead(in) // takes the second call's head and closes on the body that is still coming
			conn.(*net.TCPConn).SetLinger(0)
			return
		}
		if readRequest(in) == nil {
			io.WriteString(conn, answer)
		}
	})
	c := newClient(t, url)
	if _, err := c.Infer(context.Background(), smallRequest()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Infer(context.Background(), &InferRequest{Inputs: []Tensor{FromSlice(make([]float32, 8<<20))}}); err != nil {
		t.Fatal(err)
	}
	if connections.Load() != 2 {
		t.Errorf("%d connections", connections.Load())
	}
}

func TestARequestThatAServerHadIsNeverSentAgain(t *testing.T) {
	bothWays(t, func(t *testing.T, options ...Option) {
		answer := goodAnswer(t)
		var had atomic.Int32
		url, _ := rawReply(t, func(_ int, conn net.Conn, in *bufio.Reader) {
			readRequest(in)
			had.Add(1)
			io.WriteString(conn, answer)
			if readRequest(in) == nil {
				had.Add(1) // and dies of it, on a connection that had been used before
			}
		})
		c := newClient(t, url, options...)
		if _, err := c.Infer(context.Background(), smallRequest()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Infer(context.Background(), smallRequest()); err == nil {
			t.Error("no error")
		}
		if had.Load() != 2 {
			t.Errorf("the server had %d requests", had.Load())
		}
	})
}

func TestAFirstConnectionThatBreaksIsNotTriedAgain(t *testing.T) {
	url, connections := rawReply(t, func(_ int, conn net.Conn, in *bufio.Reader) { readHead(in) })
	c := newClient(t, url)
	if _, err := c.Infer(context.Background(), &InferRequest{Inputs: []Tensor{FromSlice(make([]float32, 8<<20))}}); err == nil {
		t.Error("no error")
	}
	if connections.Load() != 1 {
		t.Errorf("%d connections", connections.Load())
	}
}

func TestARequestIsNotSentAgainBecauseOfWhatALastAnswerSaid(t *testing.T) {
	bothWays(t, func(t *testing.T, options ...Option) {
		answer := goodAnswer(t)
		closing := strings.Replace(answer, "\r\n", "\r\nConnection: close\r\n", 1)
		var had atomic.Int32
		url, _ := rawReply(t, func(n int, conn net.Conn, in *bufio.Reader) {
			for i := 0; readRequest(in) == nil; i++ {
				had.Add(1)
				switch {
				case n > 1:
					return // dies of it: the model has run
				case i == 0:
					io.WriteString(conn, answer)
				default:
					io.WriteString(conn, closing) // this connection is too old, says a proxy
					return
				}
			}
		})
		c := newClient(t, url, options...)
		for range 2 {
			if _, err := c.Infer(context.Background(), smallRequest()); err != nil {
				t.Fatal(err)
			}
		}
		_, err := c.Infer(context.Background(), smallRequest())
		if err == nil || SafeToRetry(err) || had.Load() != 3 {
			t.Errorf("%v after %d requests, of which the last was to be sent once", err, had.Load())
		}
	})
}

func TestAnAnswerWithMoreBehindItEndsItsConnection(t *testing.T) {
	answer := goodAnswer(t)
	url, connections := rawReply(t, func(_ int, conn net.Conn, in *bufio.Reader) {
		for readRequest(in) == nil {
			io.WriteString(conn, answer+"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
		}
	})
	c := newClient(t, url)
	for range 3 {
		outputs, err := c.Infer(context.Background(), smallRequest())
		if err != nil || len(outputs) != 1 {
			t.Fatal(outputs, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if connections.Load() != 3 {
		t.Errorf("%d connections", connections.Load())
	}
}

func TestInformationalAnswersAreSkipped(t *testing.T) {
	answer := goodAnswer(t)
	url, _ := rawReply(t, func(_ int, conn net.Conn, in *bufio.Reader) {
		readRequest(in)
		io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"+answer)
	})
	if _, err := newClient(t, url).Infer(context.Background(), smallRequest()); err != nil {
		t.Error(err)
	}
}

func TestNobodyReadsTheRequestAfterTheCall(t *testing.T) {
	bothWays(t, func(t *testing.T, options ...Option) {
		url, _ := rawReply(t, func(_ int, conn net.Conn, in *bufio.Reader) {
			readHead(in)
			io.WriteString(conn, "HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			io.Copy(io.Discard, in)
		})
		c := newClient(t, url, options...)
		values := make([]float32, 8<<20)
		for range 5 {
			if _, err := c.Execute(context.Background(), FromSlice(values)); err == nil {
				t.Fatal("no error")
			}
			for i := 0; i < len(values); i += 1024 {
				values[i]++ // the race detector watches
			}
		}
	})
}

func TestUnixSocketsAreServed(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "p.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var path atomic.Value
	inner := Handler(echo{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path.Store(r.URL.Path)
		inner.ServeHTTP(w, r)
	})}
	go server.Serve(listener)
	defer server.Close()
	for url, want := range map[string]string{"unix:" + socket: "/", "unix:" + socket + ":/models/echo": "/models/echo"} {
		c := newClient(t, url)
		for _, n := range []int{1, 1 << 20} {
			if _, err := c.Execute(context.Background(), FromSlice(make([]float32, n))); err != nil {
				t.Fatal(err)
			}
		}
		if path.Load() != want {
			t.Errorf("%s came to %s", url, path.Load())
		}
	}
}

func TestHTTPSIsServed(t *testing.T) {
	server := httptest.NewUnstartedServer(Handler(echo{}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the refused handshake is no news
	server.StartTLS()
	defer server.Close()
	c := newClient(t, server.URL)
	if _, err := c.Execute(context.Background(), Scalar(1.0)); err == nil {
		t.Error("a certificate that nobody signed was accepted")
	}
	roots := server.Client().Transport.(*http.Transport).TLSClientConfig
	c = newClient(t, server.URL, WithTLSConfig(roots))
	for _, n := range []int{1, 1 << 20, 1} {
		if _, err := c.Execute(context.Background(), FromSlice(make([]float32, n))); err != nil {
			t.Error(err)
		}
	}
	if idle := len(c.way.(*pool).idle); idle != 1 {
		t.Errorf("%d connections were kept", idle)
	}
	c = newClient(t, server.URL, WithHTTPClient(server.Client()))
	if _, err := c.Execute(context.Background(), Scalar(1.0)); err != nil {
		t.Error(err)
	}
}

func TestIdleConnectionsAreSweptAway(t *testing.T) {
	c := clientOf(t, Handler(echo{}))
	if _, err := c.Execute(context.Background(), Scalar(1.0)); err != nil {
		t.Fatal(err)
	}
	p := c.way.(*pool)
	p.idle[0].since = time.Now().Add(-2 * idleMax)
	p.sweep()
	if len(p.idle) != 0 || p.sweeper != nil {
		t.Error("an old connection was kept")
	}
	if _, err := c.Execute(context.Background(), Scalar(1.0)); err != nil {
		t.Fatal(err)
	}
}

func TestACallAfterCloseIsAnError(t *testing.T) {
	bothWays(t, func(t *testing.T, options ...Option) {
		c := clientOf(t, Handler(echo{}), options...)
		if _, err := c.Execute(context.Background(), Scalar(1.0)); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if _, err := c.Execute(context.Background(), Scalar(1.0)); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		c.Close()
	})
}

func TestAThousandClientsLeaveNothingBehind(t *testing.T) {
	server := httptest.NewTLSServer(Handler(echo{}))
	defer server.Close()
	plain := httptest.NewServer(Handler(echo{}))
	defer plain.Close()
	trusting := WithTLSConfig(server.Client().Transport.(*http.Transport).TLSClientConfig)
	use := func(url string, options ...Option) {
		c, err := New(url, options...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Execute(context.Background(), Scalar(1.0)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	use(plain.URL)
	before := runtime.NumGoroutine()
	for i := range 1000 {
		if i%4 == 0 {
			use(server.URL, trusting)
		} else {
			use(plain.URL)
		}
	}
	server.CloseClientConnections() // of the server's own goroutines none is to be counted
	plain.CloseClientConnections()
	for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before+2; {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, before there were %d: %s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	var open, most atomic.Int32
	server := httptest.NewUnstartedServer(Handler(failing{func(context.Context) ([]Tensor, error) {
		time.Sleep(5 * time.Millisecond)
		return nil, nil
	}}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			most.Store(max(most.Load(), open.Add(1)))
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.Start()
	defer server.Close()
	c := newClient(t, server.URL, WithConnectionsMax(3))
	var group sync.WaitGroup
	for range 30 {
		group.Add(1)
		go func() {
			defer group.Done()
			if _, err := c.Infer(context.Background(), smallRequest()); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
	if most.Load() > 3 {
		t.Errorf("%d connections at once", most.Load())
	}
	c.way.(*pool).open <- struct{}{}
	c.way.(*pool).open <- struct{}{}
	c.way.(*pool).open <- struct{}{}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Infer(ctx, smallRequest()); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestNoConnectionIsSafeToRetry(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	bothWays(t, func(t *testing.T, options ...Option) {
		c := newClient(t, "http://"+listener.Addr().String(), options...)
		if _, err := c.Infer(context.Background(), smallRequest()); !errors.Is(err, ErrUnreachable) || !SafeToRetry(err) {
			t.Error(err)
		}
	})
}

func TestATraceIsToldWhatHappens(t *testing.T) {
	c := clientOf(t, Handler(echo{}))
	var told []string
	trace := &httptrace.ClientTrace{
		GetConn:              func(string) { told = append(told, "get") },
		ConnectDone:          func(string, string, error) { told = append(told, "connected") },
		GotConn:              func(i httptrace.GotConnInfo) { told = append(told, fmt.Sprint("got ", i.Reused)) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { told = append(told, "wrote") },
		GotFirstResponseByte: func() { told = append(told, "first byte") },
		PutIdleConn:          func(error) { told = append(told, "idle") },
	}
	for range 2 {
		if _, err := c.Infer(httptrace.WithClientTrace(context.Background(), trace), smallRequest()); err != nil {
			t.Fatal(err)
		}
	}
	want := "get connected got false wrote first byte idle get got true wrote first byte idle"
	if got := strings.Join(told, " "); got != want {
		t.Errorf("told %s", got)
	}
}
