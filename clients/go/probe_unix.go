//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package graphpipe

import "syscall"

const canProbe = true

// quiet says whether a kept connection is still open and has nothing to say: the other side has neither closed it nor sent
// something that nobody asked for.
func quiet(conn syscall.RawConn) bool {
	var one [1]byte
	var err error
	failed := conn.Read(func(fd uintptr) bool {
		_, err = syscall.Read(int(fd), one[:])
		return true // whatever came, do not wait
	})
	return failed == nil && (err == syscall.EAGAIN || err == syscall.EWOULDBLOCK)
}
