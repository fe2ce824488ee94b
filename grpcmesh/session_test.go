package grpcmesh

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
)

const sessionKey = "x-session"

// sessions is a configuration with sessions in metadata, and without backups, which would move them.
func sessions(strict zerohop.Switch) zerohop.Config {
	return zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{
		Sticky: zerohop.Sticky{Header: "X-Session", Strict: strict}, Idempotent: zerohop.On,
		Budget: zerohop.Budget{Mode: zerohop.Off}, Backup: zerohop.Backup{Mode: zerohop.Off},
	}}}
}

// guest is a client that sends back the session it got.
type guest struct {
	*bed
	session string
}

// outgoing returns a context with the session.
func (g *guest) outgoing(ctx context.Context) context.Context {
	if g.session == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, sessionKey, g.session)
}

// take takes the session from headers and reports whether there is one.
func (g *guest) take(md metadata.MD) bool {
	v := md.Get(sessionKey)
	if len(v) > 0 {
		g.session = v[0]
	}
	return len(v) > 0
}

// say calls Say and returns who answered, and whether that began or moved the session.
func (g *guest) say(t *testing.T) (node string, moved bool, err error) {
	t.Helper()
	var md metadata.MD
	r, err := g.client.Say(g.outgoing(t.Context()), &echopb.SayRequest{Text: "hello"}, grpc.Header(&md))
	if err != nil {
		return "", false, err
	}
	return r.Node, g.take(md), nil
}

// home makes the first call and returns who answered.
func (g *guest) home(t *testing.T) string {
	t.Helper()
	node, began, err := g.say(t)
	if err != nil || !began || len(g.session) != 16 {
		t.Fatalf("first answer of %q begins session %q, %v", node, g.session, err)
	}
	return node
}

func (g *guest) server(name string) *server {
	for _, s := range g.servers {
		if s.name == name {
			return s
		}
	}
	return nil
}

func TestMetadataKeepsUnaryCallsOnTheirServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 4, sessions(zerohop.Off))
		b.warm(t)
		used := map[string]bool{}
		for range 30 {
			g := guest{bed: b}
			home := g.home(t)
			used[home] = true
			for range 10 {
				if node, moved, err := g.say(t); node != home || moved || err != nil {
					t.Fatalf("next answer is of %q, moved %v, %v, want %s", node, moved, err, home)
				}
			}
		}
		if len(used) != 4 {
			t.Errorf("30 sessions are on %d servers, want 4", len(used))
		}
		b.idle(t)
	})
}

func TestMetadataKeepsStreamsOnTheirServer(t *testing.T) {
	for _, repeated := range []zerohop.Switch{zerohop.Off, zerohop.On} {
		synctest.Test(t, func(t *testing.T) {
			cfg := sessions(zerohop.Off)
			cfg.Spec.Defaults.Idempotent = repeated
			b := setUp(t, 4, cfg)
			b.warm(t)
			g := guest{bed: b}
			home := g.home(t)
			chat := func() (node string, moved bool) {
				ctx, cancel := context.WithCancel(g.outgoing(t.Context()))
				defer cancel()
				s, err := b.client.Chat(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Send(&echopb.SayRequest{Text: "hello"}); err != nil {
					t.Fatal(err)
				}
				md, err := s.Header()
				if err != nil {
					t.Fatal(err)
				}
				moved = g.take(md)
				r, err := s.Recv()
				if err != nil {
					t.Fatal(err)
				}
				if err := s.CloseSend(); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Recv(); err == nil {
					t.Fatal("a message too many")
				}
				return r.Node, moved
			}
			for range 10 {
				if node, moved := chat(); node != home || moved {
					t.Fatalf("idempotent %s: stream is of %s, moved %v, want %s", repeated, node, moved, home)
				}
			}
			g.session = ""
			first, began := chat()
			if !began || len(g.session) != 16 {
				t.Fatalf("idempotent %s: first stream begins session %q", repeated, g.session)
			}
			if node, moved, err := g.say(t); node != first || moved || err != nil {
				t.Errorf("idempotent %s: call after the stream is answered by %s, moved %v, %v, want %s", repeated, node, moved, err, first)
			}
			b.idle(t)
		})
	}
}

// gRPC makes a connection again that was lost. That takes less than what a session is worth.
func TestLostConnectionMovesNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 4, sessions(zerohop.Off))
		b.warm(t)
		g := guest{bed: b}
		home := g.home(t)
		for range 5 {
			g.server(home).replace()
			synctest.Wait()
			if node, moved, err := g.say(t); node != home || moved || err != nil {
				t.Fatalf("answer after a restart is of %q, moved %v, %v, want %s", node, moved, err, home)
			}
		}
	})
}

