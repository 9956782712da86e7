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

// allocated has what [Alloc] gave out, by address.
var allocated struct {
	sync.RWMutex
	segments []*segment
}

// Alloc returns n elements, all 0, in memory that a server on the same host can be shown: tensors made of it by [FromSlice], and
// answers that [Client.InferInto] receives into it, are not copied on the way to and from a server behind a unix: URL. On systems
// without such memory (there is some on Linux), and where none is left, it is ordinary memory, for which the same code works.
//
// The garbage collector does not see it: call free when nobody uses the elements any more. To use them afterwards ends the
// program.
func Alloc[T Element](n int) (values []T, free func()) {
	size := int(unsafe.Sizeof(*new(T)))
	if n <= 0 || n > messageMax/size {
		return make([]T, max(n, 0)), func() {}
	}
	s, err := newSegment(n * size)
	if err != nil {
		return make([]T, n), func() {}
	}
	enter(s)
	free = sync.OnceFunc(func() {
		remove(s)
		s.leave()
	})
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(s.data))), n), free
}

func enter(s *segment) {
	allocated.Lock()
	defer allocated.Unlock()
	at := firstBehind(addressOf(s.data))
	allocated.segments = slices.Insert(allocated.segments, at, s)
}

func remove(s *segment) {
	allocated.Lock()
	defer allocated.Unlock()
	at := firstBehind(addressOf(s.data)) - 1
	allocated.segments = slices.Delete(allocated.segments, at, at+1)
}

// firstBehind is the place of the first segment that starts behind an address.
func firstBehind(address uintptr) int {
	return sort.Search(len(allocated.segments), func(i int) bool { return addressOf(allocated.segments[i].data) > address })
}

// segmentOf returns the segment in which the bytes lie, held, and where. It is nil if there is none that can be shown.
func segmentOf(b []byte) (*segment, int64) {
	if len(b) == 0 {
		return nil, 0
	}
	allocated.RLock()
	defer allocated.RUnlock()
	at := firstBehind(addressOf(b)) - 1
	if at < 0 {
		return nil, 0
	}
	s := allocated.segments[at]
	offset, inside := s.offsetOf(b)
	if !inside || s.spent.Load() || !s.hold() {
		return nil, 0
	}
	return s, offset
}
