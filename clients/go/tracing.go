package graphpipe

import (
	"crypto/tls"
	"net/http/httptrace"
	"time"
)

// tracing tells the context's httptrace what happens on our own connections, as net/http does on its own. Looking names up and
// connecting are told by package net.
type tracing struct{ *httptrace.ClientTrace }

func (t tracing) getConn(at target) {
	if t.ClientTrace != nil && t.GetConn != nil {
		_, address := at.address()
		t.GetConn(address)
	}
}

func (t tracing) gotConn(c *connection) {
	if t.ClientTrace == nil || t.GotConn == nil {
		return
	}
	info := httptrace.GotConnInfo{Conn: c.Conn, Reused: c.used, WasIdle: c.used}
	if c.used {
		info.IdleTime = time.Since(c.since)
	}
	t.GotConn(info)
}

func (t tracing) tlsStart() {
	if t.ClientTrace != nil && t.TLSHandshakeStart != nil {
		t.TLSHandshakeStart()
	}
}

func (t tracing) tlsDone(conn *tls.Conn, err error) {
	if t.ClientTrace != nil && t.TLSHandshakeDone != nil {
		t.TLSHandshakeDone(conn.ConnectionState(), err)
	}
}

// wrote tells of a request that was written; of one that is still being written beside the reading of its answer, that its head
// is on its way.
func (t tracing) wrote(w *writing) {
	if t.ClientTrace == nil {
		return
	}
	if t.WroteHeaders != nil {
		t.WroteHeaders()
	}
	if t.WroteRequest != nil {
		t.WroteRequest(httptrace.WroteRequestInfo{Err: w.err})
	}
}

func (t tracing) firstByte() {
	if t.ClientTrace != nil && t.GotFirstResponseByte != nil {
		t.GotFirstResponseByte()
	}
}

func (t tracing) putIdle() {
	if t.ClientTrace != nil && t.PutIdleConn != nil {
		t.PutIdleConn(nil)
	}
}
