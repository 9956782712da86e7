package graphpipe

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// heads serves echo and keeps the last request's head.
func heads(t *testing.T) (url string, last *http.Header) {
	last = new(http.Header)
	inner := Handler(echo{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*last = r.Header.Clone()
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, last
}

func TestOwnHeadersAreSentOnceEach(t *testing.T) {
	url, last := heads(t)
	bothWays(t, func(t *testing.T, options ...Option) {
		options = append(options, WithHeader("user-agent", "mine"), WithHeader("X-Team", "a"), WithAPIKey("k"))
		c := newClient(t, url, options...)
		ctx := ContextWithHeader(ContextWithHeader(context.Background(), "traceparent", "00-1-2-01"), "X-Team", "b")
		for _, call := range []struct {
			ctx  context.Context
			want map[string]string
		}{
			{ctx, map[string]string{"Traceparent": "00-1-2-01", "X-Team": "b", "User-Agent": "mine", "Authorization": "Bearer k"}},
			{context.Background(), map[string]string{"Traceparent": "", "X-Team": "a", "User-Agent": "mine", "Authorization": "Bearer k"}},
		} {
			if _, err := c.Execute(call.ctx, Scalar(1.0)); err != nil {
				t.Fatal(err)
			}
			for key, want := range call.want {
				if got := strings.Join(last.Values(key), "|"); got != want {
					t.Errorf("%s: %q", key, got)
				}
			}
		}
	})
}

func TestALoginInTheURLBecomesBasicAndIsNeverTold(t *testing.T) {
	url, last := heads(t)
	c := newClient(t, strings.Replace(url, "http://", "http://ada:s3cret@", 1))
	if _, err := c.Execute(context.Background(), Scalar(1.0)); err != nil {
		t.Fatal(err)
	}
	if got := last.Get("Authorization"); got != "Basic YWRhOnMzY3JldA==" {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"http://ada:s3cret@host:s3cret", "ftp://ada:s3cret@host", "http://ada:s3cret@h%zz", "http://ada:s3cret@host\n"} {
		if _, err := New(bad); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Error(err)
		}
		if _, err := New("http://models.invalid", WithProxy(bad)); err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Error(err)
		}
	}
	c = newClient(t, "http://ada:s3cret@127.0.0.1:1")
	if _, err := c.Execute(context.Background(), Scalar(1.0)); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}

func TestHeadersThatFrameAMessageAreRefused(t *testing.T) {
	url, _ := heads(t)
	for key, value := range map[string]string{
		"Content-Length": "5", "transfer-encoding": "chunked", "Host": "x", "X": "a\r\nb: c", "a b": "c", "": "d", "a:b": "c",
	} {
		if _, err := New(url, WithHeader(key, value)); err == nil {
			t.Errorf("%q: %q was taken", key, value)
		}
		_, err := newClient(t, url).Execute(ContextWithHeader(context.Background(), key, value), Scalar(1.0))
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %q: %v", key, value, err)
		}
	}
}

func TestProxiesAreUsedWhereTheyAreNamed(t *testing.T) {
	var asked string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		Handler(echo{}).ServeHTTP(w, r)
	}))
	defer proxy.Close()
	c := newClient(t, "http://models.invalid/models/echo", WithProxy(proxy.URL))
	if _, err := c.Execute(context.Background(), Scalar(1.0)); err != nil || asked != "http://models.invalid/models/echo" {
		t.Error(asked, err)
	}
	if _, err := New("http://127.0.0.1:9000", WithProxy("")); err != nil {
		t.Error(err)
	}
}

func TestRefusalsSayWhenToTryAgainAndWhoSpoke(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		header map[string]string
		body   string
		want   Error
	}{
		{"seconds", 503, map[string]string{"Retry-After": "7"}, "busy", Error{6, 503, "busy", 7 * time.Second}},
		{"a date", 503, map[string]string{
			"Retry-After": "Thu, 26 Nov 2026 10:00:09 GMT", "Date": "Thu, 26 Nov 2026 10:00:00 GMT",
		}, "busy", Error{6, 503, "busy", 9 * time.Second}},
		{"his own limit", 429, map[string]string{"Retry-After": "7"}, "slowly", Error{6, 429, "slowly", 7 * time.Second}},
		{"nonsense", 429, map[string]string{"Retry-After": "-3"}, "busy", Error{6, 429, "busy", 0}},
		{"ages", 503, map[string]string{"Retry-After": "4000000000"}, "busy", Error{6, 503, "busy", 24 * time.Hour}},
		{"nginx", 413, map[string]string{"Server": "nginx/1.22", "Content-Type": "text/html"}, "<html>", Error{
			5, 413, "nginx answered 413: is its client_max_body_size too small?", 0,
		}},
		{"another proxy", 502, map[string]string{"Content-Type": "text/html; charset=utf-8"}, "<html>", Error{
			12, 502, "something in between answered 502 Bad Gateway", 0,
		}},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for key, value := range c.header {
				w.Header().Set(key, value)
			}
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		}))
		_, err := newClient(t, server.URL).Execute(context.Background(), Scalar(1.0))
		var refused *Error
		if !errors.As(err, &refused) || *refused != c.want {
			t.Errorf("%s: %+v", c.name, refused)
		}
		if !errors.Is(err, c.want.Code) || SafeToRetry(err) != (c.want.Code == CodeOverloaded) {
			t.Errorf("%s: %v is not its code, or its retry is misjudged", c.name, err)
		}
		server.Close()
	}
}
