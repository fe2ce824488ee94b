package grpcmesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/resilience"
)

// one lets one call in at a time, and none wait.
var one = zerohop.AdmissionPolicy{Mode: zerohop.On, Algorithm: "fixed", Max: 1, Queue: -1}

func admission(t testing.TB, p zerohop.AdmissionPolicy) *zerohop.Admission {
	t.Helper()
	a, err := zerohop.NewAdmission(zerohop.AdmissionConfig{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// take fills the only place, and returns what gives it back.
func take(t *testing.T, a *zerohop.Admission) func() {
	t.Helper()
	v := new(zerohop.Visit)
	if err := a.Admit(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	return func() { v.Leave(resilience.Neutral) }
}

// What plain clients of a server over TCP see.
func TestServerRefusesWhatIsTooMuch(t *testing.T) {
	a := admission(t, one)
	half := &Server{Admission: a, Health: health.NewServer()}
	g := grpc.NewServer(half.ServerOptions()...)
	echopb.RegisterEchoServer(g, &server{name: "tcp"})
	healthpb.RegisterHealthServer(g, half.Health)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.Serve(l)
	}()
	defer func() { g.Stop(); <-done }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := echopb.NewEchoClient(conn)

	leave := take(t, a)
	for _, tt := range []struct {
		pairs    []string
		pushback string
	}{
		{nil, ""},
		{[]string{attemptsKey, "1"}, "-1"},
		{[]string{criticalityKey, "sheddable"}, "-1"},
		{[]string{criticalityKey, "low", attemptTimeoutKey, "x"}, ""},
	} {
		var trailer metadata.MD
		_, err := client.Say(metadata.AppendToOutgoingContext(t.Context(), tt.pairs...), &echopb.SayRequest{}, grpc.Trailer(&trailer))
		if status.Code(err) != codes.ResourceExhausted || len(trailer[refusedKey]) != 1 || strings.Join(trailer[pushbackKey], ",") != tt.pushback {
			t.Errorf("Say(%q) = %v, %v, want RESOURCE_EXHAUSTED and pushback %q", tt.pairs, err, trailer, tt.pushback)
		}
		chat, err := client.Chat(metadata.AppendToOutgoingContext(t.Context(), tt.pairs...))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := chat.Recv(); status.Code(err) != codes.ResourceExhausted || len(chat.Trailer()[refusedKey]) != 1 {
			t.Errorf("Recv() of a stream = %v, %v, want RESOURCE_EXHAUSTED", err, chat.Trailer())
		}
	}
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("a health check: %v", err)
	}
	leave()
	if _, err := client.Say(t.Context(), &echopb.SayRequest{}); err != nil {
		t.Errorf("with a place free: %v", err)
	}
}

// Streams keep their place until they are answered, so that those that stand shut nobody out.
func TestOpenStreamsKeepNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := admission(t, one)
		b := served(t, 1, zerohop.Config{}, (&Server{Admission: a}).ServerOptions()...)
		b.warm(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		chat, err := b.client.Chat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := a.State().InFlight; got != 1 {
			t.Errorf("%d in flight before the answer, want 1", got)
		}
		if err := chat.Send(&echopb.SayRequest{Text: "hello"}); err != nil {
			t.Fatal(err)
		}
		if _, err := chat.Recv(); err != nil {
			t.Fatal(err)
		}
		if got := a.State().InFlight; got != 0 {
			t.Errorf("%d in flight while a stream stands, want none", got)
		}
		b.say(t)
	})
}

// A stream that has nothing to say for long gives its place back with its header.
func TestSilentStreamsKeepNoPlaceAfterTheirHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := admission(t, one)
		header := func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := stream.SendHeader(metadata.MD{}); err != nil {
				return err
			}
			return next(srv, stream)
		}
		b := served(t, 1, zerohop.Config{}, append((&Server{Admission: a}).ServerOptions(), grpc.ChainStreamInterceptor(header))...)
		b.warm(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		chat, err := b.client.Chat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := chat.Header(); err != nil {
			t.Fatal(err)
		}
		if got := a.State().InFlight; got != 0 {
			t.Errorf("%d in flight while a stream stands, want none", got)
		}
		b.say(t)
	})
}

