package oracle

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/graphpipe/graphpipe/clients/go"
)

var sizes = map[graphpipe.Type]int{
	graphpipe.Uint8: 1, graphpipe.Int8: 1, graphpipe.Uint16: 2, graphpipe.Int16: 2, graphpipe.Uint32: 4, graphpipe.Int32: 4,
	graphpipe.Uint64: 8, graphpipe.Int64: 8, graphpipe.Float16: 2, graphpipe.Float32: 4, graphpipe.Float64: 8,
}

// message is what both sides are compared by. Absent and empty vectors are the same.
type message struct {
	config        string
	names, wanted []string
	tensors       []graphpipe.Tensor
	codes         []int64
	messages      []string
}

func randomTensor(r *rand.Rand) graphpipe.Tensor {
	shape := make([]int64, r.IntN(4))
	n := 1
	for i := range shape {
		shape[i] = int64(r.IntN(4))
		n *= int(shape[i])
	}
	kind := graphpipe.Type(1 + r.IntN(12))
	t := graphpipe.Tensor{Type: kind, Shape: shape}
	if kind == graphpipe.String {
		for range n {
			t.Strings = append(t.Strings, randomBytes(r, r.IntN(10)))
		}
		return t
	}
	t.Data = randomBytes(r, n*sizes[kind])
	return t
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// randomText is UTF-8, as names and other words are.
func randomText(r *rand.Rand, n int) string {
	text := make([]rune, n)
	for i := range text {
		text[i] = []rune{0, 'a', 'ß', 'λ', '\ufffd', '\U0001f600'}[r.IntN(6)]
	}
	return string(text)
}

func randomNames(r *rand.Rand) []string {
	var all []string
	for range r.IntN(4) {
		all = append(all, randomText(r, r.IntN(5)))
	}
	return all
}

func randomMessage(r *rand.Rand) message {
	m := message{config: randomText(r, r.IntN(9)), names: randomNames(r), wanted: randomNames(r)}
	for range r.IntN(4) {
		m.tensors = append(m.tensors, randomTensor(r))
	}
	for range r.IntN(3) {
		m.codes = append(m.codes, int64(r.Uint64()))
		m.messages = append(m.messages, randomText(r, r.IntN(9)))
	}
	return m
}

func same(t *testing.T, what string, got, want message) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: read\n%s\nwant\n%s", what, g, w)
	}
}

// builder writes with the official runtime; bare leaves out the NUL behind strings, as the original Go programs do.
type builder struct {
	*flatbuffers.Builder
	bare bool
}

func (b builder) text(s string) flatbuffers.UOffsetT {
	if b.bare {
		return b.CreateByteVector([]byte(s))
	}
	return b.CreateString(s)
}

func (b builder) offsets(all []flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	b.StartVector(4, len(all), 4)
	for i := len(all) - 1; i >= 0; i-- {
		b.PrependUOffsetT(all[i])
	}
	return b.EndVector(len(all))
}

func (b builder) texts(all []string) flatbuffers.UOffsetT {
	var at []flatbuffers.UOffsetT
	for _, s := range all {
		at = append(at, b.text(s))
	}
	return b.offsets(at)
}

func (b builder) tensor(t graphpipe.Tensor) flatbuffers.UOffsetT {
	var data, strings flatbuffers.UOffsetT
	if t.Type == graphpipe.String {
		var all []string
		for _, s := range t.Strings {
			all = append(all, string(s))
		}
		strings = b.texts(all)
	} else {
		data = b.CreateByteVector(t.Data) // aligned to 4 only
	}
	b.StartVector(8, len(t.Shape), 8)
	for i := len(t.Shape) - 1; i >= 0; i-- {
		b.PrependInt64(t.Shape[i])
	}
	shape := b.EndVector(len(t.Shape))
	b.StartObject(4)
	b.PrependByteSlot(0, byte(t.Type), 0)
	b.PrependUOffsetTSlot(1, shape, 0)
	b.PrependUOffsetTSlot(2, data, 0)
	b.PrependUOffsetTSlot(3, strings, 0)
	return b.EndObject()
}

func (b builder) tensors(all []graphpipe.Tensor) flatbuffers.UOffsetT {
	var at []flatbuffers.UOffsetT
	for _, t := range all {
		at = append(at, b.tensor(t))
	}
	return b.offsets(at)
}

