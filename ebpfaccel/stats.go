package ebpfaccel

import (
	"net"
	"runtime"
	"sync"
	"weak"
)

// A Reason is why connections take TCP. There are no others than those below.
type Reason string

const (
	// ReasonNoPeer: the other end did not opt in, or is gone or closing.
	ReasonNoPeer Reason = "no_peer"
	// ReasonUnread: the other end had not read what came over TCP before, or its socket is one that waits, which none is in Go.
	ReasonUnread Reason = "unread"
	// ReasonFull: too much waits at the other end, which does not read it. Most return.
	ReasonFull Reason = "full"
	// ReasonStream: much was sent without an answer, which is no faster past TCP.
	ReasonStream Reason = "stream"
	// ReasonOff: the accelerator is being taken down.
	ReasonOff Reason = "off"
	// ReasonElsewhere: the other end is not on this host.
	ReasonElsewhere Reason = "elsewhere"
	// ReasonDevice: the socket is bound to a network interface.
	ReasonDevice Reason = "device"
	// ReasonRefused: the accelerator has no room, or another program has the socket.
	ReasonRefused Reason = "refused"
	// ReasonLate: it was connected before it opted in or before there was an accelerator, or to another end before this one.
	ReasonLate Reason = "late"
	// ReasonNotSupported: sockets of this process cannot be marked; see [Probe].
	ReasonNotSupported Reason = "not_supported"
)

// told are the reasons that the accelerator tells, in its order.
var told = [...]Reason{
	ReasonNoPeer, ReasonUnread, ReasonFull, ReasonStream, ReasonOff, ReasonElsewhere, ReasonDevice, ReasonRefused, ReasonLate,
}

// A report is what the accelerator tells of a socket: struct report of accel.c.
type report struct {
	redirected, tcp uint64
	fallbacks       [len(told)]uint32
	joined          uint32
}

// Stats are sums of what connections of this process, with package ebpfaccel, have done since it began. No number ever falls.
type Stats struct {
	// Accelerated are the connections that have sent anything past TCP. Of one whose two ends are in this process, both count.
	Accelerated uint64
	// RedirectedBytes were sent past TCP.
	RedirectedBytes uint64
	// TCPBytes were sent over TCP by connections that opted in and could be marked, be they accelerated or not. Those that were
	// connected before there was an accelerator do not count.
	TCPBytes uint64
	// Fallbacks are how often connections went over to TCP, or began with it. It has every Reason. A connection that returns from TCP
	// may count again; a listener whose connections cannot be marked counts once.
	Fallbacks map[Reason]uint64
}

// maxAsked bounds what it takes to read the Stats: to ask the kernel about a connection takes some 2 µs.
const maxAsked = 4096

// ReadStats returns the sums up to now. It asks the kernel about the connections that are open, but no more than 4096 of them:
// if there are more, others at each call. Connections are counted in any case when they are closed by Close, except for what other
// goroutines write at that moment. It may be called by several goroutines at a time.
func ReadStats() Stats {
	for _, c := range open.some(maxAsked) {
		c.account()
	}
	return sums.read()
}

// newConn returns a connection that counts.
func newConn(tcp *net.TCPConn) *conn {
	c := &conn{tcp: tcp}
	w := weak.Make(c)
	open.add(w)
	runtime.AddCleanup(c, open.remove, w) // for those that are not closed
	return c
}

// account adds what is new of the connection to the sums.
func (c *conn) account() {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var now report
	var readErr error
	if err := raw.Control(func(fd uintptr) { now, readErr = readReport(fd) }); err != nil || readErr != nil {
		return // It is closed, or the accelerator is gone.
	}
	if now.joined < c.told.joined {
		return // Another version of the accelerator knows nothing of it.
	}
	sums.add(&c.told, &now)
}

// open are the connections that may be asked.
var open registry

type registry struct {
	mu    sync.Mutex // guards conns
	conns map[weak.Pointer[conn]]struct{}
}

func (r *registry) add(c weak.Pointer[conn]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		r.conns = make(map[weak.Pointer[conn]]struct{})
	}
	r.conns[c] = struct{}{}
}

func (r *registry) remove(c weak.Pointer[conn]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

// some returns as many of them, at random.
func (r *registry) some(most int) []*conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*conn, 0, min(most, len(r.conns)))
	for w := range r.conns {
		if len(list) == most {
			break
		}
		if c := w.Value(); c != nil {
			list = append(list, c)
		}
	}
	return list
}

// sums are those of all connections.
var sums totals

type totals struct {
	mu                           sync.Mutex // guards what follows
	accelerated, redirected, tcp uint64
	fallbacks                    [len(told)]uint64
	notSupported                 uint64
}

// add adds what now has more than old, which becomes what is added.
func (t *totals) add(old, now *report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old.redirected == 0 && now.redirected > 0 {
		t.accelerated++
	}
	t.redirected += rise(&old.redirected, now.redirected)
	t.tcp += rise(&old.tcp, now.tcp)
	for i := range now.fallbacks {
		t.fallbacks[i] += uint64(rise(&old.fallbacks[i], now.fallbacks[i]))
	}
	old.joined = now.joined
}

// rise raises old to now and returns by how much.
func rise[T uint32 | uint64](old *T, now T) T {
	before := *old
	*old = max(before, now)
	return *old - before
}

// unsupported counts a socket that cannot be marked.
func (t *totals) unsupported() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notSupported++
}

func (t *totals) read() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Stats{Accelerated: t.accelerated, RedirectedBytes: t.redirected, TCPBytes: t.tcp}
	s.Fallbacks = map[Reason]uint64{ReasonNotSupported: t.notSupported}
	for i, reason := range told {
		s.Fallbacks[reason] = t.fallbacks[i]
	}
	return s
}
