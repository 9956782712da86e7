//go:build linux && (amd64 || arm64)

package graphpipe

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// peer is a server on the same host that looks at memory: a small one, which a test can make lie.
type peer struct {
	socket string
	// agree is what it answers who asks for memory; nothing to close.
	agree string
	// answer is what it answers a request.
	answer func(q *question) string

	mu        sync.Mutex
	asked     int         // how often for memory
	questions []*question // with memory and without
	listener  *net.UnixListener
	group     sync.WaitGroup
}

// question is a request as the peer sees it.
type question struct {
	head   http.Header
	body   []byte
	memory [][]byte // by descriptor
	inodes []uint64
	inputs []Tensor
	conn   *net.UnixConn
}

const agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: graphpipe-memory/1\r\n\r\n"

func newPeer(t *testing.T, answer func(q *question) string) *peer {
	t.Helper()
	p := &peer{socket: filepath.Join(t.TempDir(), "s"), agree: agreed, answer: answer}
	p.start(t)
	t.Cleanup(p.stop)
	return p
}

func (p *peer) start(t *testing.T) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	p.listener = listener
	p.group.Add(1)
	go func() {
		defer p.group.Done()
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			p.group.Add(1)
			go func() {
				defer p.group.Done()
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(30 * time.Second))
				p.serve(conn)
			}()
		}
	}()
}

func (p *peer) stop() {
	p.listener.Close()
	p.group.Wait()
	p.forget()
}

// forget lets go of what it was shown so far.
func (p *peer) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.questions {
		for _, data := range q.memory {
			syscall.Munmap(data)
		}
	}
	p.questions = nil
}

// descriptors reads a stream, and keeps what comes with it.
type descriptors struct {
	conn *net.UnixConn
	came []int
}

func (d *descriptors) Read(b []byte) (int, error) {
	control := make([]byte, syscall.CmsgSpace(4*32))
	n, controlled, _, _, err := d.conn.ReadMsgUnix(b, control)
	if messages, failed := syscall.ParseSocketControlMessage(control[:controlled]); failed == nil {
		for i := range messages {
			fds, _ := syscall.ParseUnixRights(&messages[i])
			d.came = append(d.came, fds...)
		}
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

func (p *peer) serve(conn *net.UnixConn) {
	came := &descriptors{conn: conn}
	in := bufio.NewReader(came)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if req.Header.Get("Upgrade") != "" {
			p.mu.Lock()
			p.asked++
			p.mu.Unlock()
			if p.agree == "" {
				return
			}
			io.WriteString(conn, p.agree)
			continue
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		q := &question{head: req.Header, body: body, conn: conn}
		for _, fd := range came.came {
			var stat syscall.Stat_t
			syscall.Fstat(fd, &stat)
			q.inodes = append(q.inodes, stat.Ino)
			data, err := syscall.Mmap(fd, 0, int(stat.Size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
			syscall.Close(fd)
			if err != nil {
				return
			}
			q.memory = append(q.memory, data)
		}
		came.came = nil
		q.read()
		p.mu.Lock()
		p.questions = append(p.questions, q)
		p.mu.Unlock()
		answer := p.answer(q)
		if answer == "" {
			return
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

// read decodes the request, whose tensors may lie in memory.
func (q *question) read() {
	elsewhere := map[int][]byte{}
	for _, entry := range strings.Split(q.head.Get("GraphPipe-Memory"), ", ") {
		var index, fd, at, length int
		if _, err := fmt.Sscanf(entry, "%d=%d:%d+%d", &index, &fd, &at, &length); err == nil {
			elsewhere[index] = q.memory[fd][at : at+length]
		}
	}
	_, root, err := newReader(q.body)
	if err != nil {
		return
	}
	infer, _, err := root.table(1)
	if err != nil {
		return
	}
	i := -1
	q.inputs, _ = tables(infer, 2, func(t table) (Tensor, error) {
		i++
		data, away := elsewhere[i]
		return readTensor(t, data, away)
	})
}

// area is where outputs may be written.
func (q *question) area() []byte {
	var fd, at, length int
	if _, err := fmt.Sscanf(q.head.Get("GraphPipe-Memory-Answer"), "%d:%d+%d", &fd, &at, &length); err != nil {
		return nil
	}
	return q.memory[fd][at : at+length]
}

// echoed answers the inputs, the large ones by memory where there is room.
func echoed(q *question) string {
	area := q.area()
	away := make([]bool, len(q.inputs))
	var places []string
	at := 0
	for i, t := range q.inputs {
		if len(t.Data) >= roomFrom && at+len(t.Data) <= len(area) {
			copy(area[at:], t.Data)
			places = append(places, fmt.Sprintf("%d=%d+%d", i, at, len(t.Data)))
			away[i] = true
			at += aligned(len(t.Data))
		}
	}
	if len(places) == 0 {
		return reply("", q.inputs, nil)
	}
	return reply("GraphPipe-Memory: "+strings.Join(places, ", ")+"\r\n", q.inputs, away)
}

// reply is a good answer.
func reply(fields string, outputs []Tensor, away []bool) string {
	w := newWriter()
	response := w.child(w.slot(), layoutInferResponse)
	w.tensors(response.field(4), outputs, away)
	message, err := w.finish()
	if err != nil {
		panic(err)
	}
	body := message.joined()
	return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", fields, len(body), body)
}

func failure(status, fields string) string {
	return "HTTP/1.1 " + status + "\r\n" + fields + "Content-Length: 4\r\n\r\nwhy\n"
}

// seen are the requests so far, and how often memory was asked for.
func (p *peer) seen() ([]*question, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*question(nil), p.questions...), p.asked
}

// held counts this process's descriptors and mappings of memory.
func held(t *testing.T) (descriptors, mappings int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries), strings.Count(string(maps), "/memfd:graphpipe")
}
