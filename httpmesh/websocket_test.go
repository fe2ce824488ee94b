package httpmesh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/zerohop/zerohop"
)

// echoServer upgrades connections and sends lines back. It closes after "bye", and after the end of what its client has
// to say, to which it answers "end".
type echoServer struct {
	*httptest.Server
	mu    sync.Mutex
	conns []net.Conn
}

func newEchoServer(t testing.TB) *echoServer {
	s := &echoServer{}
	s.Server = serve(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
		for {
			if err := rw.Flush(); err != nil {
				return
			}
			line, err := rw.ReadString('\n')
			switch {
			case errors.Is(err, io.EOF):
				fmt.Fprint(rw, "end\n")
				rw.Flush()
				return
			case err != nil || line == "bye\n":
				return
			}
			fmt.Fprint(rw, line)
		}
	})
	return s
}

// kill is what the end of its process does to a server.
func (s *echoServer) kill() {
	s.Listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

// session is the client's side of an upgraded connection.
type session struct {
	*net.TCPConn
	in *bufio.Reader
}

func dialSession(addr string) (*session, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &session{conn.(*net.TCPConn), bufio.NewReader(conn)}
	fmt.Fprintf(conn, "GET /chat HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", addr)
	resp, err := http.ReadResponse(s.in, nil)
	if err == nil && (resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "websocket") {
		err = fmt.Errorf("answer %s, header %v", resp.Status, resp.Header)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// say sends a line and returns what comes back.
func (s *session) say(line string) (string, error) {
	if _, err := fmt.Fprintln(s, line); err != nil {
		return "", err
	}
	return s.in.ReadString('\n')
}

func TestUpgradedConnectionsThroughAReverseProxy(t *testing.T) {
	const sessions = 100
	leftovers := goleak.IgnoreCurrent()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan struct{}, sessions)
	servers := []*echoServer{newEchoServer(t), newEchoServer(t)}
	m := open(t, zerohop.Config{Resolver: source(addr(servers[0].Server), addr(servers[1].Server)), Hooks: zerohop.Hooks{
		CallDone: func(context.Context, zerohop.CallInfo, zerohop.CallResult) { done <- struct{}{} },
	}})
	tr := client(t, m)
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "orders"}) },
		Transport: tr,
	})
	defer front.Close()

	var up, ended sync.WaitGroup
	up.Add(sessions)
	killed := make(chan struct{})
	for i := range sessions {
		ended.Go(func() {
			s, err := dialSession(addr(front))
			if err != nil {
				t.Errorf("session %d: %v", i, err)
				up.Done()
				return
			}
			defer s.Close()
			for k := range 20 {
				line := fmt.Sprintf("message %d of %d", k, i)
				if got, err := s.say(line); got != line+"\n" {
					t.Errorf("session %d: echo = %q, %v, want %q", i, got, err, line)
				}
			}
			up.Done()
			up.Wait()
			switch i % 4 {
			case 0: // the client goes away
			case 1:
				if got, err := s.say("bye"); !errors.Is(err, io.EOF) {
					t.Errorf("session %d: after the server closed = %q, %v, want EOF", i, got, err)
				}
			case 2:
				if err := s.CloseWrite(); err != nil {
					t.Errorf("session %d: %v", i, err)
				}
				if got, err := io.ReadAll(s.in); string(got) != "end\n" || err != nil {
					t.Errorf("session %d: after the client's end = %q, %v, want the server's last word", i, got, err)
				}
			case 3:
				<-killed
				if got, err := s.in.ReadString('\n'); err == nil {
					t.Errorf("session %d: after the server was killed = %q", i, got)
				}
			}
		})
	}
	up.Wait()
	for range sessions * 3 / 4 {
		await(ctx, t, done)
	}
	var inFlight int64
	for _, n := range nodes(t, m) {
		inFlight += int64(n.InFlight())
	}
	if got, want := inFlight, int64(sessions/4); got != want {
		t.Errorf("in flight = %d with %d sessions open", got, want)
	}
	for _, s := range servers {
		s.kill()
	}
	close(killed)
	for range sessions / 4 {
		await(ctx, t, done)
	}
	ended.Wait()
	checkIdle(t, m)
	front.Close()
	for _, s := range servers {
		s.Close()
	}
	tr.CloseIdleConnections()
	m.Close()
	goleak.VerifyNone(t, leftovers)
}

func await(ctx context.Context, t testing.TB, signal <-chan struct{}) {
	t.Helper()
	select {
	case <-signal:
	case <-ctx.Done():
		t.Fatal(context.Cause(ctx))
	}
}

// switched answers 101 with a body over one end of a pipe.
func switched(body io.ReadWriteCloser) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 101, Header: http.Header{"Upgrade": {"echo"}}, Body: body, Request: req}, nil
	}
}

type halfCloser struct {
	net.Conn
	half bool
}

func (c *halfCloser) CloseWrite() error {
	c.half = true
	return nil
}

func TestTunnelEndsWithItsClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		conn := &halfCloser{Conn: near}
		m := open(t, zerohop.Config{Resolver: fakes(1)})
		req := request(t.Context(), t, "GET", "http://orders/", nil)
		req.Header.Set("Upgrade", "echo")
		resp, err := NewTransport(m, switched(conn)).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		tunnel, ok := resp.Body.(interface {
			io.ReadWriteCloser
			CloseWrite() error
		})
		if !ok {
			t.Fatalf("body is a %T, which cannot be written to or half closed", resp.Body)
		}
		if err := tunnel.CloseWrite(); err != nil || !conn.half {
			t.Errorf("CloseWrite() = %v, connection told: %v", err, conn.half)
		}
		far.Close()
		if _, err := tunnel.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("Read() = %v, want EOF", err)
		}
		if got := nodes(t, m)[0].InFlight(); got != 1 {
			t.Errorf("in flight after the server's end = %d, want 1: the client may go on", got)
		}
		tunnel.Close()
		checkIdle(t, m)
		m.Close()
	})
}

func TestTunnelThatCannotBeHalfClosedSaysSo(t *testing.T) {
	near, _ := net.Pipe()
	m := open(t, zerohop.Config{Resolver: fakes(1)})
	resp, err := get(t.Context(), t, NewTransport(m, switched(near)), "http://orders/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := resp.Body.(interface{ CloseWrite() error }).CloseWrite(); !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("CloseWrite() = %v, want ErrNotSupported", err)
	}
}
