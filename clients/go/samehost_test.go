//go:build linux && (amd64 || arm64)

package graphpipe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// numbered is n floats that no other seed has.
func numbered(n, seed int) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(i%65536) + float32(seed)/64
	}
	return values
}

func infer(t *testing.T, c *Client, inputs ...Tensor) []Tensor {
	t.Helper()
	outputs, err := c.Infer(context.Background(), &InferRequest{Inputs: inputs})
	if err != nil {
		t.Fatal(err)
	}
	return outputs
}

func sameTensors(t *testing.T, got, want []Tensor) {
	t.Helper()
	for i := range want {
		if len(got) != len(want) || got[i].Type != want[i].Type || !slices.Equal(got[i].Shape, want[i].Shape) ||
			!bytes.Equal(got[i].Data, want[i].Data) || !slices.EqualFunc(got[i].Strings, want[i].Strings, bytes.Equal) {
			t.Error("the outputs are not what was sent")
			return
		}
	}
}

func TestLargeTensorsAreShownAndTheMessageIsSmall(t *testing.T) {
	p := newPeer(t, echoed)
	c := newClient(t, "unix:"+p.socket)
	for i := range 5 {
		large, small := FromSlice(numbered(200_000, i), 100, 2000), FromSlice([]int64{1, 2, 3})
		inputs := []Tensor{small, large, FromStrings([]string{"a", "b"}), FromSlice(numbered(70_000, i))}
		sameTensors(t, infer(t, c, inputs...), inputs)
	}
	questions, asked := p.seen()
	if asked != 1 || len(questions) != 5 {
		t.Fatalf("asked %d times, %d requests", asked, len(questions))
	}
	segments := map[uint64]bool{}
	for i, q := range questions {
		if len(q.body) > 2000 || len(q.memory) > 2 {
			t.Errorf("request %d has %d bytes and %d descriptors", i, len(q.body), len(q.memory))
		}
		if room := len(q.area()); (room > 0) != (i > 0) {
			t.Errorf("request %d brings room for %d bytes", i, room)
		}
		for _, inode := range q.inodes {
			segments[inode] = true
		}
	}
	if len(segments) != 2 {
		t.Errorf("%d segments, where two can be used again", len(segments))
	}
}

