package graphpipe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	memoryProtocol     = "graphpipe-memory/1"
	memoryHeader       = "Graphpipe-Memory" // as net/http spells their keys
	memoryAnswerHeader = "Graphpipe-Memory-Answer"
	memoryKeptHeader   = "Graphpipe-Memory-Kept"
	memoryRefused      = "refused"

	shownFrom      = 256 << 10 // bytes of all tensors of numbers together; fewer are as quick in the message
	shownEach      = 16 << 10
	shownMax       = 64       // tensors
	roomFrom       = 64 << 10 // bytes of an output
	descriptorsMax = 16
	placeAlign     = 64
	answerKindsMax = 256

	askingMax  = 5 * time.Second  // how long a server may think whether it looks at memory
	askedAgain = 60 * time.Second // after it said no
)

// errAsBytes says that nothing has run, and that the call has to go as bytes.
var errAsBytes = errors.New("the server does not look at memory")

// sameHost makes calls to a server on the same host, which is shown the memory that tensors lie in. docs/wire.md has the rules,
// "Memory on the same host". Segments are ours: one goes with a request and comes back with its answer, or never.
type sameHost struct {
	pool           *pool // of connections on which the server looks for descriptors
	segments       segmentPool
	allocated      segmentSet // by [Alloc]; no other server is shown it, for this one may look at it at any time
	answerBytesMax int64

	mu           sync.Mutex
	refusedUntil time.Time
	rooms        map[string]int // what the large outputs of a kind of call took last time
}

func newSameHost(bytes *pool, o *options, answerBytesMax int64) *sameHost {
	s := &sameHost{pool: newPool(bytes.at, o), answerBytesMax: answerBytesMax, rooms: map[string]int{}}
	s.pool.open = bytes.open // connections of both kinds count together
	s.pool.agree = s.agree
	return s
}

func (s *sameHost) close() {
	s.pool.close()
	s.segments.close()
}

// fits says whether a request is worth it.
func (s *sameHost) fits(req *InferRequest) bool {
	total := 0
	for i := range req.Inputs {
		total += len(req.Inputs[i].Data)
	}
	if total < shownFrom {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusedUntil.IsZero() || time.Now().After(s.refusedUntil)
}

func (s *sameHost) refused() error {
	s.mu.Lock()
	s.refusedUntil = time.Now().Add(askedAgain)
	s.mu.Unlock()
	return errAsBytes
}

// infer is [Client.InferInto] by memory. errAsBytes is its error where it has to go another way.
func (s *sameHost) infer(ctx context.Context, req *InferRequest, buf []byte) (resp *InferResponse, answer []byte, err error) {
	var shown *showing
	pack := func() (parcel, error) {
		if shown == nil {
			if shown = s.lend(req, buf); shown == nil {
				return parcel{}, errAsBytes
			}
		}
		return shown.parcel()
	}
	read := func(reply *http.Response) error {
		if err := shown.keep(reply.Header); err != nil {
			return err
		}
		if reply.StatusCode != http.StatusOK {
			if reply.Header.Get(memoryHeader) == memoryRefused {
				return s.refused()
			}
			return refusal(reply)
		}
		resp, answer, err = shown.read(reply, buf)
		return err
	}
	if err = s.pool.send(ctx, pack, read); mayRepeat(err) {
		err = s.pool.send(ctx, pack, read)
	}
	if shown != nil {
		var refused *Error
		shown.end(err == nil || errors.As(err, &refused) || errors.Is(err, errAsBytes))
	}
	if err != nil {
		return nil, buf, err
	}
	s.learn(req, resp)
	return resp, answer, nil
}

// agree asks the server whether it looks at memory on this connection.
func (s *sameHost) agree(ctx context.Context, c *connection) error {
	asking, cancel := context.WithTimeout(ctx, askingMax)
	defer cancel()
	stop := context.AfterFunc(asking, func() { c.SetDeadline(time.Unix(1, 0)) })
	_, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", s.pool.at.url.Host, memoryProtocol)
	var resp *http.Response
	if err == nil {
		c.limited.left = headBytesMax
		resp, err = http.ReadResponse(c.in, nil)
		c.limited.left, c.limited.any = -1, false
	}
	inTime := stop()
	if err == nil && inTime && resp.StatusCode == http.StatusSwitchingProtocols &&
		strings.EqualFold(resp.Header.Get("Upgrade"), memoryProtocol) && c.in.Buffered() == 0 {
		return nil
	}
	c.Close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.refused()
}

// learn takes note of what such a call was answered with: the next one brings room for it.
func (s *sameHost) learn(req *InferRequest, resp *InferResponse) {
	room := 0
	for i := range resp.Outputs {
		if n := len(resp.Outputs[i].Data); n >= roomFrom {
			room += aligned(n)
		}
	}
	kind := kindOf(req)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rooms[kind] == room {
		return
	}
	if len(s.rooms) >= answerKindsMax {
		clear(s.rooms)
	}
	s.rooms[kind] = room
}

func (s *sameHost) roomFor(req *InferRequest) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms[kindOf(req)]
}

// kindOf is the same for calls whose answers have the same size, mostly.
func kindOf(req *InferRequest) string {
	var key []byte
	for _, names := range [][]string{{req.Config}, req.InputNames, req.OutputNames} {
		for _, name := range names {
			key = append(binary.AppendUvarint(key, uint64(len(name))+1), name...)
		}
		key = append(key, 0)
	}
	for i := range req.Inputs {
		key = append(key, uint8(req.Inputs[i].Type), uint8(len(req.Inputs[i].Shape)))
		for _, d := range req.Inputs[i].Shape {
			key = binary.AppendVarint(key, d)
		}
	}
	return string(key)
}
