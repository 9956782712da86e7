package graphpipe

import (
	"encoding/binary"
	"unicode/utf8"
)

// writer lays a message out front to back, as FlatBuffers offsets point. Its own bytes grow in one slice; long runs of the
// caller's bytes are only noted, with the place where they belong, and never copied.
//
// Once the message would grow over what 31-bit offsets reach, full is set and nothing long is written any more.
type writer struct {
	own     []byte
	lent    []loan
	lentLen int64
	vtables [layoutCount]int64 // where the vtable of each layout was written, or 0
	full    bool
	text    int   // bytes of names, config and other words so far
	refused error // the first thing that no reader takes
}

func newWriter() *writer { return &writer{own: make([]byte, 0, 512)} }

// loan is a run of the caller's bytes that belongs after own[:at].
type loan struct {
	at    int
	bytes []byte
}

// place is a position that is not yet filled in: its index in own and its position in the message.
type place struct {
	index int
	at    int64
}

// layout is where the fields of a table lie.
type layout uint8

const (
	layoutRequest layout = iota
	layoutInferRequest
	layoutMetadataRequest
	layoutTensor
	layoutStringTensor
	layoutInferResponse
	layoutFailedResponse
	layoutError
	layoutMetadata
	layoutTensorSpec
	layoutCount
)

// layouts gives each table's inline size, its alignment, and the place of each field in the order of the schema; 0: absent.
var layouts = [layoutCount]struct {
	size, align uint16
	fields      []uint16
}{
	layoutRequest:         {12, 4, []uint16{8, 4}},
	layoutInferRequest:    {20, 4, []uint16{4, 8, 12, 16}},
	layoutMetadataRequest: {4, 4, nil},
	layoutTensor:          {16, 4, []uint16{12, 4, 8}},
	layoutStringTensor:    {16, 4, []uint16{12, 4, 0, 8}},
	layoutInferResponse:   {8, 4, []uint16{4}},
	layoutFailedResponse:  {12, 4, []uint16{4, 8}},
	layoutError:           {16, 8, []uint16{8, 4}},
	layoutMetadata:        {28, 4, []uint16{4, 8, 12, 16, 20, 24}},
	layoutTensorSpec:      {20, 4, []uint16{4, 8, 12, 16}},
}

const (
	dataAlign    = 64      // a tensor's first byte lies at a multiple of it
	stringLoanAt = 4 << 10 // bytes from which a string is not copied
)

func (w *writer) at() int64 { return int64(len(w.own)) + w.lentLen }

// pad adds zeros until what follows the next ahead bytes lies at a multiple of n.
func (w *writer) pad(n, ahead int64) {
	for (w.at()+ahead)%n != 0 {
		w.own = append(w.own, 0)
	}
}

// room says whether n bytes and what goes around them still fit.
func (w *writer) room(n int) bool {
	w.full = w.full || w.at()+int64(n)+2*dataAlign > messageMax
	return !w.full
}

func (w *writer) uint32(v int) { w.own = binary.LittleEndian.AppendUint32(w.own, uint32(v)) }

func (w *writer) lend(b []byte) {
	if len(b) > 0 {
		w.lent = append(w.lent, loan{len(w.own), b})
		w.lentLen += int64(len(b))
	}
}

// slot keeps room for an offset.
func (w *writer) slot() place {
	p := place{len(w.own), w.at()}
	w.own = append(w.own, 0, 0, 0, 0)
	return p
}

// point makes the offset in a slot lead to where the writer stands.
func (w *writer) point(p place) {
	binary.LittleEndian.PutUint32(w.own[p.index:], uint32(w.at()-p.at))
}

// table writes a table with empty fields, behind the vtable if it is the first of its layout.
func (w *writer) table(l layout) place {
	lay := &layouts[l]
	if w.vtables[l] == 0 {
		w.pad(2, 0)
		w.vtables[l] = w.at()
		w.own = binary.LittleEndian.AppendUint16(w.own, uint16(4+2*len(lay.fields)))
		w.own = binary.LittleEndian.AppendUint16(w.own, lay.size)
		for _, f := range lay.fields {
			w.own = binary.LittleEndian.AppendUint16(w.own, f)
		}
	}
	w.pad(int64(lay.align), 0)
	p := place{len(w.own), w.at()}
	w.uint32(int(p.at - w.vtables[l]))
	w.own = append(w.own, make([]byte, lay.size-4)...)
	return p
}

