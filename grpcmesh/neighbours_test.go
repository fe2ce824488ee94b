//go:build linux || darwin

package grpcmesh

import (
	"context"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/samehost"
)

// beside starts a server on TCP and on a socket in dir, and returns its listener and how many connections came by each.
func beside(t testing.TB, dir string, opts ...grpc.ServerOption) (l *samehost.Listener, tcp, unix *atomic.Int64) {
	t.Helper()
	_, l, tcp, unix = serveBeside(t, dir, opts...)
	return l, tcp, unix
}

// serveBeside is beside, and returns the server, too.
func serveBeside(t testing.TB, dir string, opts ...grpc.ServerOption) (s *server, l *samehost.Listener, tcp, unix *atomic.Int64) {
	t.Helper()
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if l, err = samehost.Listen(on, samehost.ListenConfig{Directory: dir}); err != nil {
		t.Fatal(err)
	}
	tcp, unix = &atomic.Int64{}, &atomic.Int64{}
	s = &server{name: l.Addr().String(), options: opts}
	s.start(counting{l, tcp, unix})
	t.Cleanup(s.stop)
	return s, l, tcp, unix
}

// counting counts connections.
type counting struct {
	net.Listener
	tcp, unix *atomic.Int64
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil && conn.LocalAddr().Network() == "unix" {
		c.unix.Add(1)
	} else if err == nil {
		c.tcp.Add(1)
	}
	return conn, err
}

func directory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "z")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// takenFrom returns the policy that takes sockets from a directory, none if it is empty.
func takenFrom(dir string) samehost.Policy {
	if dir == "" {
		return samehost.Policy{}
	}
	return samehost.Policy{Directories: []string{dir}}
}

// near opens a mesh with one instance of "orders", and a connection to it. over counts attempts by network.
func near(t testing.TB, dir string, ep discovery.Endpoint, p zerohop.Policy, creds credentials.TransportCredentials) (
	client echopb.EchoClient, m *zerohop.Mesh, over *[3]atomic.Int64,
) {
	t.Helper()
	return nearWith(t, dir, ep, p, creds, nil)
}

// nearWith is near, with a hook.
func nearWith(t testing.TB, dir string, ep discovery.Endpoint, p zerohop.Policy, creds credentials.TransportCredentials,
	connected func(string, zerohop.ConnectionEvent),
) (client echopb.EchoClient, m *zerohop.Mesh, over *[3]atomic.Int64) {
	t.Helper()
	over = &[3]atomic.Int64{}
	m, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": {ep}}, Sockets: takenFrom(dir), Spec: zerohop.Spec{Defaults: p},
		Hooks: zerohop.Hooks{
			AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
				over[r.Network].Add(1)
			},
			Connection: connected,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	conn, err := grpc.NewClient(Target("orders"), append(DialOptions(m), grpc.WithTransportCredentials(creds))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return echopb.NewEchoClient(conn), m, over
}

func TestRPCsGoToTheSocketOfAnInstanceOnTheSameHost(t *testing.T) {
	dir := directory(t)
	cert, pool := certificate(t, "orders")
	for name, c := range map[string]struct {
		server []grpc.ServerOption
		creds  credentials.TransportCredentials
		policy zerohop.Policy
		unix   bool
	}{
		"plain": {creds: insecure.NewCredentials(), unix: true},
		"TLS": {
			server: []grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(&cert))}, creds: credentials.NewClientTLSFromCert(pool, ""),
			unix: true,
		},
		"switched off": {creds: insecure.NewCredentials(), policy: zerohop.Policy{Connect: zerohop.Connect{Unix: zerohop.Off}}},
	} {
		t.Run(name, func(t *testing.T) {
			l, tcp, unix := beside(t, dir, c.server...)
			client, _, over := near(t, dir, discovery.Endpoint{Addr: l.Addr().String(), Meta: l.Meta()}, c.policy, c.creds)
			for range 3 {
				if _, err := client.Say(t.Context(), &echopb.SayRequest{}); err != nil {
					t.Fatalf("Say() = %v", err)
				}
			}
			network := zerohop.NetworkTCP
			if c.unix {
				network = zerohop.NetworkUnix
			}
			if got := over[network].Load(); got != 3 {
				t.Errorf("%d attempts over %v, want 3", got, network)
			}
			if c.unix == (tcp.Load() > 0) || c.unix != (unix.Load() > 0) {
				t.Errorf("%d connections over TCP, %d over the socket", tcp.Load(), unix.Load())
			}
		})
	}
}

