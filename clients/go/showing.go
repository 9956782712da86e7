package graphpipe

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// showing is what one request shows.
type showing struct {
	host     *sameHost
	request  *InferRequest
	segments []*segment // by their descriptor's number, each held
	ours     []bool     // whether it is of the client's pool
	away     []bool     // by input
	places   []byte     // the value of GraphPipe-Memory
	area     []byte     // where outputs may be written
	areaIn   int        // the number of its descriptor
	areaAt   int64      // its place there
	inPlace  bool       // the area is the caller's own buffer
}

// lend shows what it can of a request, and copies into our own memory what lies elsewhere. It is nil if that is nothing.
func (s *sameHost) lend(req *InferRequest, buf []byte) *showing {
	g := &showing{host: s, request: req, away: make([]bool, len(req.Inputs))}
	var copied []int
	size, shown := 0, 0
	for i := range req.Inputs {
		t := &req.Inputs[i]
		if t.Type == String || len(t.Data) < shownEach || shown == shownMax {
			continue
		}
		shown++
		if !g.showInPlace(i, t.Data) {
			copied = append(copied, i)
			size += aligned(len(t.Data))
		}
	}
	if size > 0 {
		if ours := s.segments.take(size); ours != nil {
			number, at := g.add(ours, true), 0
			for _, i := range copied {
				data := req.Inputs[i].Data
				copy(ours.data[at:], data)
				g.show(i, number, int64(at), len(data))
				at += aligned(len(data))
			}
		}
	}
	if len(g.places) == 0 {
		g.end(true)
		return nil
	}
	g.bringRoom(buf)
	return g
}

// showInPlace shows an input that lies in memory of [Alloc], unless that would be too many descriptors: one is left for what is
// copied, and one for the answer.
func (g *showing) showInPlace(i int, data []byte) bool {
	s, at := g.host.allocated.find(data)
	if s == nil {
		return false
	}
	number := slices.Index(g.segments, s)
	switch {
	case at%placeAlign != 0 || number < 0 && len(g.segments) >= descriptorsMax-2:
		s.leave()
		return false
	case number < 0:
		number = g.add(s, false)
	default:
		s.leave() // it is held already
	}
	g.show(i, number, at, len(data))
	return true
}

func (g *showing) add(s *segment, ours bool) int {
	g.segments, g.ours = append(g.segments, s), append(g.ours, ours)
	return len(g.segments) - 1
}

func (g *showing) show(i, number int, at int64, length int) {
	if len(g.places) > 0 {
		g.places = append(g.places, ", "...)
	}
	g.places = append(strconv.AppendInt(g.places, int64(i), 10), '=')
	g.places = appendPlace(g.places, number, at, length)
	g.away[i] = true
}

func appendPlace(b []byte, number int, at int64, length int) []byte {
	b = append(strconv.AppendInt(b, int64(number), 10), ':')
	b = append(strconv.AppendInt(b, at, 10), '+')
	return strconv.AppendInt(b, int64(length), 10)
}

// bringRoom says where outputs may be written: into the caller's own buffer if that can be shown, else into ours.
func (g *showing) bringRoom(buf []byte) {
	whole := buf[:cap(buf)]
	if s, at := g.host.allocated.find(whole); s != nil {
		skip := int(-at & (placeAlign - 1))
		if len(whole) > skip && !g.holdsInputsIn(whole) {
			number := slices.Index(g.segments, s)
			if number < 0 {
				number = g.add(s, false)
			} else {
				s.leave()
			}
			g.area, g.areaIn, g.areaAt, g.inPlace = whole[skip:], number, at+int64(skip), true
			return
		}
		s.leave()
	}
	if room := g.host.roomFor(g.request); room > 0 {
		if ours := g.host.segments.take(room); ours != nil {
			g.area, g.areaIn = ours.data[:room], g.add(ours, true)
		}
	}
}

// holdsInputsIn says whether an input has bytes among these.
func (g *showing) holdsInputsIn(b []byte) bool {
	start := addressOf(b)
	for i := range g.request.Inputs {
		data := g.request.Inputs[i].Data
		if first := addressOf(data); len(data) > 0 && first < start+uintptr(len(b)) && start < first+uintptr(len(data)) {
			return true
		}
	}
	return false
}

// parcel is the request as it is sent.
func (g *showing) parcel() (parcel, error) {
	message, err := encodeRequestApart(&Request{Infer: g.request}, g.away)
	if err != nil {
		return parcel{}, err
	}
	fields := append(append([]byte(memoryHeader+": "), g.places...), "\r\n"...)
	if g.area != nil {
		fields = append(appendPlace(append(fields, memoryAnswerHeader+": "...), g.areaIn, g.areaAt, len(g.area)), "\r\n"...)
	}
	fds := make([]int, len(g.segments))
	for i, s := range g.segments {
		fds[i] = s.fd
	}
	return parcel{message, fields, fds}, nil
}

