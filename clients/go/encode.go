package graphpipe

import "strings"

// MarshalBinary returns the request as one slice. [Client] does not use it: it sends the tensors from where they are.
func (r *Request) MarshalBinary() ([]byte, error) { return joined(encodeRequest(r)) }

// MarshalBinary returns the response as one slice. [Handler] does not use it: it sends the tensors from where they are.
func (r *InferResponse) MarshalBinary() ([]byte, error) { return joined(encodeInferResponse(r)) }

// MarshalBinary returns the metadata as one slice, the body of an answer.
func (m *Metadata) MarshalBinary() ([]byte, error) { return joined(encodeMetadata(m)) }

func joined(s segments, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return s.joined(), nil
}

func encodeRequest(r *Request) (segments, error) { return encodeRequestApart(r, nil) }

// encodeRequestApart leaves the bytes of those inputs out of the message for which away is true.
func encodeRequestApart(r *Request, away []bool) (segments, error) {
	w := newWriter()
	request := w.child(w.slot(), layoutRequest)
	if r.Infer == nil {
		w.setUint8(request.field(8), reqMetadata)
		w.child(request.field(4), layoutMetadataRequest)
		return w.finish()
	}
	if err := checkOutgoing("input", r.Infer.Inputs); err != nil {
		return nil, err
	}
	w.setUint8(request.field(8), reqInfer)
	infer := w.child(request.field(4), layoutInferRequest)
	w.word(infer.field(4), r.Infer.Config)
	w.words(infer.field(8), r.Infer.InputNames)
	w.words(infer.field(16), r.Infer.OutputNames)
	w.tensors(infer.field(12), r.Infer.Inputs, away)
	return w.finish()
}

func encodeInferResponse(r *InferResponse) (segments, error) {
	if err := checkOutgoing("output", r.Outputs); err != nil {
		return nil, err
	}
	w := newWriter()
	root := w.slot()
	if len(r.Errors) == 0 {
		response := w.child(root, layoutInferResponse)
		w.tensors(response.field(4), r.Outputs, nil)
		return w.finish()
	}
	response := w.child(root, layoutFailedResponse)
	first, ok := w.entries(response.field(8), len(r.Errors))
	for i := 0; ok && i < len(r.Errors); i++ {
		one := w.child(first.field(4*i), layoutError)
		w.setInt64(one.field(8), int64(r.Errors[i].Code))
		w.word(one.field(4), strings.ToValidUTF8(r.Errors[i].Message, "\ufffd")) // an error about odd text must not fail
	}
	w.tensors(response.field(4), r.Outputs, nil)
	return w.finish()
}

func encodeMetadata(m *Metadata) (segments, error) {
	for _, all := range [][]TensorSpec{m.Inputs, m.Outputs} {
		for i := range all {
			if err := all[i].check(); err != nil {
				return nil, err
			}
		}
	}
	w := newWriter()
	meta := w.child(w.slot(), layoutMetadata)
	w.word(meta.field(4), m.Name)
	w.word(meta.field(8), m.Version)
	w.word(meta.field(12), m.Server)
	w.word(meta.field(16), m.Description)
	w.ios(meta.field(20), m.Inputs)
	w.ios(meta.field(24), m.Outputs)
	return w.finish()
}

func (w *writer) ios(slot place, all []TensorSpec) {
	first, ok := w.entries(slot, len(all))
	for i := 0; ok && i < len(all); i++ {
		one := w.child(first.field(4*i), layoutTensorSpec)
		w.word(one.field(4), all[i].Name)
		w.word(one.field(8), all[i].Description)
		w.shape(one.field(12), all[i].Shape)
		w.setUint8(one.field(16), uint8(all[i].Type))
	}
}

// tensors writes the tables of all tensors, with their strings, and after them the bytes of all tensors. It comes last in a
// message: what the bytes of a tensor are followed by should be the bytes of the next. Those for which away is true have none.
func (w *writer) tensors(slot place, all []Tensor, away []bool) {
	first, ok := w.entries(slot, len(all))
	if !ok {
		return
	}
	var few [8]place
	data := few[:0]
	for i := range all {
		t := &all[i]
		if t.Type == String {
			one := w.child(first.field(4*i), layoutStringTensor)
			w.setUint8(one.field(12), uint8(t.Type))
			w.shape(one.field(4), t.Shape)
			w.runs(one.field(8), t.Strings)
			continue
		}
		one := w.child(first.field(4*i), layoutTensor)
		w.setUint8(one.field(12), uint8(t.Type))
		w.shape(one.field(4), t.Shape)
		data = append(data, one.field(8))
	}
	for i := range all {
		if all[i].Type != String {
			if len(away) > 0 && away[i] {
				w.data(data[0], nil)
			} else {
				w.data(data[0], all[i].Data)
			}
			data = data[1:]
		}
	}
}

// checkOutgoing says which tensor cannot be sent, and why.
func checkOutgoing(role string, all []Tensor) error {
	strings := 0
	for i := range all {
		if err := all[i].check(); err != nil {
			return invalid("%s %d: %v", role, i, err)
		}
		strings += len(all[i].Strings)
	}
	if strings > stringsMax {
		return invalid("%d strings in one message, at most %d are allowed", strings, stringsMax)
	}
	return nil
}

func (m *TensorSpec) check() error {
	if !m.Type.known() {
		return invalid("%q has the unknown element type %d", m.Name, uint8(m.Type))
	}
	if len(m.Shape) > dimsMax {
		return invalid("%q has %d dimensions, at most %d are allowed", m.Name, len(m.Shape), dimsMax)
	}
	for _, d := range m.Shape {
		if d < -1 {
			return invalid("%q has the dimension %d", m.Name, d)
		}
	}
	return nil
}