func (b builder) request(m message) []byte {
	config, names, tensors, wanted := b.text(m.config), b.texts(m.names), b.tensors(m.tensors), b.texts(m.wanted)
	b.StartObject(4)
	b.PrependUOffsetTSlot(0, config, 0)
	b.PrependUOffsetTSlot(1, names, 0)
	b.PrependUOffsetTSlot(2, tensors, 0)
	b.PrependUOffsetTSlot(3, wanted, 0)
	infer := b.EndObject()
	b.StartObject(2)
	b.PrependByteSlot(0, 1, 0)
	b.PrependUOffsetTSlot(1, infer, 0)
	b.Finish(b.EndObject())
	return b.FinishedBytes()
}

func (b builder) response(m message) []byte {
	tensors := b.tensors(m.tensors)
	var entries []flatbuffers.UOffsetT
	for i := range m.codes {
		text := b.text(m.messages[i])
		b.StartObject(2)
		b.PrependInt64Slot(0, m.codes[i], 0)
		b.PrependUOffsetTSlot(1, text, 0)
		entries = append(entries, b.EndObject())
	}
	errors := b.offsets(entries)
	b.StartObject(2)
	b.PrependUOffsetTSlot(0, tensors, 0)
	b.PrependUOffsetTSlot(1, errors, 0)
	b.Finish(b.EndObject())
	return b.FinishedBytes()
}

func TestWhatTheOfficialRuntimeWritesIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 2_000 {
		want := randomMessage(r)
		bare := r.IntN(2) == 0
		req, err := graphpipe.DecodeRequest(builder{flatbuffers.NewBuilder(0), bare}.request(want))
		if err != nil {
			t.Fatalf("%+v: %v", want, err)
		}
		resp, err := graphpipe.DecodeInferResponse(builder{flatbuffers.NewBuilder(0), bare}.response(want))
		if err != nil {
			t.Fatalf("%+v: %v", want, err)
		}
		got := message{config: req.Infer.Config, names: req.Infer.InputNames, wanted: req.Infer.OutputNames, tensors: req.Infer.Inputs}
		for _, e := range resp.Errors {
			got.codes, got.messages = append(got.codes, int64(e.Code)), append(got.messages, e.Message)
		}
		same(t, "request", got, want)
		got.tensors = resp.Outputs
		same(t, "response", got, want)
	}
}

// view reads with the official runtime.
type view struct{ flatbuffers.Table }

func root(b []byte) view {
	return view{flatbuffers.Table{Bytes: b, Pos: flatbuffers.GetUOffsetT(b)}}
}

func (v view) field(id int) flatbuffers.UOffsetT {
	return flatbuffers.UOffsetT(v.Offset(flatbuffers.VOffsetT(4 + 2*id)))
}

func (v view) text(id int) string { return string(v.ByteVector(v.field(id) + v.Pos)) }

func (v view) each(id int, f func(element flatbuffers.UOffsetT)) {
	at, n := v.Vector(v.field(id)), v.VectorLen(v.field(id))
	for i := range n {
		f(at + flatbuffers.UOffsetT(4*i))
	}
}

func (v view) texts(id int) (all []string) {
	v.each(id, func(e flatbuffers.UOffsetT) { all = append(all, string(v.ByteVector(e))) })
	return all
}

func (v view) tensors(id int) (all []graphpipe.Tensor) {
	v.each(id, func(e flatbuffers.UOffsetT) {
		t := view{flatbuffers.Table{Bytes: v.Bytes, Pos: v.Indirect(e)}}
		one := graphpipe.Tensor{Type: graphpipe.Type(t.GetByte(t.Pos + t.field(0))), Shape: []int64{}}
		for i := range t.VectorLen(t.field(1)) {
			one.Shape = append(one.Shape, t.GetInt64(t.Vector(t.field(1))+flatbuffers.UOffsetT(8*i)))
		}
		if one.Type == graphpipe.String {
			for _, s := range t.texts(3) {
				one.Strings = append(one.Strings, []byte(s))
			}
		} else {
			one.Data = t.ByteVector(t.field(2) + t.Pos)
		}
		all = append(all, one)
	})
	return all
}