func TestWhatIsSmallGoesAsBytesOnAnotherConnection(t *testing.T) {
	p := newPeer(t, echoed)
	c := newClient(t, "unix:"+p.socket)
	sameTensors(t, infer(t, c, FromSlice(make([]byte, shownFrom-1))), []Tensor{FromSlice(make([]byte, shownFrom-1))})
	if questions, asked := p.seen(); asked != 0 || len(questions[0].body) < shownFrom-1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestAllocatedMemoryIsShownWhereItIsAndReceivesAnswers(t *testing.T) {
	p := newPeer(t, echoed)
	c := newClient(t, "unix:"+p.socket)
	values, free := Alloc[float32](c, 300_000)
	defer free()
	buf, freeBuf := Alloc[uint8](c, 4*300_000+128)
	defer freeBuf()
	for i := range 3 {
		copy(values, numbered(len(values), i))
		// The second half, from a place that is a multiple of 64.
		outputs, back, err := c.InferInto(context.Background(), &InferRequest{Inputs: []Tensor{FromSlice(values[160_000:])}}, buf[32:32])
		if err != nil {
			t.Fatal(err)
		}
		got, err := Values[float32](outputs[0])
		if err != nil || !bytes.Equal(bytesOf(got), bytesOf(numbered(len(values), i)[160_000:])) {
			t.Fatal("other values came back", err)
		}
		if addressOf(outputs[0].Data) != addressOf(buf)+64 || addressOf(back[:1]) != addressOf(buf)+32 {
			t.Error("the answer was copied")
		}
	}
	questions, _ := p.seen()
	var stat syscall.Stat_t
	s, _ := c.sameHost.allocated.find(bytesOf(values))
	defer s.leave()
	if err := syscall.Fstat(s.fd, &stat); err != nil {
		t.Fatal(err)
	}
	for _, q := range questions {
		if len(q.inodes) != 2 || q.inodes[0] != stat.Ino || q.head.Get("GraphPipe-Memory") != "0=0:640000+560000" {
			t.Errorf("shown is %v of %v", q.head.Get("GraphPipe-Memory"), q.inodes)
		}
	}
}

func TestMemoryOfOneServerIsNotShownToAnother(t *testing.T) {
	first, second := newPeer(t, echoed), newPeer(t, echoed)
	c, other := newClient(t, "unix:"+first.socket), newClient(t, "unix:"+second.socket)
	values, free := Alloc[float32](c, 100_000)
	defer free()
	infer(t, c, FromSlice(values))
	infer(t, other, FromSlice(values))
	one, _ := first.seen()
	two, _ := second.seen()
	if one[0].inodes[0] == two[0].inodes[0] {
		t.Error("the second server got the first one's memory")
	}
}

func TestAllocIsOrdinaryMemoryWhereNobodyCouldBeShownIt(t *testing.T) {
	c := newClient(t, "http://127.0.0.1:9")
	values, free := Alloc[float64](c, 1000)
	free()
	free()
	if values[999] = 1; len(values) != 1000 {
		t.Errorf("%d elements", len(values))
	}
	if none, _ := Alloc[int32](c, 0); len(none) != 0 {
		t.Errorf("%d elements", len(none))
	}
}

func TestTheSameBytesMayBeShownTwiceAndInPieces(t *testing.T) {
	p := newPeer(t, echoed)
	c := newClient(t, "unix:"+p.socket)
	values, free := Alloc[uint8](c, 1<<20)
	defer free()
	copy(values, bytesOf(numbered(1<<18, 3)))
	inputs := []Tensor{FromSlice(values), FromSlice(values), FromSlice(values[64:]), FromSlice(values[1 : 1<<19])}
	sameTensors(t, infer(t, c, inputs...), inputs)
	if questions, _ := p.seen(); len(questions[0].inodes) != 2 {
		t.Errorf("%d descriptors", len(questions[0].inodes))
	}
}

func TestNoMoreDescriptorsAreSentThanTheWireAllows(t *testing.T) {
	p := newPeer(t, echoed)
	c := newClient(t, "unix:"+p.socket)
	var inputs []Tensor
	for i := range 30 {
		values, free := Alloc[float32](c, 20_000)
		defer free()
		copy(values, numbered(20_000, i))
		inputs = append(inputs, FromSlice(values))
	}
	for range 2 {
		sameTensors(t, infer(t, c, inputs...), inputs)
	}
	questions, _ := p.seen()
	for _, q := range questions {
		if len(q.inodes) > descriptorsMax || len(q.body) > 20_000 {
			t.Errorf("%d descriptors, %d bytes", len(q.inodes), len(q.body))
		}
	}
}

func TestAnAnswerThatDoesNotFitComesInTheMessage(t *testing.T) {
	p := newPeer(t, echoed)
	c := newClient(t, "unix:"+p.socket)
	buf, free := Alloc[uint8](c, 1<<20)
	defer free()
	large := FromSlice(numbered(1<<20, 5))
	outputs, _, err := c.InferInto(context.Background(), &InferRequest{Inputs: []Tensor{large}}, buf)
	if err != nil {
		t.Fatal(err)
	}
	sameTensors(t, outputs, []Tensor{large})
}

func TestABufferIsUsedAgainForOutputsThatCameByMemory(t *testing.T) {
	p := newPeer(t, echoed)
	c := newClient(t, "unix:"+p.socket)
	inputs := []Tensor{FromSlice(numbered(100_000, 1)), FromSlice(numbered(90_001, 2))}
	buf := make([]byte, 0, 1<<20)
	for range 3 {
		outputs, back, err := c.InferInto(context.Background(), &InferRequest{Inputs: inputs}, buf)
		if err != nil {
			t.Fatal(err)
		}
		sameTensors(t, outputs, inputs)
		if &back[:1][0] != &buf[:1][0] {
			t.Error("other memory was taken")
		}
	}
	// Outputs are the caller's: the next call changes nothing in them.
	outputs := infer(t, c, inputs...)
	infer(t, c, FromSlice(numbered(100_000, 8)), FromSlice(numbered(90_001, 9)))
	sameTensors(t, outputs, inputs)
}

// --- other servers ----------------------------------------------------------------------------------------------------

func TestServersThatDoNotLookGetBytesAndAreAskedOnce(t *testing.T) {
	for name, agree := range map[string]string{
		"closes":         "",
		"200":            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"404":            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		"426":            "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
		"other protocol": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"no HTTP":        "what?\r\n\r\n",
		"more behind it": agreed + "and more",
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, echoed)
			p.agree = agree
			c := newClient(t, "unix:"+p.socket)
			for i := range 3 {
				input := FromSlice(numbered(100_000, i))
				sameTensors(t, infer(t, c, input), []Tensor{input})
			}
			questions, asked := p.seen()
			if asked != 1 || len(questions) != 3 || len(questions[2].inodes) != 0 {
				t.Errorf("asked %d times, %d requests", asked, len(questions))
			}
		})
	}
}

