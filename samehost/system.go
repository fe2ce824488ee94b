//go:build linux || darwin

package samehost

import (
	"fmt"
	"io/fs"
	"syscall"
)

const supported = true

// ownerOf returns the user that owns a file.
func ownerOf(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

// fileOf tells a file from all others on the host. Inodes are given out again, so the time is part of it: that at which a
// socket was made, as nothing changes it afterwards.
func fileOf(info fs.FileInfo) string {
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%x-%x-%x", st.Dev, st.Ino, info.ModTime().UnixNano())
}
