package samehost

import (
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
)

// Host returns what tells this host, since its last boot, from all others; empty if that is not known.
var Host = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
})

// peerOf returns the user that has begun to listen on the other end of a connection.
func peerOf(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, os.NewSyscallError("getsockopt", failed)
	}
	return cred.Uid, nil
}

// nobody is what the kernel calls users of another user namespace that have no name in this one.
const nobody = 65534

// named reports whether a user is one. In a user namespace that does not know all users, nobody stands for all others.
func named(uid uint32) bool { return uid != nobody || allUsers() }

var allUsers = sync.OnceValue(func() bool {
	m, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(m)), " ") == "0 0 4294967295"
})