func TestAnHTTPServerOfNetHTTPGetsBytes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: Handler(echo{})}
	defer server.Close()
	go server.Serve(listener)
	c := newClient(t, "unix:"+socket)
	input := FromSlice(numbered(100_000, 1))
	sameTensors(t, infer(t, c, input), []Tensor{input})
}

func TestMemoryThatIsRefusedGoesAsBytes(t *testing.T) {
	p := newPeer(t, func(q *question) string {
		if len(q.memory) > 0 {
			return failure("400 Bad Request", "GraphPipe-Memory: refused\r\n")
		}
		return echoed(q)
	})
	c := newClient(t, "unix:"+p.socket)
	for i := range 3 {
		input := FromSlice(numbered(100_000, i))
		sameTensors(t, infer(t, c, input), []Tensor{input})
	}
	if questions, _ := p.seen(); len(questions) != 4 {
		t.Errorf("%d requests", len(questions))
	}
}

func TestAnErrorIsTheServersOwnAndIsNotTriedAgain(t *testing.T) {
	p := newPeer(t, func(*question) string { return failure("503 Service Unavailable", "") })
	c := newClient(t, "unix:"+p.socket)
	_, err := c.Infer(context.Background(), &InferRequest{Inputs: []Tensor{FromSlice(numbered(100_000, 1))}})
	var refused *Error
	if !errors.As(err, &refused) || refused.Status != 503 || refused.Message != "why" {
		t.Error(err)
	}
	if questions, _ := p.seen(); len(questions) != 1 {
		t.Errorf("%d requests", len(questions))
	}
}

func TestAServerThatComesBackIsShownMemoryAgain(t *testing.T) {
	p := newPeer(t, echoed)
	c := newClient(t, "unix:"+p.socket)
	input := FromSlice(numbered(100_000, 1))
	infer(t, c, input)
	p.listener.Close()
	p.mu.Lock()
	for _, q := range p.questions {
		q.conn.Close()
	}
	p.mu.Unlock()
	p.start(t)
	sameTensors(t, infer(t, c, input), []Tensor{input})
	if questions, asked := p.seen(); asked != 2 || len(questions[1].inodes) == 0 {
		t.Errorf("asked %d times", asked)
	}
}

func TestAServerThatIsNotThereIsUnreachable(t *testing.T) {
	c := newClient(t, "unix:"+filepath.Join(t.TempDir(), "none"))
	_, err := c.Infer(context.Background(), &InferRequest{Inputs: []Tensor{FromSlice(numbered(100_000, 1))}})
	if !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
}

func TestACallMayBeAskedToWaitForAPlaceAmongTheConnections(t *testing.T) {
	p := newPeer(t, echoed)
	c := newClient(t, "unix:"+p.socket, WithConnectionsMax(1))
	var group sync.WaitGroup
	for i := range 6 {
		group.Add(1)
		go func() {
			defer group.Done()
			input := FromSlice(numbered(100_000+i%2*-90_000, i))
			output, err := c.Execute(context.Background(), input)
			if err != nil || !bytes.Equal(output.Data, input.Data) {
				t.Error("another's answer", err)
			}
		}()
	}
	group.Wait()
}

func TestHeadersOfMemoryCannotBeSet(t *testing.T) {
	for _, key := range []string{"GraphPipe-Memory", "graphpipe-memory-answer"} {
		if _, err := New("unix:/s", WithHeader(key, "0=0:0+4")); err == nil {
			t.Errorf("%s was taken", key)
		}
	}
}

// --- memory that may not be used again --------------------------------------------------------------------------------

func TestWhatTheServerKeepsIsNeverWrittenAgain(t *testing.T) {
	p := newPeer(t, func(q *question) string {
		if len(q.inodes) == 0 {
			return echoed(q)
		}
		return strings.Replace(echoed(q), "\r\n", "\r\nGraphPipe-Memory-Kept: 0\r\n", 1)
	})
	c := newClient(t, "unix:"+p.socket)
	values, free := Alloc[float32](c, 100_000)
	defer free()
	for i := range 3 {
		copy(values, numbered(len(values), i))
		infer(t, c, FromSlice(values))
		infer(t, c, FromSlice(numbered(110_000, i)))
	}
	questions, _ := p.seen()
	seen := map[uint64]bool{}
	for _, q := range questions {
		if seen[q.inodes[0]] {
			t.Error("a segment that the server keeps was shown again")
		}
		seen[q.inodes[0]] = true
	}
}

