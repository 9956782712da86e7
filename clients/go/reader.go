package graphpipe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// reader finds its way in FlatBuffers bytes that nobody has vouched for. Every position is checked before it is used, and
// nothing can be visited so often that a small message grows large in memory: every vector and string that is read is charged
// to an account that holds as much as the message is long. A vector may be shared by two fields; it is then paid for twice.
//
// Offsets, tables and vtables must be aligned, as FlatBuffers demands. Shapes, tensor bytes, strings and scalars may start
// anywhere, since the original writers' do.
type reader struct {
	bytes   []byte
	unspent int // of the message's length
	text    int // bytes that names and other words may still have
	strings int // that tensors may still have
}

// newReader also finds the root table.
func newReader(b []byte) (*reader, table, error) {
	if len(b) > messageMax {
		return nil, table{}, malformed("%d bytes, a message must stay under 2 GiB", len(b))
	}
	r := &reader{bytes: b, unspent: len(b), text: textMax, strings: stringsMax}
	at, err := r.follow(0)
	if err != nil {
		return nil, table{}, err
	}
	root, err := r.table(at)
	return r, root, err
}

// table is a checked table: its inline bytes and its vtable lie within the message.
type table struct {
	r      *reader
	at     int // of the table
	size   int // inline bytes
	vtable int
	fields int // slots in the vtable
}

// has says whether n bytes lie at the position.
func (r *reader) has(at, n int) bool {
	return at >= 0 && n >= 0 && at <= len(r.bytes) && n <= len(r.bytes)-at
}

// follow reads the offset at a position and returns where it points to, at least 4 bytes before the end.
func (r *reader) follow(at int) (int, error) {
	if at%4 != 0 {
		return 0, malformed("offset at %d is not aligned", at)
	}
	if !r.has(at, 4) {
		return 0, malformed("offset at %d is outside of the message", at)
	}
	offset := binary.LittleEndian.Uint32(r.bytes[at:])
	if offset == 0 || uint64(at)+uint64(offset)+4 > uint64(len(r.bytes)) {
		return 0, malformed("offset at %d leads outside of the message", at)
	}
	return at + int(offset), nil
}

func (r *reader) table(at int) (table, error) {
	if at%4 != 0 || !r.has(at, 4) {
		return table{}, malformed("table at %d is not aligned or outside of the message", at)
	}
	vtable := int64(at) - int64(int32(binary.LittleEndian.Uint32(r.bytes[at:])))
	if vtable < 0 || vtable > math.MaxInt32 || vtable%2 != 0 || !r.has(int(vtable), 4) {
		return table{}, malformed("vtable of the table at %d is not aligned or outside of the message", at)
	}
	v := int(vtable)
	length := int(binary.LittleEndian.Uint16(r.bytes[v:]))
	size := int(binary.LittleEndian.Uint16(r.bytes[v+2:]))
	if length < 4 || length%2 != 0 || !r.has(v, length) {
		return table{}, malformed("vtable at %d has a bad length of %d", v, length)
	}
	if size < 4 || !r.has(at, size) {
		return table{}, malformed("table at %d has a bad size of %d", at, size)
	}
	return table{r: r, at: at, size: size, vtable: v, fields: (length - 4) / 2}, nil
}

func (r *reader) charge(n int) error {
	if n > r.unspent {
		return malformed("vectors and strings are used so often that they exceed the message")
	}
	r.unspent -= n
	return nil
}

// field returns where the field's n inline bytes are, or 0 where it is absent.
func (t table) field(id, n int) (int, error) {
	if id >= t.fields {
		return 0, nil
	}
	offset := int(binary.LittleEndian.Uint16(t.r.bytes[t.vtable+4+2*id:]))
	if offset == 0 {
		return 0, nil
	}
	if offset < 4 || offset+n > t.size {
		return 0, malformed("field %d of the table at %d is outside of it", id, t.at)
	}
	return t.at + offset, nil
}

// target returns where the offset in the field points to, or 0 where it is absent.
func (t table) target(id int) (int, error) {
	at, err := t.field(id, 4)
	if at == 0 || err != nil {
		return 0, err
	}
	return t.r.follow(at)
}

func (t table) uint8(id int) (uint8, error) {
	at, err := t.field(id, 1)
	if at == 0 || err != nil {
		return 0, err
	}
	return t.r.bytes[at], nil
}

func (t table) int64(id int) (int64, error) {
	at, err := t.field(id, 8)
	if at == 0 || err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint64(t.r.bytes[at:])), nil
}

// table returns the table in the field, and whether it is present.
func (t table) table(id int) (table, bool, error) {
	at, err := t.target(id)
	if at == 0 || err != nil {
		return table{}, false, err
	}
	child, err := t.r.table(at)
	return child, err == nil, err
}

