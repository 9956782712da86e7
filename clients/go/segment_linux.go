//go:build linux && (amd64 || arm64)

package graphpipe

import (
	"net"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// canShare says whether there is memory that can be shown to servers.
const canShare = true

// What package syscall does not know.
const (
	mfdCloexec, mfdAllowSealing = 1, 2
	fAddSeals                   = 1033
	// Nobody may make it shorter, which would kill whoever looks, or longer, or add a seal that keeps others from writing.
	sealSeal, sealShrink, sealGrow = 1, 2, 4
)

var sysMemfdCreate = map[string]uintptr{"amd64": 319, "arm64": 279}[runtime.GOARCH]

// newSegment makes sealed memory without a name, of which nothing is left when the processes that hold it are gone.
func newSegment(size int) (*segment, error) {
	name := [...]byte{'g', 'r', 'a', 'p', 'h', 'p', 'i', 'p', 'e', 0}
	number, _, errno := syscall.Syscall(sysMemfdCreate, uintptr(unsafe.Pointer(&name)), mfdCloexec|mfdAllowSealing, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("memfd_create", errno)
	}
	fd := int(number)
	if err := syscall.Ftruncate(fd, int64(size)); err != nil {
		syscall.Close(fd)
		return nil, os.NewSyscallError("ftruncate", err)
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, number, fAddSeals, sealSeal|sealShrink|sealGrow); errno != 0 {
		syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", errno)
	}
	data, err := syscall.Mmap(fd, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		syscall.Close(fd)
		return nil, os.NewSyscallError("mmap", err)
	}
	return &segment{data: data, fd: fd, holders: 1}, nil
}

func unmap(s *segment) {
	syscall.Munmap(s.data)
	syscall.Close(s.fd)
}

// pass writes bytes of which the first has descriptors attached. It says how many were written.
func pass(conn *net.UnixConn, b []byte, fds []int) (int, error) {
	n, _, err := conn.WriteMsgUnix(b, syscall.UnixRights(fds...), nil)
	return n, err
}
