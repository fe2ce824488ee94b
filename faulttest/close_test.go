//go:build unix

package faulttest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/internal/echopb"
)

// silentResolver never answers.
type silentResolver struct{}

func (silentResolver) Watch(ctx context.Context, _ string, _ func([]discovery.Endpoint)) error {
	<-ctx.Done()
	return ctx.Err()
}

// Calls that wait for a connection, or for endpoints, end soon after somebody closes what they wait on.
func TestCloseEndsWaiters(t *testing.T) {
	const waiters, limit = 1000, 100 * time.Millisecond
	for what, wait := range map[string]struct {
		source func(refused string) discovery.Resolver
		opts   []grpc.CallOption
	}{
		"a connection": {func(refused string) discovery.Resolver { return static([]string{refused}) }, []grpc.CallOption{grpc.WaitForReady(true)}},
		"endpoints":    {func(string) discovery.Resolver { return static(nil) }, []grpc.CallOption{grpc.WaitForReady(true)}},
		"the source":   {func(string) discovery.Resolver { return silentResolver{} }, nil},
	} {
		for who, end := range map[string]func(*grpc.ClientConn, *zerohop.Mesh) error{
			"the connection": func(c *grpc.ClientConn, _ *zerohop.Mesh) error { return c.Close() },
			"the mesh":       func(_ *grpc.ClientConn, m *zerohop.Mesh) error { return m.Close() },
		} {
			t.Run("waiting for "+what+", closing "+who, func(t *testing.T) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				refused := l.Addr().String()
				l.Close()
				mesh, err := zerohop.New(zerohop.Config{Resolver: wait.source(refused), StartTimeout: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				defer mesh.Close()
				conn, err := grpc.NewClient(grpcmesh.Target(service),
					append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				client := echopb.NewEchoClient(conn)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				ends := make([]time.Time, waiters)
				var calls sync.WaitGroup
				for i := range ends {
					calls.Go(func() {
						var err error
						switch i % 3 {
						case 0:
							_, err = client.Say(ctx, &echopb.SayRequest{}, wait.opts...)
						case 1:
							_, err = client.Order(ctx, &echopb.SayRequest{}, wait.opts...)
						case 2:
							if _, err = client.Chat(ctx, wait.opts...); err == nil {
								err = status.Error(codes.OK, "a stream began")
							}
						}
						ends[i] = time.Now()
						if code := status.Code(err); code != codes.Canceled && code != codes.Unavailable {
							t.Errorf("call %d ended with %v, want CANCELLED or UNAVAILABLE", i, err)
						}
					})
				}
				<-time.After(500 * time.Millisecond) // all wait, or would have ended
				start := time.Now()
				if err := end(conn, mesh); err != nil {
					t.Error(err)
				}
				closed := time.Since(start)
				calls.Wait()
				var last time.Duration
				for i, at := range ends {
					if at.Before(start) {
						t.Errorf("call %d did not wait", i)
						break
					}
					last = max(last, at.Sub(start))
				}
				t.Logf("Close took %v, and the last of %d calls ended after %v", closed, waiters, last)
				if last > limit {
					t.Errorf("the last of %d calls ended %v after Close began, want at most %v", waiters, last, limit)
				}
			})
		}
	}
}