// vector returns where the elements of the vector in the field start and how many there are.
func (t table) vector(id, size int) (at, n int, err error) {
	at, err = t.target(id)
	if at == 0 || err != nil {
		return 0, 0, err
	}
	return t.r.vector(at, size)
}

func (r *reader) vector(at, size int) (int, int, error) {
	n := uint64(binary.LittleEndian.Uint32(r.bytes[at:])) // follow left 4 bytes here
	at += 4
	if n > uint64(len(r.bytes)-at)/uint64(size) {
		return 0, 0, malformed("vector at %d has %d elements, more than there are bytes left for", at-4, n)
	}
	return at, int(n), nil
}

// offsets is vector for elements that are themselves offsets, at most so many.
func (t table) offsets(id, most int) (at, n int, err error) {
	at, n, err = t.vector(id, 4)
	if err != nil {
		return 0, 0, err
	}
	if at%4 != 0 {
		return 0, 0, malformed("vector of offsets at %d is not aligned", at-4)
	}
	if n > most {
		return 0, 0, malformed("vector at %d has %d entries, at most %d are allowed", at-4, n, most)
	}
	return at, n, t.r.charge(4 * n)
}

// run is vector for bytes, which it returns in place.
func (t table) run(id int) ([]byte, error) {
	at, err := t.target(id)
	if at == 0 || err != nil {
		return nil, err
	}
	return t.r.run(at)
}

func (r *reader) run(at int) ([]byte, error) {
	at, n, err := r.vector(at, 1)
	if err != nil {
		return nil, err
	}
	if err := r.charge(n); err != nil {
		return nil, err
	}
	return r.bytes[at : at+n : at+n], nil
}

// runs returns a vector of strings in place. A trailing NUL is not looked for: some writers leave it out.
func (t table) runs(id, most int) ([][]byte, error) {
	at, n, err := t.offsets(id, most)
	if n == 0 || err != nil {
		return nil, err
	}
	all := make([][]byte, n)
	for i := range all {
		to, err := t.r.follow(at + 4*i)
		if err != nil {
			return nil, err
		}
		if all[i], err = t.r.run(to); err != nil {
			return nil, err
		}
	}
	return all, nil
}

var errTooManyStrings = errors.New("too many strings")

// strings is runs for a tensor's elements.
func (t table) strings(id int) ([][]byte, error) {
	_, n, err := t.vector(id, 4)
	if err != nil {
		return nil, err
	}
	if n > t.r.strings {
		return nil, fmt.Errorf("%w: %d in a tensor, where %d are left for the message: %w", errTooManyStrings, n, t.r.strings, ErrMalformed)
	}
	t.r.strings -= n
	return t.runs(id, stringsMax)
}

// word returns a name or another text.
func (t table) word(id int) (string, error) {
	b, err := t.run(id)
	if err != nil {
		return "", err
	}
	return t.r.word(b)
}

func (r *reader) word(b []byte) (string, error) {
	if len(b) > r.text {
		return "", malformed("more than %d bytes of names and other text", textMax)
	}
	r.text -= len(b)
	if !utf8.Valid(b) {
		return "", malformed("text that is not UTF-8")
	}
	return string(b), nil
}

func (t table) words(id int) ([]string, error) {
	runs, err := t.runs(id, entriesMax)
	if len(runs) == 0 || err != nil {
		return nil, err
	}
	all := make([]string, len(runs))
	for i, b := range runs {
		if all[i], err = t.r.word(b); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// shape returns a vector of dimensions, each at least as large as least.
func (t table) shape(id int, least int64) ([]int64, error) {
	at, n, err := t.vector(id, 8)
	if n == 0 || err != nil {
		return nil, err
	}
	if n > dimsMax {
		return nil, malformed("%d dimensions, at most %d are allowed", n, dimsMax)
	}
	if err := t.r.charge(8 * n); err != nil {
		return nil, err
	}
	shape := make([]int64, n)
	for i := range shape {
		shape[i] = int64(binary.LittleEndian.Uint64(t.r.bytes[at+8*i:]))
		if shape[i] < least {
			return nil, malformed("dimension %d is %d", i, shape[i])
		}
	}
	return shape, nil
}

// elementType reads a type that must be known.
func (t table) elementType(id int) (Type, error) {
	n, err := t.uint8(id)
	if err == nil && !Type(n).known() {
		err = malformed("unknown element type %d", n)
	}
	return Type(n), err
}

// tables reads each table of a vector with one function.
func tables[T any](t table, id int, read func(table) (T, error)) ([]T, error) {
	at, n, err := t.offsets(id, entriesMax)
	if n == 0 || err != nil {
		return nil, err
	}
	var all []T // grows with what is found, not with what is claimed
	for i := range n {
		to, err := t.r.follow(at + 4*i)
		if err != nil {
			return nil, err
		}
		child, err := t.r.table(to)
		if err != nil {
			return nil, err
		}
		one, err := read(child)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}
