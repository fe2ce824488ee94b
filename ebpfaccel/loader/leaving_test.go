//go:build linux

package loader

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// More time finds more: what could go wrong takes several events within microseconds.
var leavingTime = flag.Duration("leaving", 4*time.Second, "how long sockets are made to leave the map while both ends send")

// Sockets leave while both ends send, change between both ways, close halves and come and go; because of streams, and as the
// accelerator is switched off and on.
func TestSocketsLeaveUnderFire(t *testing.T) {
	noStalls(t)
	// Few messages make a stream, and a queue is full after a few.
	settings := accelSettings{Limit: 2 << 10, Messages: 3, Hold: 1, StreamBytes: 64 << 10, StreamMessages: 24}
	o := load(t, settings)
	l := listen(t, "127.0.0.1:0")
	end := time.Now().Add(*leavingTime)
	var rounds atomic.Int64
	var workers, switching sync.WaitGroup
	done := make(chan struct{})
	switching.Go(func() {
		for r := rand.New(rand.NewPCG(1, 1)); ; {
			select {
			case <-done:
				return
			default:
			}
			s := settings
			switch r.IntN(8) {
			case 0:
				s.Off = 1
			case 1:
			default: // Then nothing leaves, and connections change between both ways.
				s.StreamMessages = 0
			}
			if err := o.Setting.Put(uint32(0), s); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
		}
	})
	for i := range 8 {
		workers.Go(func() {
			for r := rand.New(rand.NewPCG(2, uint64(i))); time.Now().Before(end) && !t.Failed(); rounds.Add(1) {
				seed := r.Uint64()
				err := onListener(l, func(client, server net.Conn) error { return underFire(client, server, seed) })
				if err != nil {
					t.Errorf("round %d of %d: %v", rounds.Load(), i, err)
				}
			}
		})
	}
	workers.Wait()
	close(done)
	switching.Wait()
	c := counters(t, o)
	t.Logf("%d connections: %+v", rounds.Load(), c)
	if c.Left == 0 || c.RedirectedBytes == 0 || c.Returned == 0 {
		t.Errorf("nothing has left, or was redirected, or came back: %+v", c)
	}
}

// underFire sends both ways at a time. Each direction ends on its own.
func underFire(client, server net.Conn, seed uint64) error {
	errs := make(chan error, 4)
	for i, c := range []net.Conn{client, server} {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		other := []net.Conn{server, client}[i]
		total := r.IntN(60_000)
		var sent, read atomic.Int64
		go func() { errs <- fire(c, uint64(i), total, r, &sent, &read) }()
		go func() { errs <- takeFire(other, uint64(i), &sent, &read) }()
	}
	var all error
	for range cap(errs) {
		if err := <-errs; err != nil {
			all = errors.Join(all, err)
			client.Close() // The others would wait.
			server.Close()
		}
	}
	return all
}

func fire(c net.Conn, seed uint64, total int, r *rand.Rand, sent, read *atomic.Int64) error {
	sizes := []int{1, 10, 100, 1000, 5000, 40_000}
	most := sizes[r.IntN(len(sizes))]
	s := stream{seed: seed}
	b := make([]byte, most)
	for messages := 0; s.at < uint64(total) && messages < 100; messages++ {
		n := min(1+r.IntN(most), total-int(s.at))
		if _, err := c.Write(s.fill(b[:n])); err != nil {
			return fmt.Errorf("send at %d of stream %d: %w", s.at, seed, err)
		}
		switch r.IntN(8) {
		case 0, 1, 2, 3: // All is read, and the acknowledgement is on its way: the next message may go past TCP.
			for waited := 0; read.Load() < int64(s.at) && waited < 20; waited++ {
				time.Sleep(10 * time.Microsecond)
			}
		case 4:
			time.Sleep(time.Duration(r.IntN(200)) * time.Microsecond)
		}
	}
	sent.Store(int64(s.at))
	return c.(interface{ CloseWrite() error }).CloseWrite()
}

func takeFire(c net.Conn, seed uint64, sent, read *atomic.Int64) error {
	s := stream{seed: seed}
	b := make([]byte, 16<<10)
	for {
		n, err := c.Read(b)
		if err := s.check(b[:n]); err != nil {
			return err
		}
		read.Store(int64(s.at))
		if errors.Is(err, io.EOF) && int64(s.at) == sent.Load() {
			return nil
		} else if err != nil {
			return fmt.Errorf("read at %d of stream %d, of which %d are sent: %w", s.at, seed, sent.Load(), err)
		}
	}
}
