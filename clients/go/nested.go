package graphpipe

import (
	"fmt"
	"reflect"
	"unsafe"
)

// nestedRowsMax bounds the slice headers that a tensor without elements may turn into: [1 << 28, 0] takes no bytes on the wire.
const nestedRowsMax = 1 << 20

var (
	float16Type = reflect.TypeFor[Float16Bits]()
	goTypes     = [...]reflect.Type{
		Uint8: reflect.TypeFor[uint8](), Int8: reflect.TypeFor[int8](),
		Uint16: reflect.TypeFor[uint16](), Int16: reflect.TypeFor[int16](),
		Uint32: reflect.TypeFor[uint32](), Int32: reflect.TypeFor[int32](),
		Uint64: reflect.TypeFor[uint64](), Int64: reflect.TypeFor[int64](),
		Float16: float16Type, Float32: reflect.TypeFor[float32](), Float64: reflect.TypeFor[float64](),
		String: reflect.TypeFor[string](),
	}
)

// FromNested makes a tensor of a number, bool or string, or of slices and arrays of them nested to any depth, whose rows
// must be of one length. An int becomes int64, a uint uint64, a bool uint8. The values are copied.
func FromNested(v any) (Tensor, error) {
	value := reflect.ValueOf(v)
	if !value.IsValid() {
		return Tensor{}, invalid("nil is no tensor")
	}
	shape := []int64{}
	leaf, probe := value.Type(), value
	for leaf.Kind() == reflect.Slice || leaf.Kind() == reflect.Array {
		n := 0
		switch {
		case probe.IsValid():
			n = probe.Len()
		case leaf.Kind() == reflect.Array:
			n = leaf.Len() // below an empty slice only the type knows
		}
		shape = append(shape, int64(n))
		if probe.IsValid() && n > 0 {
			probe = probe.Index(0)
		} else {
			probe = reflect.Value{}
		}
		leaf = leaf.Elem()
	}
	t := Tensor{Type: typeOfGo(leaf), Shape: shape}
	if t.Type == Null {
		return Tensor{}, invalid("%v has no tensor type", leaf)
	}
	n, err := elements(shape, t.Type.Size())
	if err != nil {
		return Tensor{}, invalid("%v", err)
	}
	flat := reflect.MakeSlice(reflect.SliceOf(goTypes[t.Type]), int(n), int(n))
	if _, err := fill(flat, value, shape); err != nil {
		return Tensor{}, err
	}
	if t.Type == String {
		t = FromStrings(flat.Interface().([]string))
		t.Shape = shape
		return t, nil
	}
	t.Data = littleEndian(memoryOf(flat), t.Type.Size())
	return t, nil
}

// fill copies nested values of the shape to the front of flat and returns the rest of it.
func fill(flat, value reflect.Value, shape []int64) (rest reflect.Value, err error) {
	if len(shape) == 0 {
		setElement(flat.Index(0), value)
		return flat.Slice(1, flat.Len()), nil
	}
	n := value.Len()
	if int64(n) != shape[0] {
		return flat, invalid("a row has %d values where the first has %d", n, shape[0])
	}
	if len(shape) == 1 && value.Type().Elem() == flat.Type().Elem() {
		reflect.Copy(flat, value)
		return flat.Slice(n, flat.Len()), nil
	}
	for i := 0; i < n && err == nil; i++ {
		flat, err = fill(flat, value.Index(i), shape[1:])
	}
	return flat, err
}

func setElement(to, from reflect.Value) {
	if from.Kind() != reflect.Bool {
		to.Set(from.Convert(to.Type()))
	} else if from.Bool() {
		to.SetUint(1)
	}
}

// typeOfGo returns the tensor type that a Go type's values travel as.
func typeOfGo(t reflect.Type) Type {
	switch t.Kind() {
	case reflect.Bool:
		return Uint8
	case reflect.Int:
		return Int64
	case reflect.Uint:
		return Uint64
	}
	if t == float16Type {
		return Float16
	}
	for i, g := range goTypes {
		if g != nil && g.Kind() == t.Kind() && Type(i) != Float16 {
			return Type(i)
		}
	}
	return Null
}

// memoryOf views the memory of a slice of numbers.
func memoryOf(flat reflect.Value) []byte {
	return unsafe.Slice((*byte)(flat.UnsafePointer()), flat.Len()*int(flat.Type().Elem().Size()))
}

// Nested returns a copy of the tensor as Go values: a number or string for a scalar, else nested slices, such as [][]float32.
func Nested(t Tensor) (any, error) {
	if t.Type == Null || !t.Type.known() {
		return nil, fmt.Errorf("graphpipe: a tensor of %v has no Go type", t.Type)
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("graphpipe: %w", err)
	}
	n, _ := elements(t.Shape, t.Type.Size())
	rows := int64(1)
	for _, d := range t.Shape[:max(len(t.Shape)-1, 0)] {
		rows *= d
		if n == 0 && rows > nestedRowsMax {
			return nil, fmt.Errorf("graphpipe: shape %v has no elements but %d rows", t.Shape, rows)
		}
	}
	flat := reflect.MakeSlice(reflect.SliceOf(goTypes[t.Type]), int(n), int(n))
	if t.Type == String {
		for i, b := range t.Strings {
			flat.Index(i).SetString(string(b))
		}
	} else {
		copy(memoryOf(flat), littleEndian(t.Data, t.Type.Size()))
	}
	if len(t.Shape) == 0 {
		return flat.Index(0).Interface(), nil
	}
	nested, _ := nest(flat, t.Shape)
	return nested.Interface(), nil
}

// nest cuts the elements into slices of the shape and returns the elements that are left.
func nest(flat reflect.Value, shape []int64) (nested, rest reflect.Value) {
	n := int(shape[0])
	if len(shape) == 1 {
		return flat.Slice3(0, n, n), flat.Slice(n, flat.Len())
	}
	row := flat.Type()
	for range shape[1:] {
		row = reflect.SliceOf(row)
	}
	nested = reflect.MakeSlice(row, n, n)
	for i := range n {
		var one reflect.Value
		one, flat = nest(flat, shape[1:])
		nested.Index(i).Set(one)
	}
	return nested, flat
}
