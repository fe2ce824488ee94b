//go:build !linux && !darwin

package samehost

import (
	"errors"
	"io/fs"
	"net"
)

const supported = false

// Host returns what tells this host, since its last boot, from all others; empty if that is not known.
func Host() string { return "" }

func ownerOf(fs.FileInfo) uint32 { return 0 }

func fileOf(fs.FileInfo) string { return "" }

func peerOf(*net.UnixConn) (uint32, error) { return 0, errors.ErrUnsupported }

func named(uint32) bool { return false }