// Neither a socket that is gone nor one on which somebody else listens keeps calls from an instance.
func TestRPCsFindTheInstanceWhereItsSocketDoesNotWork(t *testing.T) {
	dir := directory(t)
	for _, name := range []string{"gone", "mute"} {
		t.Run(name, func(t *testing.T) {
			l, tcp, _ := beside(t, dir)
			ep := discovery.Endpoint{Addr: l.Addr().String(), Meta: l.Meta()}
			if name == "gone" {
				if err := os.Remove(ep.Meta[samehost.KeyPath]); err != nil {
					t.Fatal(err)
				}
			} else {
				ep.Meta = stranger(t, dir)
			}
			client, m, over := near(t, dir, ep, zerohop.Policy{}, insecure.NewCredentials())
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := client.Say(ctx, &echopb.SayRequest{}, grpc.WaitForReady(true)); err != nil {
				t.Fatalf("Say() = %v", err)
			}
			if over[zerohop.NetworkTCP].Load() != 1 || tcp.Load() == 0 {
				t.Errorf("%d attempts and %d connections over TCP, want 1", over[zerohop.NetworkTCP].Load(), tcp.Load())
			}
			if st := m.State().Services[0].Endpoints[0]; st.SocketError == "" {
				t.Error("the state does not say why the socket was not used")
			}
		})
	}
}

// stranger listens on a socket and hangs up on all that come. It returns its metadata.
func stranger(t *testing.T, dir string) map[string]string {
	t.Helper()
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := samehost.Listen(on, samehost.ListenConfig{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.ReadFull(c, make([]byte, 1))
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Meta()
}

func TestNeighboursAreForgottenWithTheirConnections(t *testing.T) {
	dir := directory(t)
	l, _, _ := beside(t, dir)
	m, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": {{Addr: l.Addr().String(), Meta: l.Meta()}}},
		Sockets:  samehost.Policy{Directories: []string{dir}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	list := &neighbours{mesh: m}
	c := Client{Mesh: m}
	config, _ := c.configs()
	for range 3 {
		opts := append(c.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithResolvers(&resolverBuilder{mesh: m, config: config, near: list}), grpc.WithContextDialer(dialer(nil, list, nil, nil)))
		conn, err := grpc.NewClient(Target("orders"), opts...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{}); err != nil {
			t.Errorf("Say() = %v", err)
		}
		conn.Close()
	}
	list.byAt.Range(func(addr, _ any) bool {
		t.Errorf("%v is still known", addr)
		return true
	})
}

// Whoever asks is told of each connection, with or without sockets, and why one is not to the socket.
func TestHookHearsOfConnections(t *testing.T) {
	dir := directory(t)
	for name, c := range map[string]struct {
		sockets string // where they may be
		spoil   func(*testing.T, *discovery.Endpoint)
		want    zerohop.ConnectionEvent
	}{
		"socket":     {sockets: dir, want: zerohop.ConnectionEvent{Network: zerohop.NetworkUnix}},
		"no sockets": {want: zerohop.ConnectionEvent{Network: zerohop.NetworkTCP}},
		"replaced": {sockets: dir, spoil: func(_ *testing.T, ep *discovery.Endpoint) { ep.Meta[samehost.KeyFile] = "1-2-3" },
			want: zerohop.ConnectionEvent{Network: zerohop.NetworkTCP, Fallback: samehost.ReasonReplaced}},
		"gone": {sockets: dir, spoil: func(t *testing.T, ep *discovery.Endpoint) {
			if err := os.Remove(ep.Meta[samehost.KeyPath]); err != nil {
				t.Fatal(err)
			}
		}, want: zerohop.ConnectionEvent{Network: zerohop.NetworkTCP, Fallback: samehost.ReasonGone}},
	} {
		t.Run(name, func(t *testing.T) {
			l, _, _ := beside(t, dir)
			ep := discovery.Endpoint{Addr: l.Addr().String(), Meta: l.Meta()}
			if c.spoil != nil {
				c.spoil(t, &ep)
			}
			c.want.Addr = ep.Addr
			events := make(chan zerohop.ConnectionEvent, 10)
			connected := func(service string, ev zerohop.ConnectionEvent) {
				if service != "orders" {
					t.Errorf("connection for %q", service)
				}
				events <- ev
			}
			client, _, _ := nearWith(t, c.sockets, ep, zerohop.Policy{}, insecure.NewCredentials(), connected)
			if _, err := client.Say(t.Context(), &echopb.SayRequest{}); err != nil {
				t.Fatalf("Say() = %v", err)
			}
			if got := <-events; got != c.want {
				t.Errorf("connection %+v, want %+v", got, c.want)
			}
			if len(events) > 0 {
				t.Errorf("another connection: %+v", <-events)
			}
		})
	}
}
