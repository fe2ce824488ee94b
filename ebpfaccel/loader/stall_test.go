//go:build linux

package loader

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// maxStall is how long bytes may wait for nothing: TCP's timers begin at a fifth of it, and double.
const maxStall = time.Second

// A stall is when a reader waited although there was something for it to read. That leaves out the pauses that tests make, and
// has those of writers that wait for a reader which waits, too.
type stall struct{ from, to time.Time }

func (s stall) length() time.Duration { return s.to.Sub(s.from) }

// stalls has those of the connections that are made while it is on. Tests that measure them do not run at a time.
var stalls struct {
	sync.Mutex // guards what follows
	on         bool
	longest    stall
	bad        []stall // longer than maxStall
}

func noteStall(from, to time.Time) {
	s := stall{from, to}
	stalls.Lock()
	defer stalls.Unlock()
	if s.length() > stalls.longest.length() {
		stalls.longest = s
	}
	if s.length() > maxStall {
		stalls.bad = append(stalls.bad, s)
	}
}

func measureStalls(on bool) {
	stalls.Lock()
	defer stalls.Unlock()
	stalls.on, stalls.longest, stalls.bad = on, stall{}, nil
}

// noStalls makes the test fail if one of its connections, which it makes by connect, onPair and the like, stalls for longer than
// maxStall and what machine and scheduler held up a connection over plain TCP in that time.
func noStalls(t *testing.T) {
	t.Helper()
	plain := newCanary(t)
	measureStalls(true)
	t.Cleanup(func() {
		plain.stop()
		stalls.Lock()
		longest, bad := stalls.longest, stalls.bad
		stalls.Unlock()
		measureStalls(false)
		t.Logf("longest stall %v; plain TCP was held up for %v of it, and for %v at a time at most",
			longest.length(), plain.heldUp(longest), plain.longest)
		for _, s := range bad {
			if held := plain.heldUp(s); s.length() > maxStall+held {
				t.Errorf("bytes waited for %v to be read; plain TCP was held up for %v of it", s.length(), held)
			}
		}
	})
}

// A canary calls over plain TCP, all the time.
type canary struct {
	client, server net.Conn
	done           sync.WaitGroup
	quit           chan struct{}
	longest        time.Duration
	late           []stall // laps that took long
}

// A lap takes a canary little more than its rest. If it takes canaryLate or longer, the machine had no time for it.
const (
	canaryRest = 5 * time.Millisecond
	canaryLate = 10 * canaryRest
)

func newCanary(t *testing.T) *canary {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := &canary{quit: make(chan struct{})}
	if c.client, err = net.Dial("tcp4", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if c.server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	c.done.Go(func() { io.Copy(struct{ io.Writer }{c.server}, struct{ io.Reader }{c.server}) })
	c.done.Go(c.run)
	return c
}

func (c *canary) run() {
	defer c.client.Close()
	b := make([]byte, 1)
	for from := time.Now(); ; {
		if _, err := c.client.Write(b); err != nil {
			return
		}
		if _, err := c.client.Read(b); err != nil {
			return
		}
		select {
		case <-c.quit:
			return
		case <-time.After(canaryRest):
		}
		lap := stall{from, time.Now()}
		from = lap.to
		c.longest = max(c.longest, lap.length())
		if lap.length() >= canaryLate {
			c.late = append(c.late, lap)
		}
	}
}

func (c *canary) stop() {
	close(c.quit)
	c.done.Wait()
	c.server.Close()
}

// heldUp returns how much of the stall the late laps took. It is called after stop.
func (c *canary) heldUp(s stall) (sum time.Duration) {
	for _, lap := range c.late {
		from, to := s.from, s.to
		if lap.from.After(from) {
			from = lap.from
		}
		if lap.to.Before(to) {
			to = lap.to
		}
		sum += max(0, to.Sub(from))
	}
	return sum
}

// A flow is one direction of a connection. What was to be written and is unread makes the reader's wait a stall.
type flow struct {
	mu     sync.Mutex // guards what follows
	unread int        // bytes whose writes have begun; the end of the flow counts as one
	since  time.Time  // since when there are any
}

func (f *flow) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unread == 0 {
		f.since = time.Now()
	}
	f.unread += n
}

// read tells of n bytes, or the end as one, that a reader has waited for.
func (f *flow) read(n int, from time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unread == 0 {
		return
	}
	if f.since.After(from) {
		from = f.since
	}
	noteStall(from, time.Now())
	f.unread -= n
}

// A measuredConn is an end of a connection whose stalls are noted.
type measuredConn struct {
	net.Conn
	out, in *flow
	ended   sync.Once
}