// What a server refuses goes elsewhere, safe to repeat or not; if all refuse, it is sent to each of them once.
func TestRefusedCallsGoElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := zerohop.Spec{Defaults: zerohop.Policy{Balance: "random", Idempotent: zerohop.Off, Budget: zerohop.Budget{Mode: zerohop.Off}, Outlier: zerohop.Outlier{Mode: zerohop.Off}}}
		b := setUp(t, 0, zerohop.Config{Spec: spec})
		full, free := admission(t, one), admission(t, one)
		var addrs []string
		for i, a := range []*zerohop.Admission{full, free} {
			addrs = append(addrs, fmt.Sprintf("10.0.0.%d:80", i+1))
			b.servers = append(b.servers, b.serve(t, addrs[i], (&Server{Admission: a}).ServerOptions()...))
		}
		b.source.Set("orders", endpoints(addrs...)...)
		b.warm(t)
		leave := take(t, full)
		again := 0
		for range 20 {
			ctx, report := zerohop.WithReport(t.Context())
			if _, err := b.client.Say(ctx, &echopb.SayRequest{}); err != nil {
				t.Fatalf("Say() = %v, want that the free server answers", err)
			}
			for _, at := range report.Calls()[0].Attempts {
				if at.Outcome == resilience.Overload {
					again++
				}
			}
		}
		if served := b.servers[1].calls.Load(); again == 0 || served != 20 || b.servers[0].calls.Load() != 0 {
			t.Errorf("%d refused, %d served by the free server, want some and 20", again, served)
		}
		leaveToo := take(t, free)
		_, err := b.client.Say(t.Context(), &echopb.SayRequest{})
		var e *zerohop.Error
		if !errors.As(err, &e) || status.Code(err) != codes.ResourceExhausted || len(e.Attempts) != 2 || e.Detail != resilience.Declined || e.Sent {
			t.Errorf("all are full: Say() = %v, want RESOURCE_EXHAUSTED after one attempt on each", err)
		}
		leave()
		leaveToo()
	})
}

func TestCallsTellTheTimeoutOfTheirAttempts(t *testing.T) {
	for _, tt := range []struct {
		name     string
		policy   zerohop.Policy
		deadline time.Duration
		want     string
	}{
		{"none", zerohop.Policy{}, 0, ""},
		{"some", zerohop.Policy{AttemptTimeout: 250 * time.Millisecond}, 0, "250"},
		{"less than the deadline", zerohop.Policy{AttemptTimeout: 250 * time.Millisecond}, time.Second, "250"},
		{"more than the deadline", zerohop.Policy{AttemptTimeout: time.Minute}, time.Second, ""},
		{"off", zerohop.Policy{AttemptTimeout: time.Second, Propagate: zerohop.Off}, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setUp(t, 1, zerohop.Config{Spec: zerohop.Spec{Defaults: tt.policy}})
				b.warm(t)
				var got string
				b.servers[0].do(func(ctx context.Context, _ string) error {
					got = strings.Join(metadata.ValueFromIncomingContext(ctx, attemptTimeoutKey), ",")
					return nil
				})
				ctx := t.Context()
				if tt.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				if _, err := b.client.Say(ctx, &echopb.SayRequest{}); err != nil || got != tt.want {
					t.Errorf("Say() = %v, and told the server %q, want %q", err, got, tt.want)
				}
			})
		})
	}
}

// A call whose attempt has too little time is refused, and the caller who has more may try elsewhere.
func TestServerRefusesWhatWouldBeTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Admission: admission(t, zerohop.AdmissionPolicy{Mode: zerohop.On})}
		slow := func(context.Context, any) (any, error) {
			time.Sleep(100 * time.Millisecond)
			return nil, nil
		}
		info := &grpc.UnaryServerInfo{FullMethod: "/echo.Echo/Say"}
		call := func(left time.Duration, pairs ...string) error {
			ctx := inbound(t.Context(), pairs...)
			if left > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, left)
				defer cancel()
			}
			_, err := s.unary(ctx, nil, info, slow)
			return err
		}
		for range 25 {
			if err := call(0); err != nil {
				t.Fatal(err)
			}
		}
		running := make(chan error)
		go func() { running <- call(0) }()
		synctest.Wait()
		if err := call(50 * time.Millisecond); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("with too short a deadline: %v, want DEADLINE_EXCEEDED", err)
		}
		if err := call(time.Second, attemptTimeoutKey, "50"); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("with too short an attempt: %v, want RESOURCE_EXHAUSTED", err)
		}
		if err := call(time.Second, attemptTimeoutKey, "50", attemptTimeoutKey, "50"); err != nil {
			t.Errorf("with two timeouts: %v, want that they are ignored", err)
		}
		<-running
	})
}
