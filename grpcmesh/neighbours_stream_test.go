//go:build linux || darwin

package grpcmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/net/nettest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/samehost"
)

// onSocket runs a test with a server that is reached over a socket alone, without and with TLS.
func onSocket(t *testing.T, f func(t *testing.T, s *server, client echopb.EchoClient)) {
	cert, pool := certificate(t, "orders")
	for name, c := range map[string]struct {
		server []grpc.ServerOption
		creds  credentials.TransportCredentials
	}{
		"plain": {creds: insecure.NewCredentials()},
		"TLS": {
			server: []grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(&cert))},
			creds:  credentials.NewClientTLSFromCert(pool, ""),
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := directory(t)
			s, l, tcp, unix := serveBeside(t, dir, c.server...)
			client, _, over := near(t, dir, discovery.Endpoint{Addr: l.Addr().String(), Meta: l.Meta()}, zerohop.Policy{}, c.creds)
			f(t, s, client)
			if over[zerohop.NetworkTCP].Load() > 0 || over[zerohop.NetworkUnix].Load() == 0 || tcp.Load() > 0 || unix.Load() == 0 {
				t.Errorf("%d attempts and %d connections over TCP, %d and %d over the socket",
					over[zerohop.NetworkTCP].Load(), tcp.Load(), over[zerohop.NetworkUnix].Load(), unix.Load())
			}
		})
	}
}

// Both sides speak at once and in order, and the server has the last word.
func TestStreamsGoBothWaysOverSockets(t *testing.T) {
	const messages = 500
	onSocket(t, func(t *testing.T, s *server, client echopb.EchoClient) {
		s.stream(func(stream echopb.Echo_ChatServer) error {
			stream.SetTrailer(metadata.Pairs("last", "word"))
			for n := 0; ; n++ {
				r, err := stream.Recv()
				if err == io.EOF {
					return status.Error(codes.DataLoss, fmt.Sprint(n, " messages"))
				}
				if err != nil {
					return err
				}
				if err := stream.Send(&echopb.SayReply{Text: r.Text}); err != nil {
					return err
				}
			}
		})
		stream, err := client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan error)
		go func() {
			for n := range messages {
				if err := stream.Send(say(fmt.Sprint(n))); err != nil {
					sent <- err
					return
				}
			}
			sent <- stream.CloseSend()
		}()
		for n := range messages {
			if r, err := stream.Recv(); err != nil || r.Text != fmt.Sprint(n) {
				t.Fatalf("Recv() = %v, %v, want %d", r, err, n)
			}
		}
		if err := <-sent; err != nil {
			t.Errorf("Send() = %v", err)
		}
		_, err = stream.Recv()
		if st := status.Convert(err); st.Code() != codes.DataLoss || st.Message() != fmt.Sprint(messages, " messages") {
			t.Errorf("Recv() = %v, want what the server ended with", err)
		}
		if got := stream.Trailer()["last"]; len(got) != 1 || got[0] != "word" {
			t.Errorf("Trailer() = %v", stream.Trailer())
		}
	})
}

// Servers learn that a caller has left, of a stream and of a call.
func TestCallersThatLeaveAreNoticedOverSockets(t *testing.T) {
	onSocket(t, func(t *testing.T, s *server, client echopb.EchoClient) {
		begun, gone := make(chan struct{}), make(chan error)
		wait := func(ctx context.Context) error {
			begun <- struct{}{}
			<-ctx.Done()
			gone <- ctx.Err()
			return ctx.Err()
		}
		left := func(what string, err error) {
			t.Helper()
			if status.Code(err) != codes.Canceled {
				t.Errorf("%s = %v, want that it was cancelled", what, err)
			}
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: the server saw %v", what, err)
			}
		}
		s.stream(func(stream echopb.Echo_ChatServer) error { return wait(stream.Context()) })
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := client.Chat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		<-begun
		cancel()
		_, err = stream.Recv()
		left("Recv()", err)

		s.do(func(ctx context.Context, _ string) error { return wait(ctx) })
		ctx, cancel = context.WithCancel(t.Context())
		go func() {
			<-begun
			cancel()
		}()
		_, err = client.Order(ctx, say("hello"))
		left("Order()", err)
	})
}

// A server that stops gracefully ends what is in flight on both its listeners, and takes nothing more.
func TestGracefulStopEndsCallsOverBothListeners(t *testing.T) {
	dir := directory(t)
	s, l, tcp, unix := serveBeside(t, dir)
	ep := discovery.Endpoint{Addr: l.Addr().String(), Meta: l.Meta()}
	begun, finish := make(chan struct{}), make(chan struct{})
	s.stream(func(stream echopb.Echo_ChatServer) error {
		begun <- struct{}{}
		<-finish
		return stream.Send(&echopb.SayReply{Text: "done"})
	})
	var streams []echopb.Echo_ChatClient
	for _, sockets := range []string{dir, ""} {
		client, _, _ := near(t, sockets, ep, zerohop.Policy{}, insecure.NewCredentials())
		stream, err := client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-begun
		streams = append(streams, stream)
	}
	if tcp.Load() != 1 || unix.Load() != 1 {
		t.Errorf("%d connections over TCP, %d over the socket, want one each", tcp.Load(), unix.Load())
	}
	s.mu.Lock()
	g := s.grpc
	s.mu.Unlock()
	stopped := make(chan struct{})
	go func() {
		g.GracefulStop()
		close(stopped)
	}()
	for conn, err := net.Dial("unix", ep.Meta[samehost.KeyPath]); err == nil; conn, err = net.Dial("unix", ep.Meta[samehost.KeyPath]) {
		conn.Close() // until it has begun
	}
	select {
	case <-stopped:
		t.Error("the server has stopped while calls were in flight")
	default:
	}
	close(finish)
	for _, stream := range streams {
		if r, err := stream.Recv(); err != nil || r.Text != "done" {
			t.Errorf("Recv() = %v, %v, want the end of what was in flight", r, err)
		}
		if _, err := stream.Recv(); err != io.EOF {
			t.Errorf("Recv() = %v, want the end", err)
		}
	}
	<-stopped
	if _, err := os.Lstat(ep.Meta[samehost.KeyPath]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if conn, err := net.Dial("tcp", ep.Addr); err == nil {
		conn.Close()
		t.Error("the server still takes connections")
	}
}

func TestConnectionToASocketIsOne(t *testing.T) {
	dir := directory(t)
	p := samehost.Policy{Directories: []string{dir}}
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		path := filepath.Join(dir, "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			return nil, nil, nil, err
		}
		defer l.Close()
		if c1, err = net.Dial("unix", path); err != nil {
			return nil, nil, nil, err
		}
		if c2, err = l.Accept(); err != nil {
			c1.Close()
			return nil, nil, nil, err
		}
		c1 = &nearConn{Conn: c1, socket: samehost.NewSocket(&p, samehost.Address{Path: path})}
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	})
}