// child starts a table that the slot points to.
func (w *writer) child(slot place, l layout) place {
	p := w.table(l)
	binary.LittleEndian.PutUint32(w.own[slot.index:], uint32(p.at-slot.at))
	return p
}

// field returns the slot of the field at an inline place of the table.
func (p place) field(inline int) place { return place{p.index + inline, p.at + int64(inline)} }

func (w *writer) setUint8(p place, v uint8) { w.own[p.index] = v }

func (w *writer) setInt64(p place, v int64) {
	binary.LittleEndian.PutUint64(w.own[p.index:], uint64(v))
}

// word writes a name or another text, with the NUL behind it that readers in C rely on.
func (w *writer) word(slot place, s string) {
	if w.text += len(s); w.text > textMax {
		w.refuse("more than %d bytes of names and other text", textMax)
	} else if !utf8.ValidString(s) {
		w.refuse("the text %.100q is not UTF-8", s)
	}
	if w.refused != nil || !w.room(len(s)) {
		return
	}
	w.pad(4, 0)
	w.point(slot)
	w.uint32(len(s))
	w.own = append(append(w.own, s...), 0)
}

func (w *writer) runs(slot place, all [][]byte) {
	first, ok := w.offsets(slot, len(all))
	for i := 0; ok && i < len(all); i++ {
		w.run(first.field(4*i), all[i])
	}
}

// run is word for bytes of any length and content.
func (w *writer) run(slot place, b []byte) {
	if !w.room(len(b)) {
		return
	}
	w.pad(4, 0)
	w.point(slot)
	w.uint32(len(b))
	if len(b) < stringLoanAt {
		w.own = append(w.own, b...)
	} else {
		w.lend(b)
	}
	w.own = append(w.own, 0)
}

func (w *writer) refuse(format string, args ...any) {
	if w.refused == nil {
		w.refused = invalid(format, args...)
	}
}

// entries is offsets for tensors, names and errors.
func (w *writer) entries(slot place, n int) (place, bool) {
	if n > entriesMax {
		w.refuse("%d tensors, names or errors in one place, at most %d are allowed", n, entriesMax)
		return place{}, false
	}
	return w.offsets(slot, n)
}

// offsets writes a vector of n offsets and returns the first slot; the others follow it. It returns false where there is no
// room for them.
func (w *writer) offsets(slot place, n int) (place, bool) {
	if n > messageMax/4 || !w.room(4*n) {
		w.full = true
		return place{}, false
	}
	w.pad(4, 0)
	w.point(slot)
	w.uint32(n)
	p := place{len(w.own), w.at()}
	w.own = append(w.own, make([]byte, 4*n)...)
	return p, true
}

func (w *writer) words(slot place, all []string) {
	first, ok := w.entries(slot, len(all))
	for i := 0; ok && i < len(all); i++ {
		w.word(first.field(4*i), all[i])
	}
}

func (w *writer) shape(slot place, shape []int64) {
	w.pad(8, 4)
	w.point(slot)
	w.uint32(len(shape))
	for _, d := range shape {
		w.own = binary.LittleEndian.AppendUint64(w.own, uint64(d))
	}
}

// data writes the bytes of a tensor where a reader can use them in place.
func (w *writer) data(slot place, b []byte) {
	if !w.room(len(b)) {
		return
	}
	w.pad(dataAlign, 4)
	w.point(slot)
	w.uint32(len(b))
	w.lend(b)
}

// finish returns the message in order.
func (w *writer) finish() (segments, error) {
	if w.refused != nil {
		return nil, w.refused
	}
	if !w.room(0) {
		return nil, invalid("a message must stay under 2 GiB")
	}
	all := make(segments, 0, 2*len(w.lent)+1)
	from := 0
	for _, l := range w.lent {
		if l.at > from {
			all = append(all, w.own[from:l.at])
		}
		all = append(all, l.bytes)
		from = l.at
	}
	if from < len(w.own) {
		all = append(all, w.own[from:])
	}
	return all, nil
}
