package grpcmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/internal/orca"
	"github.com/zerohop/zerohop/loadbalance"
)

// byReport is a mesh whose endpoints are picked by what they report.
func byReport(c loadbalance.PrequalConfig) zerohop.Config {
	return zerohop.Config{
		Balancers: map[string]loadbalance.Builder{"by-report": c.Prequal},
		Spec:      zerohop.Spec{Defaults: zerohop.Policy{Balance: "by-report"}},
	}
}

// add adds servers with these halves to a bed, those that are registered if asked for.
func (b *bed) add(t *testing.T, register bool, halves ...*Server) {
	t.Helper()
	var addrs []string
	for i, half := range halves {
		s := &server{name: fmt.Sprintf("10.0.0.%d:80", i+1), network: b.network, options: half.ServerOptions()}
		if register {
			s.half = half
		}
		s.start(b.listen(s.name))
		t.Cleanup(s.stop)
		b.servers, addrs = append(b.servers, s), append(addrs, s.name)
	}
	b.source.Set("orders", endpoints(addrs...)...)
}

func chat(ctx context.Context, client echopb.EchoClient) (string, error) {
	stream, err := client.Chat(ctx)
	if err != nil {
		return "", err
	}
	if err := stream.Send(&echopb.SayRequest{Text: "hello"}); err != nil {
		return "", err
	}
	_ = stream.CloseSend()
	var node string
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return node, nil
		}
		if err != nil {
			return "", err
		}
		node = r.Node
	}
}

// The trailers of three servers say how busy they are: calls go to the one that says the least.
func TestTrailersSayWhomToPick(t *testing.T) {
	say := func(ctx context.Context, client echopb.EchoClient) (string, error) {
		r, err := client.Say(ctx, &echopb.SayRequest{Text: "hello"})
		return r.GetNode(), err
	}
	for name, tt := range map[string]struct {
		call func(context.Context, echopb.EchoClient) (string, error)
		bare bool // without our interceptors
	}{"unary": {say, false}, "stream": {chat, false}, "unary, balancer alone": {say, true}, "stream, balancer alone": {chat, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setUp(t, 0, byReport(loadbalance.PrequalConfig{Probes: -1}))
				var halves []*Server
				for i := range 3 {
					named := map[string]float64{loadbalance.InFlightMetric: 9, loadbalance.LatencyMetric: 0.5}
					if i == 1 {
						named = map[string]float64{loadbalance.InFlightMetric: 1, loadbalance.LatencyMetric: 0.002}
					}
					halves = append(halves, &Server{Unmeasured: true, Load: func() LoadReport { return LoadReport{Named: named} }})
				}
				b.add(t, false, halves...)
				if tt.bare {
					conn := b.dialTo(t, Target("orders"), grpc.WithResolvers(Resolver(b.mesh)))
					b.client = echopb.NewEchoClient(conn)
				}
				count := map[string]int{}
				for k := range 150 {
					node, err := tt.call(t.Context(), b.client)
					if err != nil {
						t.Fatal(err)
					}
					if k >= 50 { // each has been picked once by then
						count[node]++
					}
					synctest.Wait()
				}
				if got := count[b.servers[1].name]; got != 100 {
					t.Errorf("calls went to %v, want all 100 to the second", count)
				}
				b.idle(t)
			})
		})
	}
}

// One of three servers fails at once, and so has nothing in flight, which it says.
func TestTheIdlenessOfFailuresDrawsNoCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 0, byReport(loadbalance.PrequalConfig{}))
		var failed atomic.Int64
		b.add(t, true, &Server{}, &Server{}, &Server{})
		for i, s := range b.servers {
			s.do(func(context.Context, string) error {
				if i == 0 {
					failed.Add(1)
					return status.Error(codes.Internal, "broken")
				}
				time.Sleep(50 * time.Millisecond)
				return nil
			})
		}
		for range 300 {
			_, _ = b.client.Say(t.Context(), &echopb.SayRequest{Text: "hello"}) // fails where it must
			time.Sleep(time.Millisecond)
		}
		if got := failed.Load(); got > 10 {
			t.Errorf("%d of 300 calls met the server that fails at once, want 10 at most", got)
		}
	})
}

func TestServerTellsItsLoadToThoseWhoAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		half := &Server{}
		b := setUp(t, 0, zerohop.Config{})
		b.add(t, true, half)
		release := make(chan struct{})
		b.servers[0].do(func(_ context.Context, text string) error {
			if text == "slow" {
				<-release
			}
			time.Sleep(20 * time.Millisecond)
			if text == "broken" {
				return status.Error(codes.Internal, text)
			}
			return nil
		})
		conn := b.dialTo(t, "passthrough:///"+b.servers[0].name)
		client := echopb.NewEchoClient(conn)
		ask := func(text string, pairs ...string) (l loadbalance.Load) {
			var trailer metadata.MD
			_, _ = client.Say(metadata.AppendToOutgoingContext(t.Context(), pairs...), &echopb.SayRequest{Text: text}, grpc.Trailer(&trailer))
			if v := trailer.Get(loadKey); len(v) > 0 {
				l, _ = orca.Message(v[0])
			}
			return l
		}
		if got := ask("hello"); got != (loadbalance.Load{}) || half.meter.Load() != nil {
			t.Errorf("an answer that nobody asked for it says %+v, want nothing, and nothing measured", got)
		}
		if got, want := ask("hello", wantLoadKey, "1"), (loadbalance.Load{InFlight: 1, Latency: 20 * time.Millisecond}); got != want {
			t.Errorf("the first answer says %+v, want %+v", got, want)
		}
		for range 3 {
			go ask("slow", wantLoadKey, "1")
		}
		stream, err := client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, want := ask("hello", wantLoadKey, "1"), (loadbalance.Load{InFlight: 5, Latency: 20 * time.Millisecond}); got != want {
			t.Errorf("an answer with three calls and a stream in flight says %+v, want %+v", got, want)
		}
		for range 50 {
			ask("broken", wantLoadKey, "1")
		}
		got, err := askLoad(t.Context(), conn)
		if err != nil || got.InFlight != 5 || got.Latency != 20*time.Millisecond || got.Rate < 45 || got.Rate > 55 || got.Errors < 44 || got.Errors > got.Rate {
			t.Errorf("the answer to a probe says %+v, %v; want 5 in flight, 20ms and about 50 calls a second that fail", got, err)
		}
		_ = stream.CloseSend()
		close(release)
		time.Sleep(time.Minute)
		if got, err := askLoad(t.Context(), conn); err != nil || got.InFlight != 1 || got.Latency != 0 {
			t.Errorf("a minute later: %+v, %v; want nothing in flight but the probe, and no latency", got, err)
		}
	})
}

func TestServersThatAnswerNoProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 0, zerohop.Config{})
		refuse := func(code codes.Code) []grpc.ServerOption {
			return []grpc.ServerOption{grpc.ChainUnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
				return nil, status.Error(code, "no")
			})}
		}
		for i, tt := range []struct {
			half *Server
			opts []grpc.ServerOption
			none bool
		}{
			{nil, nil, true},
			{&Server{Unmeasured: true}, nil, true},
			{&Server{}, refuse(codes.Unauthenticated), true},
			{&Server{}, refuse(codes.PermissionDenied), true},
			{&Server{}, refuse(codes.Unavailable), false},
		} {
			s := &server{name: fmt.Sprintf("10.0.1.%d:80", i+1), network: b.network, options: tt.opts, half: tt.half}
			s.start(b.listen(s.name))
			t.Cleanup(s.stop)
			_, err := askLoad(t.Context(), b.dialTo(t, "passthrough:///"+s.name))
			if err == nil || errors.Is(err, loadbalance.ErrNoProbes) != tt.none {
				t.Errorf("server %d: %v, want an error; ErrNoProbes: %v", i, err, tt.none)
			}
		}
	})
}

// Ten servers of which a client that calls seldom knows nothing but by probes: others keep all but one busy. Probes take
// the connections of calls past the interceptors of the user, and go on over another connection when the first is closed.
func TestProbesFindTheIdleServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var intercepted atomic.Int64
		b := setUp(t, 0, byReport(loadbalance.PrequalConfig{Quantile: -1, Pool: 10}), grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				intercepted.Add(1)
				return next(ctx, method, req, reply, cc, opts...)
			}))
		halves := make([]*Server, 10)
		for i := range halves {
			halves[i] = &Server{}
		}
		b.add(t, true, halves...)
		release := make(chan struct{})
		defer close(release)
		idle := 3
		for i, s := range b.servers {
			s.do(func(_ context.Context, text string) error {
				if text == "busy" {
					<-release
				}
				return nil
			})
			conn, err := grpc.NewClient("passthrough:///"+s.name, grpc.WithContextDialer(b.dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			for range 3 {
				if i != idle {
					go echopb.NewEchoClient(conn).Say(t.Context(), &echopb.SayRequest{Text: "busy"})
				}
			}
		}
		synctest.Wait()
		seek := func(client echopb.EchoClient) {
			t.Helper()
			for k := range 40 {
				r, err := client.Say(t.Context(), &echopb.SayRequest{Text: "hello"})
				if err != nil {
					t.Fatal(err)
				}
				if k >= 20 && r.Node != b.servers[idle].name {
					t.Fatalf("call %d went to %s, want %s, which is idle", k, r.Node, b.servers[idle].name)
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
		seek(b.client)
		if got := intercepted.Load(); got != 40 {
			t.Errorf("the user's interceptor saw %d calls, want the 40 that are his", got)
		}
		b.conn.Close()
		time.Sleep(time.Minute)
		seek(echopb.NewEchoClient(b.dialTo(t, Target("orders"), DialOptions(b.mesh)...)))
		b.idle(t)
	})
}

type countingProber struct{ probes int }

func (p *countingProber) Probe(context.Context, *loadbalance.Node) (loadbalance.Load, error) {
	p.probes++
	return loadbalance.Load{InFlight: 1}, nil
}

// A node that said how busy it is, is not asked. What it says with a failure does not count as that.
func TestReportsOfFailuresTellNothingOfCallsInFlight(t *testing.T) {
	report := LoadReport{Requests: 10}.encode(1, time.Millisecond)
	for _, tt := range []struct {
		trailer metadata.MD
		err     error
		probes  int
	}{
		{metadata.Pairs(loadKey, report), nil, 0},
		{metadata.Pairs(loadKey, report), status.Error(codes.NotFound, "an answer"), 0},
		{metadata.Pairs(loadKey, report), status.Error(codes.Unavailable, "a failure"), 1},
		{metadata.Pairs(loadKey, report), status.Error(codes.ResourceExhausted, "overload"), 1},
		{metadata.Pairs(loadKey, "junk", loadKey, report), nil, 0},
		{metadata.Pairs(loadKey, report, loadKey, "junk"), nil, 1},
		{nil, nil, 1},
	} {
		b := loadbalance.New(loadbalance.Config{Builder: loadbalance.Prequal})
		b.Update(endpoints("10.0.0.1:80"))
		reportLoad(b.Set().Nodes()[0], tt.trailer, ending{err: tt.err, sent: true, received: true})
		var p countingProber
		if err := b.Probe(t.Context(), &p); err != nil || p.probes != tt.probes {
			t.Errorf("trailer %q of a call that ended with %v: %d probes, %v; want %d", tt.trailer, tt.err, p.probes, err, tt.probes)
		}
	}
}
