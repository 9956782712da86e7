package graphpipe

import "fmt"

// Tensor is an n-dimensional array in the wire's own form.
//
// A tensor made by [FromSlice] borrows the caller's slice; a decoded one borrows the buffer of its message. Neither is
// changed by this package. Leave the bytes as they are until the call that uses them has returned.
type Tensor struct {
	// Type is the type of the elements.
	Type Type
	// Shape counts elements along each axis, outermost first. An empty shape is a scalar; [0, 3] holds nothing.
	Shape []int64
	// Data holds the elements of every type but String: row-major, little-endian, with nothing between them.
	Data []byte
	// Strings holds the elements of a String tensor, row-major: any bytes, zeros included.
	Strings [][]byte
}

// The limits of docs/wire.md.
const (
	dimsMax    = 32
	entriesMax = 4096      // of each vector of tensors, names, errors, and described inputs or outputs
	stringsMax = 1 << 24   // of one message
	textMax    = 1 << 24   // bytes of names, config and other words of one message
	messageMax = 1<<31 - 1 // bytes; FlatBuffers offsets have 31 bits
)

// check says what keeps the tensor from being sent or used: the one rule for our own tensors and for received ones.
func (t *Tensor) check() error {
	if !t.Type.known() || t.Type == Null {
		return fmt.Errorf("element type %d has no elements", uint8(t.Type))
	}
	size := t.Type.Size()
	if t.Type == String {
		size = 4 // of its offset
	}
	n, err := elements(t.Shape, size)
	if err != nil {
		return err
	}
	if t.Type == String {
		if len(t.Strings) > stringsMax {
			return fmt.Errorf("%d strings, at most %d are allowed", len(t.Strings), stringsMax)
		}
		if len(t.Data) != 0 {
			return fmt.Errorf("string tensor with %d bytes of numeric data", len(t.Data))
		}
		if int64(len(t.Strings)) != n {
			return fmt.Errorf("shape %v needs %d strings, got %d", t.Shape, n, len(t.Strings))
		}
		return nil
	}
	if len(t.Strings) != 0 {
		return fmt.Errorf("%v tensor with %d strings", t.Type, len(t.Strings))
	}
	if want := n * int64(t.Type.Size()); int64(len(t.Data)) != want {
		return fmt.Errorf("shape %v of %v needs %d bytes, got %d", t.Shape, t.Type, want, len(t.Data))
	}
	return nil
}

// elements multiplies a shape out. The product is bounded with every 0 counted as 1, so that no reader of any language
// meets a shape like [0, 1<<62] that its arrays cannot have.
func elements(shape []int64, size int) (int64, error) {
	if len(shape) > dimsMax {
		return 0, fmt.Errorf("%d dimensions, at most %d are allowed", len(shape), dimsMax)
	}
	n, bounded := int64(1), int64(max(size, 1))
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		if d > messageMax || bounded*max(d, 1) > messageMax {
			return 0, fmt.Errorf("shape %v is too large: a tensor must stay under 2 GiB", shape)
		}
		n *= d
		bounded *= max(d, 1)
	}
	return n, nil
}