func TestWhatIsWrittenIsReadByTheOfficialRuntime(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 2_000 {
		want := randomMessage(r)
		b, err := (&graphpipe.Request{Infer: &graphpipe.InferRequest{
			Inputs: want.tensors, InputNames: want.names, OutputNames: want.wanted, Config: want.config,
		}}).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		request := root(b)
		if kind := request.GetByte(request.Pos + request.field(0)); kind != 1 {
			t.Fatalf("kind %d", kind)
		}
		var infer view
		request.Union(&infer.Table, request.field(1))
		got := message{config: infer.text(0), names: infer.texts(1), tensors: infer.tensors(2), wanted: infer.texts(3)}

		entries := make([]graphpipe.ErrorEntry, len(want.codes))
		for i := range entries {
			entries[i] = graphpipe.ErrorEntry{Code: graphpipe.Code(want.codes[i]), Message: want.messages[i]}
		}
		b, err = (&graphpipe.InferResponse{Outputs: want.tensors, Errors: entries}).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		response := root(b)
		if len(entries) > 0 {
			response.each(1, func(e flatbuffers.UOffsetT) {
				one := view{flatbuffers.Table{Bytes: b, Pos: response.Indirect(e)}}
				got.codes = append(got.codes, one.GetInt64(one.Pos+one.field(0)))
				got.messages = append(got.messages, one.text(1))
			})
		}
		same(t, "request", got, want)
		got.tensors = response.tensors(0)
		same(t, "response", got, want)
	}
}

func TestMetadataAgreesBothWays(t *testing.T) {
	want := &graphpipe.Metadata{
		Name: "n", Version: "v", Server: "s", Description: "d",
		Inputs:  []graphpipe.TensorSpec{{Name: "x", Description: "dx", Shape: []int64{-1, 3}, Type: graphpipe.Float32}},
		Outputs: []graphpipe.TensorSpec{{Name: "y", Type: graphpipe.String}, {Name: "z", Shape: []int64{0}}},
	}
	b := builder{flatbuffers.NewBuilder(0), false}
	ios := func(all []graphpipe.TensorSpec) flatbuffers.UOffsetT {
		var at []flatbuffers.UOffsetT
		for _, io := range all {
			name, description := b.text(io.Name), b.text(io.Description)
			b.StartVector(8, len(io.Shape), 8)
			for i := len(io.Shape) - 1; i >= 0; i-- {
				b.PrependInt64(io.Shape[i])
			}
			shape := b.EndVector(len(io.Shape))
			b.StartObject(4)
			b.PrependUOffsetTSlot(0, name, 0)
			b.PrependUOffsetTSlot(1, description, 0)
			b.PrependUOffsetTSlot(2, shape, 0)
			b.PrependByteSlot(3, byte(io.Type), 0)
			at = append(at, b.EndObject())
		}
		return b.offsets(at)
	}
	fields := []flatbuffers.UOffsetT{b.text("n"), b.text("v"), b.text("s"), b.text("d"), ios(want.Inputs), ios(want.Outputs)}
	b.StartObject(6)
	for i, f := range fields {
		b.PrependUOffsetTSlot(i, f, 0)
	}
	b.Finish(b.EndObject())
	if got, err := graphpipe.DecodeMetadata(b.FinishedBytes()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v", got, err)
	}

	ours, err := want.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	meta := root(ours)
	for i, text := range []string{"n", "v", "s", "d"} {
		if meta.text(i) != text {
			t.Errorf("field %d is %q", i, meta.text(i))
		}
	}
	var read []string
	for _, id := range []int{4, 5} {
		meta.each(id, func(e flatbuffers.UOffsetT) {
			io := view{flatbuffers.Table{Bytes: ours, Pos: meta.Indirect(e)}}
			var shape bytes.Buffer
			for i := range io.VectorLen(io.field(2)) {
				fmt.Fprint(&shape, io.GetInt64(io.Vector(io.field(2))+flatbuffers.UOffsetT(8*i)), ",")
			}
			read = append(read, fmt.Sprint(io.text(0), io.text(1), shape.String(), io.GetByte(io.Pos+io.field(3))))
		})
	}
	if got := fmt.Sprint(read); got != "[xdx-1,3,10 y12 z0,0]" {
		t.Error(got)
	}
}