// measured returns both ends of a connection, whose stalls are noted if the test wants that.
func measured(client, server net.Conn) (net.Conn, net.Conn) {
	var m measuring
	return m.client(client), m.server(server)
}

// A measuring is for ends that do not come at a time.
type measuring struct{ there, back flow }

func (m *measuring) client(c net.Conn) net.Conn { return measuredEnd(c, &m.there, &m.back) }
func (m *measuring) server(c net.Conn) net.Conn { return measuredEnd(c, &m.back, &m.there) }

func measuredEnd(c net.Conn, out, in *flow) net.Conn {
	stalls.Lock()
	defer stalls.Unlock()
	if !stalls.on {
		return c
	}
	return &measuredConn{Conn: c, out: out, in: in}
}

func (c *measuredConn) Write(b []byte) (int, error) {
	c.out.add(len(b))
	n, err := c.Conn.Write(b)
	if n < len(b) {
		c.out.add(n - len(b))
	}
	return n, err
}

func (c *measuredConn) Read(b []byte) (int, error) {
	from := time.Now()
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.in.read(n, from)
	} else if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		c.in.read(1, from)
	}
	return n, err
}

func (c *measuredConn) end() { c.ended.Do(func() { c.out.add(1) }) }

func (c *measuredConn) Close() error {
	c.end()
	return c.Conn.Close()
}

func (c *measuredConn) CloseWrite() error {
	c.end()
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

func (c *measuredConn) SetLinger(seconds int) error {
	return c.Conn.(interface{ SetLinger(int) error }).SetLinger(seconds)
}

func (c *measuredConn) SetReadBuffer(n int) error {
	return c.Conn.(interface{ SetReadBuffer(int) error }).SetReadBuffer(n)
}

func (c *measuredConn) SyscallConn() (syscall.RawConn, error) {
	return c.Conn.(syscall.Conn).SyscallConn()
}

// withheld has what arrives for a while before it is read.
type withheld struct {
	net.Conn
	while time.Duration
}

func (c withheld) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	time.Sleep(c.while)
	return n, err
}

// What the measure must see, and what not.
func TestStallsAreNotThePausesOfEitherEnd(t *testing.T) {
	for _, test := range []struct {
		name                          string
		writerRests, readerRests, end bool
		withheld, want                time.Duration
	}{
		{name: "nobody rests"},
		{name: "writer rests", writerRests: true},
		{name: "reader rests", readerRests: true},
		{name: "bytes are withheld", withheld: 3 * time.Second, want: 3 * time.Second},
		{name: "bytes are withheld from one who rests", readerRests: true, withheld: 3 * time.Second, want: 3 * time.Second},
		{name: "bytes are withheld for longer than the writer rests", writerRests: true, withheld: time.Minute, want: time.Minute},
		{name: "writer rests before the end", writerRests: true, end: true},
		{name: "the end is withheld", end: true, withheld: 3 * time.Second, want: 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				measureStalls(true)
				defer measureStalls(false)
				client, server := net.Pipe()
				client, server = measured(client, withheld{server, test.withheld})
				defer server.Close()
				rest := func(really bool) {
					if really {
						time.Sleep(10 * time.Second)
					}
				}
				var writer sync.WaitGroup
				writer.Go(func() {
					rest(test.writerRests)
					if !test.end {
						client.Write(make([]byte, 100))
						rest(test.writerRests)
						client.Write(make([]byte, 100))
					}
					client.Close()
				})
				for {
					rest(test.readerRests)
					if _, err := server.Read(make([]byte, 70)); err != nil {
						break
					}
				}
				writer.Wait()
				bad := 0
				if test.want > maxStall {
					bad = 1
				}
				if got := stalls.longest.length(); got != test.want || min(len(stalls.bad), 1) != bad {
					t.Errorf("longest stall %v, %d of them bad; want %v", got, len(stalls.bad), test.want)
				}
			})
		})
	}
}

func TestCanaryTellsWhatHeldItUp(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	c := canary{late: []stall{{at(1), at(3)}, {at(5), at(6)}, {at(8), at(10)}}}
	for _, test := range []struct{ from, to, want int }{{0, 1, 0}, {3, 5, 0}, {0, 20, 5}, {2, 6, 2}, {9, 20, 1}} {
		if got := c.heldUp(stall{at(test.from), at(test.to)}); got != time.Duration(test.want)*time.Second {
			t.Errorf("heldUp(%d to %d) = %v, want %d s", test.from, test.to, got, test.want)
		}
	}
}
