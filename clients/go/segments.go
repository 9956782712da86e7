package graphpipe

// segments is a message in pieces: our own bytes and, between them, the caller's tensors where they are.
type segments [][]byte

func (s segments) size() int64 {
	var n int64
	for _, b := range s {
		n += int64(len(b))
	}
	return n
}

// joined copies the message into one slice.
func (s segments) joined() []byte {
	all := make([]byte, 0, s.size())
	for _, b := range s {
		all = append(all, b...)
	}
	return all
}