func TestAfterACallWithoutAnAnswerItsMemoryIsNotUsedAgain(t *testing.T) {
	first := make(chan *question, 1)
	var late atomic.Bool
	p := newPeer(t, func(q *question) string {
		if len(q.inodes) > 1 && late.CompareAndSwap(false, true) {
			first <- q
			time.Sleep(300 * time.Millisecond) // longer than the caller waits
			area := q.area()
			for i := range area {
				area[i] = 0xff
			}
			return ""
		}
		return echoed(q)
	})
	c := newClient(t, "unix:"+p.socket)
	buf, free := Alloc[uint8](c, 1<<20)
	defer free()
	input := FromSlice(numbered(100_000, 1))
	infer(t, c, input)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := c.InferInto(ctx, &InferRequest{Inputs: []Tensor{input}}, buf); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	q := <-first
	for i := range 4 {
		again := FromSlice(numbered(100_000, 7+i))
		outputs, _, err := c.InferInto(context.Background(), &InferRequest{Inputs: []Tensor{again}}, buf)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // for the late writer
		sameTensors(t, outputs, []Tensor{again})
		questions, _ := p.seen()
		for _, inode := range questions[len(questions)-1].inodes {
			if inode == q.inodes[0] || inode == q.inodes[1] {
				t.Error("memory that the server may still look at was shown again")
			}
		}
	}
	if !bytes.Equal(q.inputs[0].Data, input.Data) {
		t.Error("what the server was shown has changed")
	}
}

func TestMemoryIsGivenBackWhenTheCallAndItsOwnerAreDone(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{})
	p := newPeer(t, func(q *question) string {
		close(entered)
		<-release
		return echoed(q)
	})
	c := newClient(t, "unix:"+p.socket)
	values, free := Alloc[float32](c, 100_000)
	copy(values, numbered(len(values), 4))
	done := make(chan Tensor)
	go func() {
		output, err := c.Execute(context.Background(), FromSlice(values))
		if err != nil {
			t.Error(err)
		}
		done <- output
	}()
	<-entered
	free() // too early, but what the call shows stays
	close(release)
	if output := <-done; !bytes.Equal(output.Data, bytesOf(numbered(100_000, 4))) {
		t.Error("other values came back")
	}
}

func TestNothingIsLeftWhenTheClientIsClosed(t *testing.T) {
	p := newPeer(t, echoed)
	warm := newClient(t, "unix:"+p.socket)
	infer(t, warm, FromSlice(numbered(100_000, 1)))
	warm.Close()
	settle := func() (int, int) {
		time.Sleep(100 * time.Millisecond) // for the peer to see that its connections ended
		p.forget()
		return held(t)
	}
	fds, maps := settle()
	for round := range 5 {
		c := newClient(t, "unix:"+p.socket)
		for i := range 20 {
			_, free := Alloc[float32](c, 1000)
			infer(t, c, FromSlice(numbered(70_000+40_000*(i%4), round)))
			free()
		}
		c.Close()
	}
	after, mapped := settle()
	for ends := time.Now().Add(20 * time.Second); (after != fds || mapped != maps) && time.Now().Before(ends); {
		after, mapped = settle()
	}
	if after != fds || mapped != maps {
		t.Errorf("%d descriptors and %d mappings are left of %d and %d", after, mapped, fds, maps)
	}
}

// --- answers that lie -------------------------------------------------------------------------------------------------

func TestAnswersThatLieAboutMemoryAreNoAnswers(t *testing.T) {
	const n = 400_000
	away := []bool{true}
	for _, lie := range []string{
		"0=0+400001", "0=64+400000", "0=1+399999", "0=-64+400000", "0=0+-1", "0=0", "0", "x", "=", "0=0+400000, 0=0+400000",
		"0=0+400000, 1=0+0", "1=0+400000", "9=0+0", "4096=0+0", "0=00+400000", "00=0+400000", "0=0+99999999999999999999",
		"0=999999999999999936+64", "0=0+399996", "0=64+399932", "0=0+0", "0:0+400000", "refused", "0=0+200000, 1=64+200000",
	} {
		t.Run(lie, func(t *testing.T) {
			p := newPeer(t, func(q *question) string {
				if q.area() == nil {
					return echoed(q)
				}
				return reply("GraphPipe-Memory: "+lie+"\r\n", q.inputs, away)
			})
			c := newClient(t, "unix:"+p.socket)
			infer(t, c, FromSlice(make([]uint8, n)))
			_, err := c.Infer(context.Background(), &InferRequest{Inputs: []Tensor{FromSlice(make([]uint8, n))}})
			var refused *Error
			if err == nil || errors.As(err, &refused) || SafeToRetry(err) {
				t.Errorf("%v", err)
			}
			questions, _ := p.seen()
			if len(questions) != 2 {
				t.Errorf("%d requests", len(questions))
			}
		})
	}
}

