package oracle

import (
	"encoding/binary"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/graphpipe/graphpipe/clients/go"
)

// FuzzDecodedAsTheOfficialRuntimeReads starts from messages of the official runtime. What the client reads in whatever becomes
// of them, the official runtime reads too, which follows every offset unchecked: so none may lead where it should not.
func FuzzDecodedAsTheOfficialRuntimeReads(f *testing.F) {
	text := func(s string) message { return message{config: s} }
	for _, m := range []message{
		text("c"),
		{names: []string{"x"}, wanted: []string{"y", ""}, tensors: []graphpipe.Tensor{
			{Type: graphpipe.Float32, Shape: []int64{2}, Data: []byte("01234567")},
			{Type: graphpipe.String, Shape: []int64{2}, Strings: [][]byte{[]byte("a"), nil}},
		}},
		{codes: []int64{-1}, messages: []string{"no"}},
	} {
		f.Add(builder{flatbuffers.NewBuilder(0), false}.request(m))
		f.Add(builder{flatbuffers.NewBuilder(0), true}.response(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if req, err := graphpipe.DecodeRequest(b); err == nil && req.Infer != nil {
			checkRequest(t, b, req.Infer)
		}
		if resp, err := graphpipe.DecodeInferResponse(b); err == nil {
			checkResponse(t, b, resp)
		}
	})
}

func checkRequest(t *testing.T, b []byte, req *graphpipe.InferRequest) {
	request := root(b)
	var infer view
	request.Union(&infer.Table, request.field(1))
	same(t, "request",
		message{config: req.Config, names: req.InputNames, tensors: req.Inputs, wanted: req.OutputNames},
		message{
			config: string(infer.bytes(0)), names: infer.textsIfAny(1), tensors: infer.tensorsIfAny(2), wanted: infer.textsIfAny(3),
		})
}

func checkResponse(t *testing.T, b []byte, resp *graphpipe.InferResponse) {
	response := root(b)
	got := message{tensors: resp.Outputs}
	want := message{tensors: response.tensorsIfAny(0)}
	for _, e := range resp.Errors {
		got.codes, got.messages = append(got.codes, int64(e.Code)), append(got.messages, e.Message)
	}
	// Errors beside outputs do not count where they are malformed, so where none were read, none are asked for.
	if len(resp.Errors) > 0 && response.field(1) != 0 {
		response.each(1, func(e flatbuffers.UOffsetT) {
			one := view{flatbuffers.Table{Bytes: b, Pos: response.Indirect(e)}}
			var code int64
			if at := one.field(0); at != 0 {
				code = one.GetInt64(one.Pos + at)
			}
			want.codes, want.messages = append(want.codes, code), append(want.messages, string(one.bytes(1)))
		})
	}
	same(t, "response", got, want)
}

// bytes is the vector of bytes in a field, which may be absent.
func (v view) bytes(id int) []byte {
	if at := v.field(id); at != 0 {
		return v.ByteVector(at + v.Pos)
	}
	return nil
}

func (v view) textsIfAny(id int) []string {
	if v.field(id) == 0 {
		return nil
	}
	return v.texts(id)
}

func (v view) tensorsIfAny(id int) (all []graphpipe.Tensor) {
	if v.field(id) == 0 {
		return nil
	}
	v.each(id, func(e flatbuffers.UOffsetT) {
		t := view{flatbuffers.Table{Bytes: v.Bytes, Pos: v.Indirect(e)}}
		var one graphpipe.Tensor
		if at := t.field(0); at != 0 {
			one.Type = graphpipe.Type(t.GetByte(t.Pos + at))
		}
		if at := t.field(1); at != 0 {
			start := t.Vector(at)
			for i := range t.VectorLen(at) {
				one.Shape = append(one.Shape, int64(binary.LittleEndian.Uint64(t.Bytes[int(start)+8*i:])))
			}
		}
		if one.Type == graphpipe.String {
			for _, s := range t.textsIfAny(3) {
				one.Strings = append(one.Strings, []byte(s))
			}
		} else {
			one.Data = t.bytes(2)
		}
		all = append(all, one)
	})
	return all
}
