package graphpipe

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"unsafe"
)

// segment is memory behind a descriptor, by which a server on the same host can be shown it. It is given back when the last who
// holds it has left it; whoever makes one holds it.
type segment struct {
	data []byte
	fd   int

	mu      sync.Mutex
	holders int
	spent   atomic.Bool // a server may look at it, or write to it, long after the call
}

// hold keeps the segment from being given back, unless it has been.
func (s *segment) hold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holders == 0 {
		return false
	}
	s.holders++
	return true
}

func (s *segment) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holders--; s.holders == 0 {
		unmap(s)
	}
}

// offsetOf says where in the segment the bytes lie, if all of them do.
func (s *segment) offsetOf(b []byte) (int64, bool) {
	first, start := addressOf(b), addressOf(s.data)
	if first < start || first-start > uintptr(len(s.data)) || uintptr(len(b)) > uintptr(len(s.data))-(first-start) {
		return 0, false
	}
	return int64(first - start), true
}

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// segmentSet finds segments by the bytes that lie in them.
type segmentSet struct {
	mu  sync.RWMutex
	all []*segment // by address
}

func (m *segmentSet) add(s *segment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = slices.Insert(m.all, m.behind(addressOf(s.data)), s)
}

func (m *segmentSet) remove(s *segment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.behind(addressOf(s.data))
	m.all = slices.Delete(m.all, at-1, at)
}

// behind is the place of the first segment that starts behind an address.
func (m *segmentSet) behind(address uintptr) int {
	return sort.Search(len(m.all), func(i int) bool { return addressOf(m.all[i].data) > address })
}

// find returns the segment in which the bytes lie, held, and where. It is nil if there is none that can be shown.
func (m *segmentSet) find(b []byte) (*segment, int64) {
	if len(b) == 0 {
		return nil, 0
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	at := m.behind(addressOf(b)) - 1
	if at < 0 {
		return nil, 0
	}
	s := m.all[at]
	offset, inside := s.offsetOf(b)
	if !inside || s.spent.Load() || !s.hold() {
		return nil, 0
	}
	return s, offset
}

// isSpent says whether the bytes lie in a segment that a server may still write to.
func (m *segmentSet) isSpent(b []byte) bool {
	if cap(b) == 0 {
		return false
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	at := m.behind(addressOf(b)) - 1
	if at < 0 {
		return false
	}
	_, inside := m.all[at].offsetOf(b[:cap(b)])
	return inside && m.all[at].spent.Load()
}

// Alloc returns n elements, all 0, in memory that the client's server can be shown where both are on one host: tensors that
// [FromSlice] makes of it, and answers that [Client.InferInto] receives into it, are then not copied on their way. It is ordinary
// memory, for which the same code works, where the client's URL is not unix:, where the system has no such memory (Linux has),
// and where none is left.
//
// The garbage collector does not see it: call free when nobody uses the elements any more. To use them afterwards ends the
// program. A server that gave no answer in time may still write to the buffer that it was shown for one: no answer is received
// into that again.
func Alloc[T Element](c *Client, n int) (values []T, free func()) {
	size := int(unsafe.Sizeof(*new(T)))
	if c.sameHost == nil || n <= 0 || n > messageMax/size {
		return make([]T, max(n, 0)), func() {}
	}
	s, err := newSegment(n * size)
	if err != nil {
		return make([]T, n), func() {}
	}
	known := &c.sameHost.allocated
	known.add(s)
	free = sync.OnceFunc(func() {
		known.remove(s)
		s.leave()
	})
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(s.data))), n), free
}
