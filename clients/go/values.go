package graphpipe

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// Float16Bits is an IEEE 754 binary16 number as its bits; Go has no arithmetic for it.
type Float16Bits uint16

// Element is a Go type that a numeric tensor's elements can have.
type Element interface {
	uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64 | int64 | Float16Bits | float32 | float64
}

// TypeOf returns the tensor type that holds elements of type T.
func TypeOf[T Element]() Type {
	switch any(*new(T)).(type) {
	case uint8:
		return Uint8
	case int8:
		return Int8
	case uint16:
		return Uint16
	case int16:
		return Int16
	case uint32:
		return Uint32
	case int32:
		return Int32
	case uint64:
		return Uint64
	case int64:
		return Int64
	case Float16Bits:
		return Float16
	case float32:
		return Float32
	case float64:
		return Float64
	}
	return Null
}

// FromSlice makes a tensor of the shape over the slice, without copying it; with no shape it is one row of len(values).
// Whether the shape fits is checked when the tensor is sent.
func FromSlice[T Element](values []T, shape ...int64) Tensor {
	if len(shape) == 0 {
		shape = []int64{int64(len(values))}
	}
	return Tensor{Type: TypeOf[T](), Shape: shape, Data: littleEndian(bytesOf(values), int(unsafe.Sizeof(*new(T))))}
}

// Scalar makes a tensor of no dimensions.
func Scalar[T Element](value T) Tensor {
	t := FromSlice([]T{value})
	t.Shape = []int64{}
	return t
}

// FromStrings makes a String tensor of the shape, which holds a copy of the strings; with no shape it is one row of them.
func FromStrings(values []string, shape ...int64) Tensor {
	total := 0
	for _, s := range values {
		total += len(s)
	}
	all := make([]byte, 0, total)
	runs := make([][]byte, len(values))
	for i, s := range values {
		start := len(all)
		all = append(all, s...)
		runs[i] = all[start:len(all):len(all)]
	}
	return FromByteStrings(runs, shape...)
}

// FromByteStrings makes a String tensor of the shape over the elements, without copying them.
func FromByteStrings(values [][]byte, shape ...int64) Tensor {
	if len(shape) == 0 {
		shape = []int64{int64(len(values))}
	}
	return Tensor{Type: String, Shape: shape, Strings: values}
}

// Values returns a numeric tensor's elements, row-major. It views the tensor's own bytes where they lie at a multiple of
// the element's size, as they do in every answer that this project's servers give; otherwise it copies them.
func Values[T Element](t Tensor) ([]T, error) {
	if want := TypeOf[T](); t.Type != want {
		return nil, fmt.Errorf("graphpipe: the tensor is %v, not %v", t.Type, want)
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("graphpipe: %w", err)
	}
	if len(t.Data) == 0 {
		return []T{}, nil
	}
	size := int(unsafe.Sizeof(*new(T)))
	data := littleEndian(t.Data, size)
	if first := unsafe.Pointer(unsafe.SliceData(data)); uintptr(first)%uintptr(size) == 0 {
		return unsafe.Slice((*T)(first), len(data)/size), nil
	}
	values := make([]T, len(data)/size)
	copy(bytesOf(values), data)
	return values, nil
}

// StringValues returns a copy of a String tensor's elements, row-major. Their bytes need not be UTF-8.
func StringValues(t Tensor) ([]string, error) {
	if t.Type != String {
		return nil, fmt.Errorf("graphpipe: the tensor is %v, not %v", t.Type, String)
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("graphpipe: %w", err)
	}
	values := make([]string, len(t.Strings))
	for i, b := range t.Strings {
		values[i] = string(b)
	}
	return values, nil
}

// bytesOf views the memory of a slice.
func bytesOf[T Element](values []T) []byte {
	if len(values) == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(values[0])))
}

var hostIsLittleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// littleEndian turns the host's order into the wire's and back: for nothing on the usual hosts, by a copy on the others.
func littleEndian(b []byte, size int) []byte {
	if hostIsLittleEndian || size == 1 {
		return b
	}
	swapped := make([]byte, len(b))
	for i := 0; i < len(b); i += size {
		for j := range size {
			swapped[i+j] = b[i+size-1-j]
		}
	}
	return swapped
}