// keep takes note of what the server goes on looking at: none of it is shown or written to again.
func (g *showing) keep(header http.Header) error {
	for _, text := range header[memoryKeptHeader] {
		for _, word := range strings.Split(text, ",") {
			number, ok := digits(strings.TrimSpace(word))
			if !ok || number >= int64(len(g.segments)) {
				return fmt.Errorf("the answer keeps the descriptor %.40q of %d", word, len(g.segments))
			}
			g.segments[number].spent.Store(true)
		}
	}
	return nil
}

// read reads a good answer, whose outputs may lie in the area.
func (g *showing) read(reply *http.Response, buf []byte) (*InferResponse, []byte, error) {
	text := strings.Join(reply.Header[memoryHeader], ",")
	if text == "" {
		answer, err := receive(reply, g.host.answerBytesMax, buf)
		if err != nil {
			return nil, buf, err
		}
		resp, err := DecodeInferResponse(answer)
		return resp, answer, err
	}
	outputs, total, err := g.outputs(text)
	if err != nil {
		return nil, buf, err
	}
	if total > g.host.answerBytesMax {
		return nil, buf, fmt.Errorf("%w: over the limit of %d bytes", ErrAnswerTooLarge, g.host.answerBytesMax)
	}
	message, err := receive(reply, g.host.answerBytesMax-total, nil)
	if err != nil {
		return nil, buf, err
	}
	resp, err := decodeInferResponse(message, outputs)
	if err != nil {
		return nil, buf, err
	}
	if g.inPlace {
		return resp, buf[:cap(buf)], nil
	}
	return resp, g.takeOut(resp, outputs, buf), nil
}

// outputs are the bytes in the area, by output, and how many they are.
func (g *showing) outputs(text string) (map[int][]byte, int64, error) {
	found := map[int][]byte{}
	type span struct{ from, to int64 }
	var spans []span
	var total int64
	for _, entry := range strings.Split(text, ",") {
		index, place, _ := strings.Cut(strings.TrimSpace(entry), "=")
		from, length, _ := strings.Cut(place, "+")
		i, ok := digits(index)
		at, ok2 := digits(from)
		n, ok3 := digits(length)
		if !ok || !ok2 || !ok3 || i >= entriesMax || at%placeAlign != 0 || at+n > int64(len(g.area)) {
			return nil, 0, fmt.Errorf("the answer has an output at %.40q of the %d bytes that it was lent", entry, len(g.area))
		}
		if _, twice := found[int(i)]; twice {
			return nil, 0, fmt.Errorf("the answer has output %d twice", i)
		}
		found[int(i)] = g.area[at : at+n : at+n]
		spans = append(spans, span{at, at + n})
		total += n
	}
	slices.SortFunc(spans, func(a, b span) int { return int(a.from - b.from) })
	for i := 1; i < len(spans); i++ {
		if spans[i].from < spans[i-1].to {
			return nil, 0, errors.New("the answer has outputs on top of each other")
		}
	}
	return found, total, nil
}

// takeOut copies outputs from our area, which the next call needs, to the caller's buffer, or to new memory where that is too
// small.
func (g *showing) takeOut(resp *InferResponse, outputs map[int][]byte, buf []byte) []byte {
	size := 0
	for _, data := range outputs {
		size += aligned(len(data))
	}
	if size > cap(buf) {
		buf = make([]byte, 0, size)
	}
	buf = buf[:0]
	for i := range resp.Outputs {
		if data, ok := outputs[i]; ok {
			at := len(buf)
			buf = append(buf, data...)
			resp.Outputs[i].Data = buf[at:len(buf):len(buf)]
			buf = buf[:min(aligned(len(buf)), cap(buf))]
		}
	}
	return buf
}

// end gives back what was lent. If nobody knows whether the server still looks at it, it is not used again.
func (g *showing) end(answered bool) {
	for number, s := range g.segments {
		if !answered && (g.ours[number] || g.inPlace && number == g.areaIn) {
			s.spent.Store(true)
		}
		if g.ours[number] {
			g.host.segments.put(s)
		} else {
			s.leave()
		}
	}
	g.segments, g.ours = nil, nil
}

// digits reads a number as the fields have it: no sign, no leading zero.
func digits(text string) (int64, bool) {
	if text == "" || len(text) > 18 || len(text) > 1 && text[0] == '0' {
		return 0, false
	}
	n := int64(0)
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

func aligned(n int) int { return (n + placeAlign - 1) &^ (placeAlign - 1) }
