//go:build unix

package outage

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/zerohop/zerohop/internal/porttest"
)

// door is a listener that fails on request. It is one for all time, also while it is shut.
type door struct {
	addr *net.TCPAddr
	in   chan net.Conn
	gone chan struct{} // closed by Close
	once sync.Once
	// pause is locked while nothing may pass.
	pause sync.RWMutex
	loops sync.WaitGroup

	mu    sync.Mutex // guards what follows
	open  net.Listener
	held  int // the socket that keeps the port while it is shut
	conns map[*passage]struct{}
}

func newDoor(t *testing.T) *door {
	t.Helper()
	l, err := porttest.Listen()
	if err != nil {
		t.Fatal(err)
	}
	d := &door{addr: l.Addr().(*net.TCPAddr), in: make(chan net.Conn), gone: make(chan struct{}), conns: map[*passage]struct{}{}}
	d.enter(l)
	t.Cleanup(func() { d.Close() })
	return d
}

// enter takes connections from l.
func (d *door) enter(l net.Listener) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open, d.held = l, -1
	d.loops.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.pass()
			p := &passage{Conn: c, door: d}
			d.mu.Lock()
			d.conns[p] = struct{}{}
			d.mu.Unlock()
			select {
			case d.in <- p:
			case <-d.gone:
				p.Close()
			}
		}
	})
}

// pass waits as long as nothing may pass.
func (d *door) pass() {
	d.pause.RLock()
	defer d.pause.RUnlock()
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.in:
		return c, nil
	case <-d.gone:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (d *door) Addr() net.Addr { return d.addr }

// Close implements net.Listener.
func (d *door) Close() error {
	d.once.Do(func() {
		close(d.gone)
		d.mu.Lock()
		if d.open != nil {
			d.open.Close()
		} else if d.held >= 0 {
			_ = syscall.Close(d.held)
		}
		d.mu.Unlock()
		d.loops.Wait()
	})
	return nil
}

// shut ends all connections and refuses new ones, as when a server has stopped. The port stays taken.
func (d *door) shut(t testing.TB) {
	t.Helper()
	d.mu.Lock()
	d.open.Close()
	d.open = nil
	fd, err := bound(d.addr)
	d.held = fd
	d.mu.Unlock()
	if err != nil {
		t.Fatalf("the port of %v was taken over: %v", d.addr, err)
	}
	d.loops.Wait()
	d.cut(t)
}

// bound returns a socket that nobody can connect to.
func bound(addr *net.TCPAddr) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return -1, err
	}
	syscall.CloseOnExec(fd)
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())})
	}
	if err != nil {
		_ = syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// reopen ends what shut began.
func (d *door) reopen(t testing.TB) {
	t.Helper()
	if err := syscall.Listen(d.held, 100); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(d.held), "listener")
	defer file.Close() // FileListener has a copy
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	d.enter(l)
}

// cut ends all connections without a goodbye. New ones are taken.
func (d *door) cut(testing.TB) {
	for _, p := range d.all() {
		if c, ok := p.Conn.(*net.TCPConn); ok {
			_ = c.SetLinger(0)
		}
		p.Close()
	}
}

// deafen lets nothing through all connections any more, in either direction, as when a firewall has forgotten them. New
// ones work.
func (d *door) deafen(testing.TB) {
	for _, p := range d.all() {
		p.deaf.Store(true)
	}
}

// freeze stops everything, as if the process was stopped, until thaw.
func (d *door) freeze(testing.TB) { d.pause.Lock() }
func (d *door) thaw(testing.TB)   { d.pause.Unlock() }

func (d *door) all() []*passage {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []*passage
	for p := range d.conns {
		list = append(list, p)
	}
	return list
}

// passage is a connection through a door.
type passage struct {
	net.Conn
	door *door
	deaf atomic.Bool
}

func (p *passage) Read(b []byte) (int, error) {
	for {
		n, err := p.Conn.Read(b)
		p.door.pass()
		if err != nil || !p.deaf.Load() {
			return n, err
		}
	}
}

func (p *passage) Write(b []byte) (int, error) {
	p.door.pass()
	if p.deaf.Load() {
		return len(b), nil
	}
	return p.Conn.Write(b)
}

func (p *passage) Close() error {
	p.door.mu.Lock()
	delete(p.door.conns, p)
	p.door.mu.Unlock()
	return p.Conn.Close()
}
