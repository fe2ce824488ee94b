// Package porttest gives tests TCP ports that they can take again later: after a server was killed, say.
//
// A port that the system chose (port 0) may, while no one listens on it, become that of an outgoing connection of any
// process. These are ports that systems do not use for outgoing connections by default (Linux takes those from 32768,
// others those from 49152).
package porttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
)

// The ports are first to last.
const first, last = 12_000, 32_000

// Listen listens on a port of 127.0.0.1 that is free.
func Listen() (net.Listener, error) {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.N(last-first+1)))
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) { // some systems reserve ports
			return l, err
		}
	}
	return nil, syscall.EADDRINUSE
}

// Again listens on the given address, or on a free port of 127.0.0.1 if that is empty.
func Again(addr string) (net.Listener, error) {
	if addr == "" {
		return Listen()
	}
	return net.Listen("tcp", addr)
}

// Free returns n ports of 127.0.0.1 that nobody listened on a moment ago. Another test may be faster: the caller retries.
func Free(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := Listen()
		if err != nil {
			return nil, err
		}
		defer l.Close() // at the end, so that all differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
