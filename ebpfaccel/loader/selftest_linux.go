package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/zerohop/zerohop/ebpfaccel"
)

const (
	selfTestBytes   = 1 << 20  // at least, to be redirected
	selfTestTotal   = 16 << 20 // each way
	selfTestTimeout = 20 * time.Second
	// What may wait for a reader that stops: plain TCP comes to 6 MiB by default.
	selfTestQueue = 8 << 20
)

// SelfTest returns an error if marked connections of this process change, lose or withhold bytes, or take any number of them.
// That they are accelerated at all [Up] knows, which runs it in a process of its own.
func SelfTest(ctx context.Context) error {
	if err := ebpfaccel.Probe(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, selfTestTimeout)
	defer cancel()
	for _, test := range []func(client, server net.Conn) error{testCalls, testStreams, testBackpressure} {
		if err := withPair(ctx, test); err != nil {
			return err
		}
	}
	return nil
}

// withPair calls test with the ends of a connection, which end with ctx.
func withPair(ctx context.Context, test func(client, server net.Conn) error) error {
	l, err := (&ebpfaccel.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	client, err := ebpfaccel.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		return err
	}
	defer server.Close()
	if deadline, ok := ctx.Deadline(); ok {
		client.SetDeadline(deadline)
		server.SetDeadline(deadline)
	}
	return test(client, server)
}

// testCalls makes calls of all sizes.
func testCalls(client, server net.Conn) error {
	defer echo(client, server)()
	out, in := stream{seed: 1}, stream{seed: 1}
	b := make([]byte, 256<<10)
	for size := 1; size <= len(b); size = size*5/4 + 1 {
		for range 16 {
			if _, err := client.Write(out.fill(b[:size])); err != nil {
				return fmt.Errorf("call: %w", err)
			}
			if _, err := io.ReadFull(client, b[:size]); err != nil {
				return fmt.Errorf("answer: %w", err)
			}
			if err := in.check(b[:size]); err != nil {
				return err
			}
		}
	}
	return nil
}

// echo sends back what the server gets until stop is called, which closes the client.
func echo(client, server net.Conn) (stop func()) {
	done := make(chan struct{})
	go func() {
		io.Copy(server, server)
		close(done)
	}()
	return func() {
		client.Close()
		<-done
	}
}

// testStreams sends much both ways at a time, to readers that rest now and then.
func testStreams(client, server net.Conn) error {
	errs := make(chan error, 4)
	for i, c := range []net.Conn{client, server} {
		go func() { errs <- sendStream(c, uint64(i), selfTestTotal) }()
		go func() { errs <- readStream(c, uint64(1-i), selfTestTotal, 256) }()
	}
	var all error
	for range cap(errs) {
		all = errors.Join(all, <-errs)
	}
	return all
}

// sendStream sends a stream in writes of all sizes, and its end.
func sendStream(c net.Conn, seed uint64, total int) error {
	s := stream{seed: seed}
	b := make([]byte, 96<<10)
	for n := 1; s.at < uint64(total); n = n*7%len(b) + 1 {
		n := min(n, total-int(s.at))
		if _, err := c.Write(s.fill(b[:n])); err != nil {
			return fmt.Errorf("send at %d of stream %d: %w", s.at, seed, err)
		}
	}
	return c.(interface{ CloseWrite() error }).CloseWrite()
}

// readStream reads a stream to its end. After each so many reads it rests.
func readStream(c net.Conn, seed uint64, total, rest int) error {
	s := stream{seed: seed}
	b := make([]byte, 64<<10)
	for reads := 1; ; reads++ {
		n, err := c.Read(b)
		if err := s.check(b[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) && s.at == uint64(total) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read at %d of stream %d, which has %d: %w", s.at, seed, total, err)
		}
		if rest > 0 && reads%rest == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// testBackpressure writes to a reader that has stopped, and then lets it read all.
func testBackpressure(client, server net.Conn) error {
	n, err := fillUp(client, 2*selfTestQueue)
	if err != nil {
		return err
	}
	if n > selfTestQueue {
		return fmt.Errorf("%d bytes wait for a reader that does not read, want %d at most", n, selfTestQueue)
	}
	if err := client.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return err
	}
	return readStream(server, 0, n, 0)
}

// fillUp writes stream 0 until nothing more goes in for a while, or limit is reached, and returns how much went in.
func fillUp(c net.Conn, limit int) (int, error) {
	var s stream
	b := make([]byte, 8<<10)
	for s.at < uint64(limit) {
		at := s.at
		c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Write(s.fill(b))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return int(at) + n, nil
		} else if err != nil {
			return 0, fmt.Errorf("fill up: %w", err)
		}
	}
	return int(s.at), nil
}
