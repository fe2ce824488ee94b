package samehost

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sync"
	"time"
)

// ListenConfig says where the socket of a server is.
type ListenConfig struct {
	// Directory is where the socket is made. It is made, too, if it is not there, with mode 0700: then callers must be of the same
	// user, or root. Otherwise it must belong to the user of the process, or root, and nobody else may be able to write to it.
	// Required.
	Directory string
	// Name is the file name of the socket. One that a process has left behind that is gone is replaced; if somebody listens on it,
	// it is an error. Empty means a name that no other has, so that processes may share the directory, and what others have left
	// behind is removed.
	Name string
	// Mode is that of the socket. 0 means 0600. Who connects needs to be allowed to write.
	Mode fs.FileMode
}

// Listen returns a listener for the connections to tcp and those to a Unix socket beside it, which belongs to it from then on. It
// is for servers that add TLS themselves: tcp must not be a listener of TLS, or the socket would be one without.
//
// Where sockets are not supported the Listener is tcp alone.
func Listen(tcp net.Listener, c ListenConfig) (*Listener, error) {
	if fmt.Sprintf("%T", tcp) == "*tls.listener" {
		return nil, errors.New("samehost: TLS belongs above the listener, not below it, for both kinds of connections")
	}
	l := &Listener{tcp: tcp, conns: make(chan net.Conn), failed: make(chan error), done: make(chan struct{})}
	if !supported {
		return l, nil
	}
	if err := l.open(c); err != nil {
		return nil, fmt.Errorf("samehost: %w", err)
	}
	l.tasks.Go(func() { l.accept(l.tcp, true) })
	l.tasks.Go(func() { l.accept(l.unix, false) })
	return l, nil
}

// Listener listens on TCP and on a Unix socket. It is made by Listen.
type Listener struct {
	tcp  net.Listener
	unix *net.UnixListener // nil if there is none
	addr Address           // of unix

	conns  chan net.Conn
	failed chan error // what Accept of tcp returned
	done   chan struct{}
	once   sync.Once
	tasks  sync.WaitGroup // both of accept
	err    error          // of Close
}

// Meta returns the metadata by which callers find the socket, for discovery.Endpoint.Meta; nil if there is none. lifecycle.Run adds
// it to the instances of a server.
func (l *Listener) Meta() map[string]string {
	if l.unix == nil {
		return nil
	}
	return l.addr.meta()
}

// Addr returns the address of TCP.
func (l *Listener) Addr() net.Addr { return l.tcp.Addr() }

// Accept returns the next connection of either kind.
func (l *Listener) Accept() (net.Conn, error) {
	if l.unix == nil {
		return l.tcp.Accept()
	}
	select {
	case <-l.done:
		return nil, l.closed()
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.done:
		return nil, l.closed()
	}
}

func (l *Listener) closed() error {
	return &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
}

// Close stops listening and removes the socket, unless another one has taken its place. Connections that were accepted go on. It is
// idempotent.
func (l *Listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		if l.unix != nil {
			l.remove() // so that nobody comes any more
			l.err = l.unix.Close()
		}
		l.err = errors.Join(l.tcp.Close(), l.err)
		l.tasks.Wait()
	})
	return l.err
}

// accept hands on the connections of one of the listeners, until Close.
func (l *Listener) accept(from net.Listener, tell bool) {
	for {
		c, err := from.Accept()
		switch {
		case err == nil:
			select {
			case l.conns <- c:
			case <-l.done:
				c.Close()
				return
			}
		case tell: // the server knows what to do
			select {
			case l.failed <- err:
			case <-l.done:
				return
			}
		case errors.Is(err, net.ErrClosed):
			return
		default: // too many open files, of which that of TCP tells
			select {
			case <-time.After(acceptPause):
			case <-l.done:
				return
			}
		}
	}
}

// acceptPause is how long after an error the socket is listened to again. http.Server waits that long at most.
const acceptPause = time.Second
