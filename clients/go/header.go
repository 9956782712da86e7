package graphpipe

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

type headerKey struct{}

// ContextWithHeader returns a context whose calls send the header, a traceparent for example, in place of the client's of the
// same name.
func ContextWithHeader(ctx context.Context, key, value string) context.Context {
	header := headerOf(ctx).Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set(key, value)
	return context.WithValue(ctx, headerKey{}, header)
}

// headerOf returns the headers of a context's calls, nil where there are none.
func headerOf(ctx context.Context) http.Header {
	header, _ := ctx.Value(headerKey{}).(http.Header)
	return header
}

// merged is the client's header with a call's own in it. Neither is changed.
func merged(client, own http.Header) http.Header {
	all := client.Clone()
	for key, values := range own {
		all[key] = values
	}
	return all
}

// checkHeader refuses what would change where a request ends, or what the answer may look like.
func checkHeader(header http.Header) error {
	for key, values := range header {
		switch key {
		case "Connection", "Content-Encoding", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Connection", "Te",
			"Trailer", "Transfer-Encoding", "Upgrade", timeoutHeader, memoryHeader, memoryAnswerHeader:
			return fmt.Errorf("graphpipe: the header %s cannot be set: the client says it itself", key)
		}
		if key == "" || strings.ContainsFunc(key, func(r rune) bool { return !tokenRune(r) }) {
			return fmt.Errorf("graphpipe: %q cannot be a header's name", key)
		}
		for _, value := range values {
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return fmt.Errorf("graphpipe: the value of header %s has control characters", key)
			}
		}
	}
	return nil
}

// tokenRune says whether a header's name may have the character (RFC 9110, 5.6.2).
func tokenRune(r rune) bool {
	return r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}
