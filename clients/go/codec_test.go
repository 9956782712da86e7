package graphpipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// everyTensor holds each type, and the shapes that go wrong first.
func everyTensor() []Tensor {
	return []Tensor{
		FromSlice([]uint8{1, 2, 3, 4, 5, 6, 7}),
		FromSlice([]int8{-1, 2}, 2, 1),
		FromSlice([]uint16{1, 65535}),
		FromSlice([]int16{-32768, 3}),
		FromSlice([]uint32{1, 1 << 31}),
		FromSlice([]int32{-1 << 31}),
		FromSlice([]uint64{1 << 63}),
		FromSlice([]int64{-1 << 63, 5}, 1, 2, 1),
		FromSlice([]Float16Bits{0x3c00, 0x7e01}),
		FromSlice([]float32{1.5, -2.5, 0, 4, 5, 6}, 2, 3),
		FromSlice([]float64{3.25}),
		Scalar(float32(7)),
		FromSlice([]float32{}, 0, 3),
		FromStrings([]string{"a", "", "nul\x00inside\x00", "\xff\xfe not UTF-8"}, 2, 2),
		FromStrings(nil, 3, 0),
		{Type: String, Shape: []int64{}, Strings: [][]byte{bytes.Repeat([]byte("long"), stringLoanAt)}},
		FromSlice(make([]uint8, 100)),
	}
}

func everyRequest() []*Request {
	return []*Request{
		{},
		{Infer: &InferRequest{}},
		{Infer: &InferRequest{
			Inputs: everyTensor(), InputNames: []string{"a", "", "ü"}, OutputNames: []string{"y", "y", ""}, Config: `{"k": 1}`,
		}},
		{Infer: smallRequest()},
	}
}

func everyInferResponse() []*InferResponse {
	return []*InferResponse{
		{},
		{Outputs: everyTensor()},
		{Errors: []ErrorEntry{{CodeModelFailed, "it failed"}, {-1 << 63, ""}}},
		{Outputs: everyTensor()[:2], Errors: []ErrorEntry{{Message: "odd"}}},
	}
}

func everyMetadata() []*Metadata {
	return []*Metadata{
		{},
		{
			Name: "m", Version: "1", Server: "s", Description: "d",
			Inputs: []TensorSpec{
				{Name: "x", Description: "an input", Shape: []int64{-1, 64}, Type: Float32},
				{Name: "any", Type: Null},
			},
			Outputs: []TensorSpec{{Name: "y", Shape: []int64{0}, Type: String}},
		},
	}
}

// alike compares messages; a vector that is absent and one that is empty mean the same.
func alike(a, b any) bool { return fmt.Sprintf("%#v", normal(a)) == fmt.Sprintf("%#v", normal(b)) }

func normal(v any) any {
	switch m := v.(type) {
	case *Request:
		if m.Infer == nil {
			return "metadata request"
		}
		return fmt.Sprint(m.Infer.InputNames, m.Infer.OutputNames, m.Infer.Config, normal(m.Infer.Inputs))
	case *InferResponse:
		return []any{normal(m.Outputs), fmt.Sprint(m.Errors)}
	case *Metadata:
		return fmt.Sprint(*m)
	case []Tensor:
		all := []any{}
		for _, t := range m {
			all = append(all, fmt.Sprint(t.Type, t.Shape, t.Data, t.Strings))
		}
		return all
	}
	return v
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	for i, want := range everyRequest() {
		b, err := want.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeRequest(b)
		if err != nil || !alike(got, want) {
			t.Errorf("request %d: read %+v, %v; want %+v", i, got, err, want)
		}
	}
	for i, want := range everyInferResponse() {
		b, err := want.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeInferResponse(b)
		if err != nil || !alike(got, want) {
			t.Errorf("response %d: read %+v, %v; want %+v", i, got, err, want)
		}
	}
	for i, want := range everyMetadata() {
		b, err := want.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeMetadata(b)
		if err != nil || !alike(got, want) {
			t.Errorf("metadata %d: read %+v, %v; want %+v", i, got, err, want)
		}
	}
}

func TestTensorBytesAreSentFromWhereTheyAreAndStartAtMultiplesOf64(t *testing.T) {
	inputs := everyTensor()
	message, err := encodeRequest(&Request{Infer: &InferRequest{Inputs: inputs}})
	if err != nil {
		t.Fatal(err)
	}
	for i, input := range inputs {
		if len(input.Data) == 0 {
			continue
		}
		found, at := false, int64(0)
		for _, b := range message {
			if unsafe.SliceData(b) == unsafe.SliceData(input.Data) {
				found = true
				if at%dataAlign != 0 {
					t.Errorf("input %d starts at %d", i, at)
				}
			}
			at += int64(len(b))
		}
		if !found {
			t.Errorf("input %d was copied", i)
		}
	}
}

