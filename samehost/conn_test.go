//go:build linux || darwin

package samehost

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/net/nettest"
)

// pair returns both ends of a connection, as a caller and a server have them.
func pair(t *testing.T, l *Listener, p *Policy) (caller, server net.Conn) {
	t.Helper()
	a, _ := AddressOf(l.Meta())
	caller, err := NewSocket(p, a).Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { caller.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return caller, server
}

func TestConnectionsAreAsGoodAsOthers(t *testing.T) {
	l := open(t, ListenConfig{Directory: short(t)})
	p := Policy{Directories: []string{filepath.Dir(l.addr.Path)}}
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		c1, c2 = pair(t, l, &p)
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	})
}

// What is copied between a socket and TCP, which the kernel does where it can, comes whole and in order, and so do the ends.
func TestProxiesCopyBetweenSocketsAndTCP(t *testing.T) {
	l := open(t, ListenConfig{Directory: short(t)})
	p := Policy{Directories: []string{filepath.Dir(l.addr.Path)}}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	client, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	in, err := front.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, server := pair(t, l, &p)
	done := make(chan error, 3)
	copied := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		to.(interface{ CloseWrite() error }).CloseWrite()
		done <- err
	}
	go copied(out, in)
	go copied(in, out)
	go copied(server, server) // an echo
	const size = 8 << 20
	sent, got := sha256.New(), sha256.New()
	written := make(chan error)
	go func() {
		var seed [32]byte
		_, err := io.Copy(client, io.TeeReader(io.LimitReader(rand.NewChaCha8(seed), size), sent))
		client.(*net.TCPConn).CloseWrite()
		written <- err
	}()
	n, err := io.Copy(got, client)
	if n != size || err != nil {
		t.Errorf("%d bytes came back, %v, want %d", n, err, size)
	}
	if err := <-written; err != nil {
		t.Errorf("Write() = %v", err)
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Errorf("Copy() = %v", err)
		}
	}
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Error("other bytes came back than were sent")
	}
}
