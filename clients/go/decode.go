package graphpipe

import "fmt"

// The members of the union Req.
const (
	reqInfer    = 1
	reqMetadata = 2
)

// DecodeRequest reads the body of a request. Its tensors borrow b. Whatever the bytes are, it returns a request or an error
// that wraps [ErrMalformed].
func DecodeRequest(b []byte) (*Request, error) {
	return decodeRequest(b, stringsMax)
}

// decodeRequest is DecodeRequest with a bound on the strings of all tensors together, over which it is errTooManyStrings.
func decodeRequest(b []byte, most int) (*Request, error) {
	r, root, err := newReader(b)
	if err != nil {
		return nil, err
	}
	r.strings = min(most, stringsMax)
	kind, err := root.uint8(0)
	if err != nil {
		return nil, err
	}
	if kind == 0 {
		return nil, malformed("a request of no kind")
	}
	if kind > reqMetadata {
		return nil, fmt.Errorf("%w: a request of kind %d; known are inference (1) and metadata (2)", ErrUnsupported, kind)
	}
	body, present, err := root.table(1)
	if err != nil {
		return nil, err
	}
	if !present {
		return nil, malformed("request of kind %d is empty", kind)
	}
	if kind == reqMetadata {
		return &Request{}, nil
	}
	infer, err := readInferRequest(body)
	if err != nil {
		return nil, err
	}
	return &Request{Infer: infer}, nil
}

func readInferRequest(t table) (*InferRequest, error) {
	var req InferRequest
	var errs [4]error
	req.Config, errs[0] = t.word(0)
	req.InputNames, errs[1] = t.words(1)
	req.Inputs, errs[2] = tables(t, 2, func(t table) (Tensor, error) { return readTensor(t, nil, false) })
	req.OutputNames, errs[3] = t.words(3)
	return &req, firstOf(errs[:])
}

// DecodeInferResponse reads the body of an inference's answer. Its tensors borrow b. Whatever the bytes are, it returns a
// response or an error that wraps [ErrMalformed]. An unreadable list of errors is ignored where there are outputs: one of
// the original servers writes such.
func DecodeInferResponse(b []byte) (*InferResponse, error) { return decodeInferResponse(b, nil) }

// decodeInferResponse takes the bytes of some outputs, by their place, from elsewhere: in the message these have none.
func decodeInferResponse(b []byte, elsewhere map[int][]byte) (*InferResponse, error) {
	_, root, err := newReader(b)
	if err != nil {
		return nil, err
	}
	var resp InferResponse
	next := 0
	resp.Outputs, err = tables(root, 0, func(t table) (Tensor, error) {
		data, away := elsewhere[next]
		next++
		return readTensor(t, data, away)
	})
	if err != nil {
		return nil, err
	}
	for i := range elsewhere {
		if i >= len(resp.Outputs) {
			return nil, malformed("bytes of output %d came beside the message, which has %d outputs", i, len(resp.Outputs))
		}
	}
	resp.Errors, err = tables(root, 1, readError)
	if err != nil && len(resp.Outputs) == 0 {
		return nil, err
	}
	return &resp, nil
}

// DecodeMetadata reads the body of an answer to a request for metadata. Whatever the bytes are, it returns metadata or an
// error that wraps [ErrMalformed].
func DecodeMetadata(b []byte) (*Metadata, error) {
	_, root, err := newReader(b)
	if err != nil {
		return nil, err
	}
	var m Metadata
	var errs [6]error
	m.Name, errs[0] = root.word(0)
	m.Version, errs[1] = root.word(1)
	m.Server, errs[2] = root.word(2)
	m.Description, errs[3] = root.word(3)
	m.Inputs, errs[4] = tables(root, 4, readTensorSpec)
	m.Outputs, errs[5] = tables(root, 5, readTensorSpec)
	if err := firstOf(errs[:]); err != nil {
		return nil, err
	}
	return &m, nil
}

// readTensor reads a tensor, whose bytes may be away from the message.
func readTensor(t table, elsewhere []byte, away bool) (Tensor, error) {
	var tensor Tensor
	var errs [5]error
	tensor.Type, errs[0] = t.elementType(0)
	tensor.Shape, errs[1] = t.shape(1, 0)
	tensor.Data, errs[2] = t.run(2)
	tensor.Strings, errs[3] = t.strings(3)
	isBool, err := t.uint8(4)
	errs[4] = err
	if err := firstOf(errs[:]); err != nil {
		return Tensor{}, err
	}
	if away {
		if len(tensor.Data) != 0 {
			return Tensor{}, malformed("a tensor whose bytes came beside the message has %d bytes in it too", len(tensor.Data))
		}
		tensor.Data = elsewhere
	}
	if away && tensor.Type == String {
		return Tensor{}, malformed("bytes of a string tensor came beside the message; strings travel in it")
	}
	if err := tensor.check(); err != nil {
		return Tensor{}, malformed("%v", err)
	}
	if isBool != 0 && tensor.Type != Uint8 {
		return Tensor{}, malformed("a tensor of %v is marked as bool; only uint8 carries bool", tensor.Type)
	}
	return tensor, nil
}

func readError(t table) (ErrorEntry, error) {
	code, err := t.int64(0)
	if err != nil {
		return ErrorEntry{}, err
	}
	message, err := t.word(1)
	return ErrorEntry{Code: Code(code), Message: message}, err
}

func readTensorSpec(t table) (TensorSpec, error) {
	var spec TensorSpec
	var errs [4]error
	spec.Name, errs[0] = t.word(0)
	spec.Description, errs[1] = t.word(1)
	spec.Shape, errs[2] = t.shape(2, -1)
	number, err := t.uint8(3)
	errs[3] = err
	if spec.Type = Type(number); !spec.Type.known() {
		spec.Type, spec.TypeNumber = Null, number // of a later writer
	}
	return spec, firstOf(errs[:])
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
