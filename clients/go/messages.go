package graphpipe

// InferRequest asks to run the model once.
type InferRequest struct {
	// Inputs are the model's inputs.
	Inputs []Tensor
	// InputNames names the input at the same place. A missing or empty name means the server's default input there.
	InputNames []string
	// OutputNames are the wanted outputs, in order; repeats are allowed, and an empty name is the default output at its
	// place. None at all asks for the server's default outputs.
	OutputNames []string
	// Config is opaque to everybody but the model.
	Config string
}

// Request is the root of every request body.
type Request struct {
	// Infer is the inference that is asked for; nil asks for metadata.
	Infer *InferRequest
}

// InferResponse is the body of an inference's answer. On the wire outputs carry no names: they come in the order in which
// they were asked for.
type InferResponse struct {
	Outputs []Tensor
	Errors  []ErrorEntry
}

// ErrorEntry is one reason for the lack of an answer.
type ErrorEntry struct {
	Code    Code
	Message string
}

// Metadata is what a model says of itself. Its JSON form has the keys that GET answers with.
type Metadata struct {
	Name        string
	Version     string
	Server      string
	Description string
	// Inputs and Outputs are the defaults, in order.
	Inputs  []TensorSpec
	Outputs []TensorSpec
}

// TensorSpec describes one input or output.
type TensorSpec struct {
	Name        string
	Description string
	// Shape has -1 for a dimension that varies. An empty shape is a scalar's or an unknown one.
	Shape []int64
	// Type is Null where it is unknown.
	Type Type
	// TypeNumber is the number on the wire of a type that this package does not know; else 0. It is never sent.
	TypeNumber uint8 `json:"-"`
}