func TestSessionOfADeadServer(t *testing.T) {
	for _, strict := range []zerohop.Switch{zerohop.Off, zerohop.On} {
		synctest.Test(t, func(t *testing.T) {
			b := setUp(t, 4, sessions(strict))
			b.warm(t)
			g := guest{bed: b}
			home := g.home(t)
			g.server(home).stop()
			synctest.Wait()
			node, moved, err := g.say(t)
			if strict == zerohop.On {
				if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), home) {
					t.Errorf("strict: answer of %q, %v, want UNAVAILABLE and the name of %s", node, err, home)
				}
				g.server(home).restart()
				time.Sleep(10 * time.Second)
				if node, _, err := g.say(t); node != home || err != nil {
					t.Errorf("strict: answer of %q, %v after the restart, want %s", node, err, home)
				}
				return
			}
			if err != nil || node == home || !moved {
				t.Fatalf("soft: answer of %q, moved %v, %v, want another server's", node, moved, err)
			}
			g.server(home).restart()
			time.Sleep(10 * time.Second)
			if again, moved, err := g.say(t); again != node || moved || err != nil {
				t.Errorf("soft: next answer is of %q, moved %v, %v, want %s", again, moved, err, node)
			}
		})
	}
}

// A server that hangs while gRPC connects to it holds up its sessions for a second at most.
func TestSoftSessionDoesNotWaitForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, sessions(zerohop.Off))
		b.warm(t)
		g := guest{bed: b}
		home := g.home(t)
		g.server(home).stop()
		l := b.listen(home) // accepts nothing
		defer l.Close()
		time.Sleep(2 * time.Second) // gRPC is connecting again
		start := time.Now()
		node, moved, err := g.say(t)
		if err != nil || node == home || !moved {
			t.Fatalf("answer of %q, moved %v, %v, want another server's", node, moved, err)
		}
		if took := time.Since(start); took > patienceForNode+2*staleness {
			t.Errorf("call took %v, want %v at most", took, patienceForNode)
		}
		b.idle(t)
	})
}

func TestDrainingServerKeepsItsSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 4, sessions(zerohop.Off))
		b.warm(t)
		g := guest{bed: b}
		home := g.home(t)
		eps := endpoints("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80")
		change := func(h discovery.Health) {
			for i := range eps {
				if eps[i].Addr == home {
					eps[i].Health = h
				}
			}
			b.source.Set("orders", eps...)
			time.Sleep(100 * time.Millisecond) // for the next change to come at once
		}
		change(discovery.Draining)
		for range 20 {
			if node, moved, err := g.say(t); node != home || moved || err != nil {
				t.Fatalf("draining: answer of %q, moved %v, %v, want %s", node, moved, err, home)
			}
			if other := (&guest{bed: b}); other.home(t) == home {
				t.Fatal("a new session began on the server that drains")
			}
		}
		change(discovery.Terminating)
		now, moved, err := g.say(t)
		if err != nil || now == home || !moved {
			t.Fatalf("terminating: answer of %q, moved %v, %v, want another server's", now, moved, err)
		}
		for range 20 {
			if node, moved, err := g.say(t); node != now || moved || err != nil {
				t.Fatalf("moved: answer of %q, moved %v, %v, want %s", node, moved, err, now)
			}
		}
		b.idle(t)
	})
}

func TestBadSessionsAreNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 2, sessions(zerohop.On))
		b.warm(t)
		for _, s := range []string{"10.0.0.1:80", "0000000000000000", "FFFFFFFFFFFFFFFF", "f", strings.Repeat("f", 9000)} {
			g := guest{bed: b, session: s}
			if node, began, err := g.say(t); err != nil || !began || g.session == s {
				t.Errorf("session %.20q: answer of %q, session %q, %v, want a new one", s, node, g.session, err)
			}
		}
	})
}

