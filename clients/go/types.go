package graphpipe

import "fmt"

// Type is the element type of a tensor. Its numbers are the wire's.
type Type uint8

// The element types. There is no bool and no bfloat16: a bool travels as [Uint8], a bfloat16 not at all.
const (
	Null    Type = iota // no type; in metadata: unknown
	Uint8               // also carries bool, as 0 and 1
	Int8                //
	Uint16              //
	Int16               //
	Uint32              //
	Int32               //
	Uint64              //
	Int64               //
	Float16             // IEEE 754 binary16, held as [Float16Bits]
	Float32             //
	Float64             //
	String              // each element is a run of bytes of any length and content
)

var typeNames = [...]string{
	"null", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64", "string",
}

// typeSizes counts the bytes of one element in Tensor.Data; Null and String have none there.
var typeSizes = [...]int{0, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8, 0}

// String returns the type's name in lower case, as in "float32".
func (t Type) String() string {
	if !t.known() {
		return fmt.Sprintf("type(%d)", uint8(t))
	}
	return typeNames[t]
}

// Size returns the bytes of one element, or 0 for [Null], [String] and unknown types.
func (t Type) Size() int {
	if !t.known() {
		return 0
	}
	return typeSizes[t]
}

// TypeNamed returns the type whose [Type.String] is name.
func TypeNamed(name string) (Type, bool) {
	for i, n := range typeNames {
		if n == name {
			return Type(i), true
		}
	}
	return Null, false
}

func (t Type) known() bool { return int(t) < len(typeNames) }
