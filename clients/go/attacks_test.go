package graphpipe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// forge writes a request for the root table's inference as the function likes it.
func forge(inner func(w *writer, infer place)) []byte {
	w := newWriter()
	request := w.child(w.slot(), layoutRequest)
	w.setUint8(request.field(8), reqInfer)
	infer := w.child(request.field(4), layoutInferRequest)
	w.word(infer.field(4), "")
	w.words(infer.field(8), nil)
	w.words(infer.field(12), nil) // until the function has it point elsewhere
	w.words(infer.field(16), nil)
	inner(w, infer)
	all, err := w.finish()
	if err != nil {
		panic(err)
	}
	return all.joined()
}

// forgeTensor writes a request with one tensor.
func forgeTensor(kind uint8, shape []int64, data []byte, strings [][]byte) []byte {
	return forge(func(w *writer, infer place) {
		first, _ := w.offsets(infer.field(12), 1)
		l := layoutTensor
		if strings != nil {
			l = layoutStringTensor
		}
		one := w.child(first, l)
		w.setUint8(one.field(12), kind)
		w.shape(one.field(4), shape)
		if strings != nil {
			w.runs(one.field(8), strings)
		} else {
			w.data(one.field(8), data)
		}
	})
}

func patched(b []byte, at int, v uint32) []byte {
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint32(b[at:], v)
	return b
}

func attacks() map[string][]byte {
	dims := func(n int) []int64 {
		all := make([]int64, n)
		for i := range all {
			all[i] = 1
		}
		return all
	}
	good := forgeTensor(uint8(Float32), []int64{2}, make([]byte, 8), nil)
	return map[string][]byte{
		"nothing":                       {},
		"three bytes":                   {4, 0, 0},
		"zeros":                         make([]byte, 64),
		"ones":                          bytes.Repeat([]byte{0xff}, 64),
		"text":                          []byte("<html><body>502 Bad Gateway</body></html>"),
		"root offset out of range":      patched(good, 0, 1<<31-4),
		"root offset beyond 31 bits":    patched(good, 0, 0xfffffffc),
		"root offset to itself":         patched(good, 0, 0),
		"root offset not aligned":       patched(good, 0, binary.LittleEndian.Uint32(good)+1),
		"vtable before the message":     patched(good, int(binary.LittleEndian.Uint32(good)), 1<<30),
		"vtable after the message":      patched(good, int(binary.LittleEndian.Uint32(good)), 1<<31+8),
		"unknown element type":          forgeTensor(13, []int64{2}, make([]byte, 8), nil),
		"data without type":             forgeTensor(0, []int64{2}, make([]byte, 8), nil),
		"data shorter than shape":       forgeTensor(uint8(Float32), []int64{3}, make([]byte, 8), nil),
		"data longer than shape":        forgeTensor(uint8(Float32), []int64{1}, make([]byte, 8), nil),
		"data for an empty shape":       forgeTensor(uint8(Float32), []int64{0}, make([]byte, 4), nil),
		"negative dimension":            forgeTensor(uint8(Float32), []int64{-2}, make([]byte, 8), nil),
		"two negative dimensions":       forgeTensor(uint8(Float32), []int64{-1, -2}, make([]byte, 8), nil),
		"product overflows to the size": forgeTensor(uint8(Uint8), []int64{1 << 62, 4, 1 << 1}, nil, nil),
		"empty with a huge dimension":   forgeTensor(uint8(Float32), []int64{0, 1 << 62}, nil, nil),
		"empty with 2 GiB around it":    forgeTensor(uint8(Uint8), []int64{0, 1 << 16, 1 << 15}, nil, nil),
		"33 dimensions":                 forgeTensor(uint8(Uint8), dims(33), []byte{1}, nil),
		"too few strings":               forgeTensor(uint8(String), []int64{3}, nil, [][]byte{{1}, {2}}),
		"strings in a numeric tensor":   forgeTensor(uint8(Uint8), []int64{1}, nil, [][]byte{{1}}),
		"100 times one large string": forge(func(w *writer, infer place) {
			first, _ := w.offsets(infer.field(12), 1)
			one := w.child(first, layoutStringTensor)
			w.setUint8(one.field(12), uint8(String))
			w.shape(one.field(4), []int64{100})
			slots, _ := w.offsets(one.field(8), 100)
			for i := 1; i < 100; i++ {
				w.pad(4, 0)
				w.point(slots.field(4 * i))
			}
			w.run(slots, make([]byte, 1000))
		}),
		"1000 times one tensor": forge(func(w *writer, infer place) {
			slots, _ := w.offsets(infer.field(12), 1000)
			w.child(slots, layoutTensor) // for the vtable, and then forgotten
			for i := 1; i < 1000; i++ {
				w.point(slots.field(4 * i))
			}
			one := w.child(slots, layoutTensor)
			w.setUint8(one.field(12), uint8(Uint8))
			w.shape(one.field(4), dims(32))
			w.data(one.field(8), []byte{1})
		}),
		"a vector longer than the rest": forge(func(w *writer, infer place) {
			w.point(infer.field(8))
			w.uint32(1 << 28)
		}),
		"unknown kind of request": func() []byte {
			w := newWriter()
			request := w.child(w.slot(), layoutRequest)
			w.setUint8(request.field(8), 3)
			w.child(request.field(4), layoutMetadataRequest)
			all, _ := w.finish()
			return all.joined()
		}(),
		"a kind without a body": func() []byte {
			w := newWriter()
			w.child(w.slot(), layoutMetadataRequest)
			all, _ := w.finish()
			return all.joined()
		}(),
	}
}

func TestAttacksAreMalformed(t *testing.T) {
	for name, b := range attacks() {
		req, err := DecodeRequest(b)
		if !errors.Is(err, ErrMalformed) && (name != "unknown kind of request" || !errors.Is(err, ErrUnsupported)) {
			t.Errorf("%s: %+v, %v", name, req, err)
		}
	}
}
