package graphpipe

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestFromSliceAndValuesDoNotCopy(t *testing.T) {
	values := []float32{1, 2, 3, 4}
	tensor := FromSlice(values, 2, 2)
	back, err := Values[float32](tensor)
	if err != nil || &back[0] != &values[0] || len(back) != 4 {
		t.Errorf("got %v, %v", back, err)
	}
}

func TestValuesOfBytesThatAreNotAlignedAreRight(t *testing.T) {
	bytes := append([]byte{0}, bytesOf([]float64{1.5, -2})...)
	for _, start := range []int{0, 1} {
		shifted := append(make([]byte, start), bytes[1:]...)[start:]
		got, err := Values[float64](Tensor{Type: Float64, Shape: []int64{2}, Data: shifted})
		if err != nil || got[0] != 1.5 || got[1] != -2 {
			t.Errorf("got %v, %v", got, err)
		}
	}
}

func TestBytesOfAnotherOrderAreSwapped(t *testing.T) {
	before := hostIsLittleEndian
	defer func() { hostIsLittleEndian = before }()
	hostIsLittleEndian = false
	tensor := FromSlice([]uint32{0x01020304})
	if fmt.Sprint(tensor.Data) != "[1 2 3 4]" { // as a big-endian host holds 0x04030201
		t.Errorf("got %v", tensor.Data)
	}
	if back, err := Values[uint32](tensor); err != nil || back[0] != 0x01020304 {
		t.Errorf("got %v, %v", back, err)
	}
}

func TestValuesOfAnotherTypeAreRefused(t *testing.T) {
	if _, err := Values[float64](FromSlice([]float32{1})); err == nil || !strings.Contains(err.Error(), "float32") {
		t.Error(err)
	}
	if _, err := Values[float32](Tensor{Type: Float32, Shape: []int64{2}, Data: make([]byte, 7)}); err == nil {
		t.Error("7 bytes are no two numbers")
	}
	if _, err := StringValues(FromSlice([]uint8{1})); err == nil {
		t.Error("a number is no string")
	}
}

func TestStringsKeepEveryByte(t *testing.T) {
	want := []string{"", "a\x00", "\xff", "☃"}
	got, err := StringValues(FromStrings(want, 2, 2))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestNestedValuesBecomeTensorsAndComeBack(t *testing.T) {
	type celsius float32
	for _, c := range []struct {
		in    any
		kind  Type
		shape string
		back  any
	}{
		{float32(1.5), Float32, "[]", float32(1.5)},
		{"hi", String, "[]", "hi"},
		{true, Uint8, "[]", uint8(1)},
		{7, Int64, "[]", int64(7)},
		{[]uint{1, 2}, Uint64, "[2]", []uint64{1, 2}},
		{[]byte{1, 2}, Uint8, "[2]", []uint8{1, 2}},
		{[][]float32{{1, 2, 3}, {4, 5, 6}}, Float32, "[2 3]", [][]float32{{1, 2, 3}, {4, 5, 6}}},
		{[2][2]int16{{1, 2}, {3, 4}}, Int16, "[2 2]", [][]int16{{1, 2}, {3, 4}}},
		{[][][]string{{{"a"}, {"b"}}}, String, "[1 2 1]", [][][]string{{{"a"}, {"b"}}}},
		{[][]bool{{true, false}}, Uint8, "[1 2]", [][]uint8{{1, 0}}},
		{[]celsius{21.5}, Float32, "[1]", []float32{21.5}},
		{[]Float16Bits{0x3c00}, Float16, "[1]", []Float16Bits{0x3c00}},
		{[]uint16{0x3c00}, Uint16, "[1]", []uint16{0x3c00}},
		{[]float64{}, Float64, "[0]", []float64{}},
		{[][3]int8{}, Int8, "[0 3]", [][]int8{}},
		{[][]int8{{}, {}}, Int8, "[2 0]", [][]int8{{}, {}}},
	} {
		tensor, err := FromNested(c.in)
		if err != nil || tensor.Type != c.kind || fmt.Sprint(tensor.Shape) != c.shape {
			t.Errorf("%v became %+v, %v", c.in, tensor, err)
			continue
		}
		if err := tensor.check(); err != nil {
			t.Errorf("%v: %v", c.in, err)
		}
		if back, err := Nested(tensor); err != nil || !reflect.DeepEqual(back, c.back) {
			t.Errorf("%v came back as %#v, %v", c.in, back, err)
		}
	}
}

func TestWhatIsNoTensorIsRefused(t *testing.T) {
	for _, in := range []any{
		nil, struct{}{}, []any{1}, map[string]int{}, complex(1, 2), []complex64{},
		[][]int32{{1, 2}, {3}}, [][]int32{{}, {1}}, [][]int32{{1}, {}},
	} {
		if tensor, err := FromNested(in); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v became %+v, %v", in, tensor, err)
		}
	}
}

func TestRowsOfNothingDoNotFillTheMemory(t *testing.T) {
	if _, err := Nested(Tensor{Type: Uint8, Shape: []int64{1 << 30, 0}, Data: []byte{}}); err == nil {
		t.Error("a billion empty rows were made")
	}
	if _, err := Nested(Tensor{}); err == nil {
		t.Error("a tensor of no type became a value")
	}
}

func TestRowsCannotGrowIntoEachOther(t *testing.T) {
	nested, err := Nested(FromSlice([]int32{1, 2, 3, 4}, 2, 2))
	if err != nil {
		t.Fatal(err)
	}
	rows := nested.([][]int32)
	rows[0] = append(rows[0], 9)
	if rows[1][0] != 3 {
		t.Errorf("got %v", rows)
	}
}
