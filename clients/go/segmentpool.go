package graphpipe

import (
	"math/bits"
	"slices"
	"sync"
	"time"
)

const (
	segmentStep      = 64 << 10
	idleSegmentBytes = 256 << 20
)

// segmentPool has the segments of one client that no call uses. Making one costs much more than using one again: its pages are
// touched for the first time.
type segmentPool struct {
	mu       sync.Mutex
	idle     []*idleSegment // the one used last comes last
	bytes    int
	sweeper  *time.Timer // runs while there are idle ones
	isClosed bool
}

type idleSegment struct {
	*segment
	since time.Time
}

// take returns a segment of at least so many bytes, with anything in it, or nil where there is none to be had.
func (p *segmentPool) take(size int) *segment {
	size = sizeClass(size)
	p.mu.Lock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		if s := p.idle[i].segment; len(s.data) == size {
			p.idle = slices.Delete(p.idle, i, i+1)
			p.bytes -= size
			p.mu.Unlock()
			return s
		}
	}
	p.mu.Unlock()
	s, err := newSegment(size)
	if err != nil {
		return nil
	}
	return s
}

// put takes back a segment that nobody looks at any more.
func (p *segmentPool) put(s *segment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed || s.spent.Load() || len(s.data) > idleSegmentBytes {
		s.leave()
		return
	}
	p.idle = append(p.idle, &idleSegment{s, time.Now()})
	p.bytes += len(s.data)
	for p.bytes > idleSegmentBytes {
		p.dropOldest()
	}
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(idleMax, p.sweep)
	}
}

func (p *segmentPool) dropOldest() {
	s := p.idle[0].segment
	p.idle = slices.Delete(p.idle, 0, 1)
	p.bytes -= len(s.data)
	s.leave()
}

// sweep gives back what nobody took for long.
func (p *segmentPool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 && time.Since(p.idle[0].since) >= idleMax {
		p.dropOldest()
	}
	p.sweeper = nil
	if len(p.idle) > 0 {
		p.sweeper = time.AfterFunc(idleMax, p.sweep)
	}
}

func (p *segmentPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		p.dropOldest()
	}
	p.isClosed = true
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
}

// sizeClass is the segment for so many bytes: four classes to each power of two, so at most a quarter is left over.
func sizeClass(size int) int {
	step := max(segmentStep, 1<<max(bits.Len(uint(size-1))-3, 0))
	return (size + step - 1) / step * step
}
