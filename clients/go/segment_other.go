//go:build !(linux && (amd64 || arm64))

package graphpipe

import (
	"errors"
	"net"
)

const canShare = false

func newSegment(int) (*segment, error) { return nil, errors.ErrUnsupported }

func unmap(*segment) {}

func pass(*net.UnixConn, []byte, []int) (int, error) { return 0, errors.ErrUnsupported }