// gRFC A55 has sessions in cookies, which Envoy's clients know.
func TestCookieOverGRPC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := sessions(zerohop.Off)
		cfg.Spec.Defaults.Sticky = zerohop.Sticky{Cookie: zerohop.Cookie{Name: "zh", Path: "/echo"}}
		b := setUp(t, 3, cfg)
		b.warm(t)
		var md metadata.MD
		r, err := b.client.Say(t.Context(), &echopb.SayRequest{Text: "hello"}, grpc.Header(&md))
		if err != nil {
			t.Fatal(err)
		}
		set := md.Get("set-cookie")
		if len(set) != 1 || !strings.HasPrefix(set[0], "zh=") || !strings.HasSuffix(set[0], "; Path=/echo; HttpOnly; SameSite=Lax") {
			t.Fatalf("set-cookie = %q", set)
		}
		cookie, _, _ := strings.Cut(set[0], ";")
		for range 10 {
			again, err := b.client.Say(metadata.AppendToOutgoingContext(t.Context(), "cookie", "a=b; "+cookie), &echopb.SayRequest{Text: "hello"})
			if err != nil || again.Node != r.Node {
				t.Fatalf("next answer is of %s, %v, want %s", again.GetNode(), err, r.Node)
			}
		}
	})
}

// tag gives the endpoints of a bed their versions.
func (b *bed) tag(versions ...string) {
	var addrs []string
	for i := range versions {
		addrs = append(addrs, fmt.Sprintf("10.0.0.%d:80", i+1))
	}
	eps := endpoints(addrs...)
	for i, v := range versions {
		eps[i].Meta = map[string]string{"version": v}
	}
	b.source.Set("orders", eps...)
	synctest.Wait()
}

func TestMetadataSelectsEndpoints(t *testing.T) {
	for _, fallback := range []zerohop.Fallback{zerohop.FallbackNone, zerohop.FallbackAny} {
		synctest.Test(t, func(t *testing.T) {
			b := setUp(t, 4, zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Select: zerohop.Select{
				Headers: map[string]string{"version": "X-Version"}, Fallback: fallback,
			}}}})
			b.tag("1", "2", "1", "2")
			say := func(version string) (string, error) {
				ctx := metadata.AppendToOutgoingContext(t.Context(), "x-version", version)
				r, err := b.client.Say(ctx, &echopb.SayRequest{Text: "hello"})
				return r.GetNode(), err
			}
			want := map[string]map[string]bool{"1": {"10.0.0.1:80": true, "10.0.0.3:80": true}, "2": {"10.0.0.2:80": true, "10.0.0.4:80": true}}
			for version, nodes := range want {
				for range 20 {
					if node, err := say(version); err != nil || !nodes[node] {
						t.Fatalf("version %s: answer of %q, %v, want one of %v", version, node, err, nodes)
					}
				}
			}
			_, err := say("3")
			if fallback == zerohop.FallbackAny {
				if err != nil {
					t.Errorf("any: %v", err)
				}
			} else if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "metadata") {
				t.Errorf("none: %v, want UNAVAILABLE for the metadata", err)
			}
			// The endpoints of version 2 are there, but none is connected: nothing else takes their place.
			b.servers[1].stop()
			b.servers[3].stop()
			synctest.Wait()
			time.Sleep(time.Second)
			if node, err := say("2"); status.Code(err) != codes.Unavailable {
				t.Errorf("answer of %q, %v without an endpoint of version 2, want UNAVAILABLE", node, err)
			}
			b.servers[3].restart()
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-version", "2")
			r, err := b.client.Say(ctx, &echopb.SayRequest{Text: "hello"}, grpc.WaitForReady(true))
			if err != nil || r.Node != "10.0.0.4:80" {
				t.Errorf("call that waits: answer of %q, %v, want 10.0.0.4:80", r.GetNode(), err)
			}
			b.idle(t)
		})
	}
}
