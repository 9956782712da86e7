package graphpipe

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// target is where the requests of a client go.
type target struct {
	url    *url.URL
	socket string // of a unix: URL
}

// parseTarget reads http://host:9000/models/NAME, https://..., unix:/p.sock or unix:/p.sock:/models/NAME.
func parseTarget(raw string) (target, error) {
	if rest, ok := strings.CutPrefix(raw, "unix:"); ok {
		socket, path, found := strings.Cut(rest, ":/")
		if socket == "" {
			return target{}, fmt.Errorf("graphpipe: URL %q names no socket; expected unix:/path/to.sock or unix:/path/to.sock:/models/NAME", raw)
		}
		if found {
			path = "/" + path
		}
		u, err := url.Parse("http://localhost" + path)
		if err != nil {
			return target{}, fmt.Errorf("graphpipe: URL %q: %w", raw, err)
		}
		return target{u, socket}, nil
	}
	u, err := parseURL(raw)
	if err != nil {
		return target{}, err
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return target{}, fmt.Errorf("graphpipe: URL %q is not one of http://host:port/path, https://host:port/path and unix:/path/to.sock", u.Redacted())
	}
	return target{url: u}, nil
}

// parseURL is [url.Parse] whose error does not say the URL, since a login may be in it.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if err != nil {
		return nil, fmt.Errorf("graphpipe: the URL cannot be read: %w", withoutLogin(err))
	}
	return u, nil
}

// withoutLogin keeps of an error what is surely no part of a URL: some of net/url's quote what they stumbled over.
func withoutLogin(err error) error {
	words, _, quotes := strings.Cut(err.Error(), "\"")
	if quotes {
		return errors.New(strings.TrimSpace(words))
	}
	return err
}

// address is what to dial.
func (t target) address() (network, address string) {
	if t.socket != "" {
		return "unix", t.socket
	}
	port := t.url.Port()
	if port == "" {
		port = t.url.Scheme // net knows the services http and https
	}
	return "tcp", net.JoinHostPort(t.url.Hostname(), port)
}

func (t target) String() string {
	if t.socket != "" {
		return "unix:" + t.socket
	}
	return t.url.Redacted()
}
