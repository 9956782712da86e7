package graphpipe

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

const (
	// Memory for a body starts at this size, or at its length if that is less, and grows by this factor as bytes come: whoever
	// only promises much has little.
	firstRoom = 1 << 20
	growth    = 8
)

var errNoRoom = errors.New("no room")

// room is what one request has of the memory that all requests share.
type room struct {
	taken *atomic.Int64
	most  int64
	own   int64
}

// take asks for n bytes more.
func (r *room) take(n int64) error {
	if r.taken.Add(n) > r.most {
		r.taken.Add(-n)
		return errNoRoom
	}
	r.own += n
	return nil
}

// leave gives all of it back.
func (r *room) leave() {
	r.taken.Add(-r.own)
	r.own = 0
}

// grow reads a body into memory that grows with what comes. Its length is -1 if unknown. A body over the limit gives
// errTooLong, before anything is read if the length is known.
func grow(body io.Reader, length, limit int64, room *room) ([]byte, error) {
	if length > limit {
		return nil, errTooLong
	}
	longest := limit + 1 // one more than is allowed, to see that there is more
	if length >= 0 {
		longest = length
	}
	var all []byte
	for size := min(firstRoom, longest); ; size = min(growth*size, longest) {
		if err := room.take(size - int64(len(all))); err != nil {
			return nil, err
		}
		larger := make([]byte, size)
		have := copy(larger, all)
		all = larger
		n, err := io.ReadFull(body, all[have:])
		have += n
		switch ended := err == io.EOF || err == io.ErrUnexpectedEOF; {
		case ended && length < 0:
			return all[:have], nil
		case err != nil && size > 0:
			return nil, fmt.Errorf("body broke off at %d bytes: %w", have, err)
		case length >= 0 && size == length:
			return all, nil
		case size == longest:
			return nil, errTooLong
		}
	}
}
