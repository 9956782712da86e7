package graphpipe

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
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

func TestARequestToADrainingServerIsSentAgainOnce(t *testing.T) {
	answer := goodAnswer(t)
	closing := strings.Replace(answer, "\r\n", "\r\nConnection: close\r\n", 1)
	url, connections := rawReply(t, func(n int, conn net.Conn, in *bufio.Reader) {
		readRequest(in)
		switch n {
		case 1: // keeps connections, and then announces that it will not
			io.WriteString(conn, answer)
			readRequest(in)
			io.WriteString(conn, closing)
		case 2: // answers nothing
		default: // the next server on this port
			io.WriteString(conn, answer)
		}
	})
	c := newClient(t, url)
	for i := range 3 {
		if _, err := c.Infer(context.Background(), smallRequest()); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if connections.Load() != 3 {
		t.Errorf("%d connections", connections.Load())
	}
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
	c.way.(*pool).tls.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
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
	if len(p.idle) != 0 || p.sweeping {
		t.Error("an old connection was kept")
	}
	if _, err := c.Execute(context.Background(), Scalar(1.0)); err != nil {
		t.Fatal(err)
	}
}
