package samehost

import (
	"path/filepath"
	"strings"
)

// Keys of metadata by which an instance says where its socket is.
const (
	// KeyPath is that of the path of the socket.
	KeyPath = "unix"
	// KeyHost is that of the host, by what the kernel calls its present boot.
	KeyHost = "unix-host"
	// KeyFile is that of the file itself: device, inode and time of making. It tells the socket from others at the same path, such as
	// those in other containers, and those made after it.
	KeyFile = "unix-file"
)

// maxPath is the longest path that all systems take, without the zero at its end.
const maxPath = 103

// Address is what an instance says of its socket.
type Address struct {
	Path, Host, File string
}

// AddressOf returns what metadata says of a socket. It is not ok if there is nothing of that, or nothing that makes sense.
func AddressOf(meta map[string]string) (a Address, ok bool) {
	if len(meta) < 3 {
		return Address{}, false
	}
	a = Address{Path: meta[KeyPath], Host: meta[KeyHost], File: meta[KeyFile]}
	p := a.Path
	if a.Host == "" || a.File == "" || len(p) > maxPath || strings.ContainsRune(p, 0) || !filepath.IsAbs(p) || filepath.Clean(p) != p {
		return Address{}, false
	}
	return a, true
}

// Near reports whether the instance is on this host.
func (a Address) Near() bool { return a.Host != "" && a.Host == Host() }

// meta returns the metadata that says the same.
func (a Address) meta() map[string]string {
	return map[string]string{KeyPath: a.Path, KeyHost: a.Host, KeyFile: a.File}
}
