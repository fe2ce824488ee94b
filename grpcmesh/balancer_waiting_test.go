package grpcmesh

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/loadbalance"
)

// clients are what the promises of the balancer hold for: a connection on the mesh, and one without its interceptors.
func (b *bed) clients(t *testing.T) map[string]echopb.EchoClient {
	return map[string]echopb.EchoClient{
		"mesh":  b.client,
		"alone": echopb.NewEchoClient(b.dialTo(t, Target("orders"), grpc.WithResolvers(Resolver(b.mesh)))),
	}
}

// crowd are many calls that wait.
type crowd struct {
	sync.WaitGroup
	ended atomic.Int64
}

// wait makes the calls, each of which ends with one of the given codes.
func (c *crowd) wait(t *testing.T, client echopb.EchoClient, patient bool, want ...codes.Code) {
	for range 1000 {
		c.Go(func() {
			_, err := client.Say(t.Context(), &echopb.SayRequest{}, grpc.WaitForReady(patient))
			for _, w := range want {
				if status.Code(err) == w {
					c.ended.Add(1)
					return
				}
			}
			t.Errorf("Say() = %v, want %v", err, want)
		})
	}
}

// soon waits for the end of all calls, from which a tenth of a second is left.
func (c *crowd) soon(t *testing.T) {
	t.Helper()
	start := time.Now()
	c.Wait()
	if took := time.Since(start); took > 100*time.Millisecond {
		t.Errorf("calls that waited took %v to end", took)
	}
}

// Closing the mesh or the connection ends calls that wait, be it for a connection or for endpoints.
func TestCloseEndsThoseWhoWait(t *testing.T) {
	for _, tt := range []struct {
		name    string
		patient bool
		prepare func(*bed)
	}{
		{"refusing", true, func(b *bed) {
			for _, s := range b.servers {
				s.stop()
			}
		}},
		{"connecting", false, func(b *bed) {
			for _, s := range b.servers {
				b.listen(s.name) // where nobody accepts
				s.stop()
			}
		}},
		{"empty", true, func(b *bed) {
			b.source.Set("orders")
			time.Sleep(10 * time.Minute) // until the empty set is believed
		}},
	} {
		for _, name := range []string{"mesh", "alone"} {
			for _, whole := range []bool{false, true} {
				t.Run(tt.name+"/"+name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						b := setUp(t, 3, zerohop.Config{})
						b.say(t)
						nodes := b.nodes(t, "orders")
						tt.prepare(b)
						synctest.Wait() // until lost connections are known to be
						conn := b.conn
						if name == "alone" {
							conn = b.dialTo(t, Target("orders"), grpc.WithResolvers(Resolver(b.mesh)))
						}
						var c crowd
						c.wait(t, echopb.NewEchoClient(conn), tt.patient, codes.Canceled, codes.Unavailable)
						time.Sleep(time.Second)
						synctest.Wait()
						if got := c.ended.Load(); got != 0 {
							t.Errorf("%d calls did not wait", got)
						}
						if whole {
							b.mesh.Close()
						} else {
							conn.Close()
						}
						c.soon(t)
						for _, n := range nodes {
							if got := n.InFlight(); got != 0 {
								t.Errorf("in flight on %s = %d, want 0", n.Addr(), got)
							}
						}
					})
				})
			}
		}
	}
}

// The set becomes empty under calls that wait, and is filled again.
func TestThoseWhoWaitGetEndpointsThatCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		for name, client := range b.clients(t) {
			for _, s := range b.servers {
				s.stop()
			}
			synctest.Wait() // until lost connections are known to be
			var c crowd
			c.wait(t, client, true, codes.OK)
			time.Sleep(time.Minute)
			b.source.Set("orders")
			time.Sleep(10 * time.Minute) // until the empty set is believed
			c.wait(t, client, true, codes.OK)
			synctest.Wait()
			if got := c.ended.Load(); got != 0 {
				t.Errorf("%s: %d calls did not wait", name, got)
			}
			if _, err := client.Say(t.Context(), &echopb.SayRequest{}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "orders: ") {
				t.Errorf("%s: Say() without endpoints = %v, want UNAVAILABLE that names the service", name, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := client.Say(ctx, &echopb.SayRequest{}, grpc.WaitForReady(true)); status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), loadbalance.ErrNoEndpoints.Error()) {
				t.Errorf("%s: Say() that waits = %v, want DEADLINE_EXCEEDED, and for what it waited", name, err)
			}
			cancel()
			for _, s := range b.servers {
				s.restart()
			}
			b.source.Set("orders", endpoints(b.servers[0].name, b.servers[1].name, b.servers[2].name)...)
			c.soon(t)
			b.idle(t)
		}
	})
}

func TestErrorsNameServiceAndConnectionError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{})
		for _, s := range b.servers {
			s.stop()
		}
		for name, client := range b.clients(t) {
			synctest.Wait() // until lost connections are known to be
			_, err := client.Say(t.Context(), &echopb.SayRequest{})
			if status.Code(err) != codes.Unavailable {
				t.Errorf("%s: Say() = %v, want UNAVAILABLE", name, err)
			}
			for _, part := range []string{"orders: ", "none of 3 endpoints", b.servers[0].name, "connection refused"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: Say() = %v, which does not say %q", name, err, part)
				}
			}
		}
	})
}