func TestADecodedTensorBorrowsTheMessage(t *testing.T) {
	b, err := (&InferResponse{Outputs: []Tensor{FromSlice([]float32{1, 2})}}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := DecodeInferResponse(b)
	if err != nil {
		t.Fatal(err)
	}
	if data := resp.Outputs[0].Data; unsafe.SliceData(data) != unsafe.SliceData(b[len(b)-8:]) || cap(data) != 8 {
		t.Error("the data is not the message's own bytes, or reaches beyond them")
	}
}

func TestWrittenStringsEndWithNULForReadersThatNeedIt(t *testing.T) {
	b, err := (&Request{Infer: &InferRequest{Config: "config", Inputs: []Tensor{FromStrings([]string{"element"})}}}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"config\x00", "element\x00"} {
		if !bytes.Contains(b, []byte(s)) {
			t.Errorf("%q is not in % x", s, b)
		}
	}
}

func TestATruncatedMessageIsMalformedAtEveryByte(t *testing.T) {
	b, err := (&Request{Infer: smallRequest()}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if _, err := DecodeRequest(b[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
	}
}

func TestTwoFieldsMayShareOneVector(t *testing.T) {
	b := forge(func(w *writer, infer place) {
		slots, _ := w.offsets(infer.field(12), 2)
		one := w.child(slots, layoutTensor)
		two := w.child(slots.field(4), layoutTensor)
		w.setUint8(one.field(12), uint8(Uint8))
		w.setUint8(two.field(12), uint8(Int8))
		w.pad(8, 4)
		w.point(one.field(4))
		w.shape(two.field(4), []int64{3})
		w.pad(dataAlign, 4)
		w.point(one.field(8))
		w.data(two.field(8), []byte{1, 2, 3})
	})
	req, err := DecodeRequest(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(req.Infer.Inputs); got != "[{uint8 [3] [1 2 3] []} {int8 [3] [1 2 3] []}]" {
		t.Error(got)
	}
}

func TestMalformedErrorsAreIgnoredOnlyBesideOutputs(t *testing.T) {
	for _, outputs := range [][]Tensor{nil, everyTensor()[:1]} {
		w := newWriter()
		response := w.child(w.slot(), layoutFailedResponse)
		w.point(response.field(8))
		w.uint32(1 << 20) // errors, more than there are bytes for
		w.tensors(response.field(4), outputs, nil)
		all, _ := w.finish()
		resp, err := DecodeInferResponse(all.joined())
		if outputs == nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("without outputs: %+v, %v", resp, err)
		}
		if outputs != nil && (err != nil || len(resp.Outputs) != 1 || len(resp.Errors) != 0) {
			t.Errorf("with outputs: %+v, %v", resp, err)
		}
	}
}

func TestWhatCannotBeSentIsRefusedBeforeItIs(t *testing.T) {
	gigabyte := Tensor{Type: Uint8, Shape: []int64{1 << 30}, Data: make([]byte, 1<<30)} // never touched
	for name, inputs := range map[string][]Tensor{
		"no type":              {{}},
		"unknown type":         {{Type: 13, Shape: []int64{0}}},
		"shape and data":       {FromSlice([]float32{1, 2, 3}, 2, 2)},
		"negative":             {FromSlice([]float32{}, -1, 0)},
		"33 dimensions":        {FromSlice([]float32{}, make([]int64, 33)...)},
		"strings missing":      {FromStrings([]string{"a"}, 2)},
		"2 GiB in all":         {gigabyte, gigabyte},
		"a dimension of 2 GiB": {FromSlice([]uint8{}, 0, 1<<31)},
		"too many strings":     {{Type: String, Shape: []int64{1<<24 + 1}, Strings: make([][]byte, 1<<24+1)}},
		"too many tensors":     make([]Tensor, 4097),
	} {
		if _, err := encodeRequest(&Request{Infer: &InferRequest{Inputs: inputs}}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, req := range map[string]InferRequest{
		"too much text":         {Config: strings.Repeat("x", 1<<24), OutputNames: []string{"y"}},
		"too many names":        {InputNames: make([]string, 4097)},
		"text that is no UTF-8": {Config: "\xff"},
	} {
		if _, err := encodeRequest(&Request{Infer: &req}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := encodeInferResponse(&InferResponse{Errors: []ErrorEntry{{Message: "odd \xff text"}}}); err != nil {
		t.Errorf("an error about odd text: %v", err)
	}
	for name, io := range map[string]TensorSpec{
		"type": {Type: 99}, "dimension": {Shape: []int64{-2}}, "33 dimensions": {Shape: make([]int64, 33)},
	} {
		if _, err := encodeMetadata(&Metadata{Inputs: []TensorSpec{io}}); !errors.Is(err, ErrInvalid) {
			t.Errorf("metadata, %s: %v", name, err)
		}
	}
}

// checkDecoded decodes bytes as every message; what is read must survive being written.
func checkDecoded(t *testing.T, b []byte) {
	req, err := DecodeRequest(b)
	if checkError(t, err) {
		again, err := req.MarshalBinary()
		if err != nil {
			t.Fatalf("request %+v: %v", req, err)
		}
		if back, err := DecodeRequest(again); err != nil || !alike(back, req) {
			t.Errorf("request %+v came back as %+v, %v", req, back, err)
		}
	}
	resp, err := DecodeInferResponse(b)
	if checkError(t, err) {
		again, err := resp.MarshalBinary()
		if err != nil {
			t.Fatalf("response %+v: %v", resp, err)
		}
		if back, err := DecodeInferResponse(again); err != nil || !alike(back, resp) {
			t.Errorf("response %+v came back as %+v, %v", resp, back, err)
		}
	}
	meta, err := DecodeMetadata(b)
	if checkError(t, err) {
		for _, specs := range [][]TensorSpec{meta.Inputs, meta.Outputs} {
			for i := range specs {
				specs[i].TypeNumber = 0 // which is not sent
			}
		}
		again, err := meta.MarshalBinary()
		if err != nil {
			t.Fatalf("metadata %+v: %v", meta, err)
		}
		if back, err := DecodeMetadata(again); err != nil || !reflect.DeepEqual(back, meta) {
			t.Errorf("metadata %+v came back as %+v, %v", meta, back, err)
		}
	}
}

func checkError(t *testing.T, err error) (decoded bool) {
	if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
		t.Errorf("an error of another kind: %v", err)
	}
	return err == nil
}

// seeds are messages of every kind, good and bad, by a name for each.
func seeds(t testing.TB) map[string][]byte {
	all := map[string][]byte{}
	add := func(name string, m interface{ MarshalBinary() ([]byte, error) }) {
		b, err := m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		all[name] = b
	}
	for i, m := range everyRequest() {
		add(fmt.Sprintf("request-%d", i), m)
	}
	for i, m := range everyInferResponse() {
		add(fmt.Sprintf("infer-response-%d", i), m)
	}
	for i, m := range everyMetadata() {
		add(fmt.Sprintf("metadata-%d", i), m)
	}
	for name, b := range attacks() {
		all["attack-"+strings.ReplaceAll(name, " ", "-")] = b
	}
	return all
}

var writeSeeds = flag.Bool("write-seeds", false, "write the fuzz target's seed corpus anew")

func TestTheSeedCorpusHasWhatTheWriterWrites(t *testing.T) {
	for name, b := range seeds(t) {
		file := filepath.Join("testdata", "fuzz", "FuzzDecode", name)
		want := fmt.Sprintf("go test fuzz v1\n[]byte(%+q)\n", b)
		if *writeSeeds {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s is not what is written today (%v); if that is meant, run: go test -run SeedCorpus -write-seeds .", name, err)
		}
	}
}

func TestAnswersWithOutputsElsewhereAreReadOrRefused(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	outputs := []Tensor{FromSlice([]float32{1, 2, 3, 4, 5, 6}, 2, 3), FromStrings([]string{"a", "b"}), FromSlice([]uint8{7, 8})}
	taken := 0
	for range 5_000 {
		w := newWriter()
		response := w.child(w.slot(), layoutInferResponse)
		w.tensors(response.field(4), outputs, []bool{true, false, random.IntN(2) == 0})
		all, err := w.finish()
		if err != nil {
			t.Fatal(err)
		}
		b := all.joined()
		for range random.IntN(3) {
			b[random.IntN(len(b))] = byte(random.Uint32())
		}
		elsewhere := map[int][]byte{}
		for i := range outputs {
			if random.IntN(3) > 0 {
				elsewhere[i] = make([]byte, len(outputs[i].Data))
			}
		}
		resp, err := decodeInferResponse(b, elsewhere)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			continue
		}
		taken++
		for i, data := range elsewhere {
			if len(resp.Outputs[i].Data) != len(data) {
				t.Fatalf("output %d has %d bytes, not the %d that came beside the message", i, len(resp.Outputs[i].Data), len(data))
			}
		}
	}
	if taken < 100 {
		t.Errorf("%d were taken", taken)
	}
}

func TestMutatedMessagesNeverPanic(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var all [][]byte
	for _, b := range seeds(t) {
		all = append(all, b)
	}
	slices.SortFunc(all, bytes.Compare)
	for range 5_000 {
		b := bytes.Clone(all[random.IntN(len(all))])
		if len(b) == 0 {
			continue
		}
		for range 1 + random.IntN(4) {
			b[random.IntN(min(len(b), 1+random.IntN(len(b))))] = byte(random.Uint32())
		}
		checkDecoded(t, b[:len(b)-random.IntN(2)*random.IntN(len(b))])
	}
}

// TestNoMessageOfTheSharedCorpusIsReadInTwoWays reads what the fuzzers of all languages came upon. Four bytes before each
// message are theirs.
func TestNoMessageOfTheSharedCorpusIsReadInTwoWays(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "tests", "fuzz", "corpus", "decoder.json"))
	if err != nil {
		t.Skipf("no corpus: %v", err)
	}
	var kept struct{ Findings, Corpus [][]byte }
	if err := json.Unmarshal(raw, &kept); err != nil {
		t.Fatal(err)
	}
	for _, b := range append(kept.Findings, kept.Corpus...) {
		if len(b) > 4 {
			checkDecoded(t, b[4:])
		}
	}
	if len(kept.Corpus) < 10 {
		t.Errorf("only %d messages", len(kept.Corpus))
	}
}

// FuzzDecode starts from the corpus in testdata.
func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) { checkDecoded(t, b) })
}