func TestOutputsThatAreInMemoryAndInTheMessageAreNoAnswer(t *testing.T) {
	p := newPeer(t, func(q *question) string {
		if q.area() == nil {
			return echoed(q)
		}
		return reply("GraphPipe-Memory: 0=0+400000\r\n", q.inputs, nil)
	})
	c := newClient(t, "unix:"+p.socket)
	infer(t, c, FromSlice(make([]uint8, 400_000)))
	_, err := c.Infer(context.Background(), &InferRequest{Inputs: []Tensor{FromSlice(make([]uint8, 400_000))}})
	if !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestMemoryThatWasNotLentHoldsNoAnswer(t *testing.T) {
	p := newPeer(t, func(q *question) string {
		return reply("GraphPipe-Memory: 0=0+400000\r\n", q.inputs, []bool{true})
	})
	c := newClient(t, "unix:"+p.socket)
	_, err := c.Infer(context.Background(), &InferRequest{Inputs: []Tensor{FromSlice(make([]uint8, 400_000))}})
	if err == nil || !strings.Contains(err.Error(), "of the 0 bytes that it was lent") {
		t.Error(err)
	}
}

func TestAKeptDescriptorThatWasNeverShownIsNoAnswer(t *testing.T) {
	for _, kept := range []string{"1", "x", "", "0, 7", "-1", "18446744073709551616"} {
		p := newPeer(t, func(q *question) string {
			return strings.Replace(echoed(q), "\r\n", fmt.Sprintf("\r\nGraphPipe-Memory-Kept: %s\r\n", kept), 1)
		})
		c := newClient(t, "unix:"+p.socket)
		_, err := c.Infer(context.Background(), &InferRequest{Inputs: []Tensor{FromSlice(numbered(100_000, 1))}})
		if err == nil || !strings.Contains(err.Error(), "keeps the descriptor") {
			t.Errorf("%q: %v", kept, err)
		}
	}
}

func TestAnAnswerOverTheLimitIsRefusedByMemoryToo(t *testing.T) {
	p := newPeer(t, echoed)
	c := newClient(t, "unix:"+p.socket, WithAnswerBytesMax(1_000_000))
	buf, free := Alloc[uint8](c, 4<<20)
	defer free()
	_, _, err := c.InferInto(context.Background(), &InferRequest{Inputs: []Tensor{FromSlice(numbered(500_000, 1))}}, buf)
	if !errors.Is(err, ErrAnswerTooLarge) {
		t.Error(err)
	}
}

func TestManyCallersByMemoryGetTheirOwnAnswers(t *testing.T) {
	p := newPeer(t, echoed)
	c := newClient(t, "unix:"+p.socket)
	var group sync.WaitGroup
	for caller := range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			var buf []byte
			for i := range 20 {
				input := FromSlice(numbered(70_000+1000*caller, 100*caller+i))
				outputs, back, err := c.InferInto(context.Background(), &InferRequest{Inputs: []Tensor{input}}, buf)
				if err != nil || !bytes.Equal(outputs[0].Data, input.Data) {
					t.Errorf("caller %d got another's answer: %v", caller, err)
					return
				}
				buf = back
			}
		}()
	}
	group.Wait()
}

func TestSegmentsAreFoundByTheirBytesAlone(t *testing.T) {
	var set segmentSet
	var segments []*segment
	for range 5 {
		s, err := newSegment(1 << 16)
		if err != nil {
			t.Fatal(err)
		}
		set.add(s)
		segments = append(segments, s)
	}
	for _, s := range segments {
		found, at := set.find(s.data[100:200])
		if found != s || at != 100 {
			t.Errorf("found at %d", at)
		}
		found.leave()
	}
	if s, _ := set.find(make([]byte, 100)); s != nil {
		t.Error("found where nothing is")
	}
	if s, _ := set.find(segments[0].data[:0]); s != nil {
		t.Error("nothing was found somewhere")
	}
	for _, s := range segments {
		set.remove(s)
		if found, _ := set.find(s.data); found != nil {
			t.Error("found after it was removed")
		}
		s.leave()
		if s.hold() {
			t.Error("held after its end")
		}
	}
}
