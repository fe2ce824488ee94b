// Package explain holds what calls say of their failures against the faults that made them fail.
package explain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// runs is how many calls are made to fail, each by a fault drawn at random, and right how many explanations have to name it.
const runs, right = 100, 95

// truth is what the explanation of a fault has to say.
type truth struct {
	flag     zerohop.Flag
	reason   zerohop.Reason // empty if the failure is an answer
	detail   resilience.Reason
	attempts int
	status   int          // of the answer, 0 if there is none
	there    bool         // every attempt names an endpoint of the service
	try      zerohop.Flag // of each attempt, empty if it is that of the call
	stage    zerohop.Stage
	removed  loadbalance.Removal // counted in the last choice; 0 if it does not matter
	late     bool                // the body broke off
}

// trial is one call.
type trial struct {
	t    *testing.T
	rnd  *rand.Rand
	told []*zerohop.Explanation
	mu   sync.Mutex
}

// mesh returns one that calls the given endpoints.
func (x *trial) mesh(p zerohop.Policy, rules []routing.Rule, addrs ...string) *zerohop.Mesh {
	var eps []discovery.Endpoint
	for _, a := range addrs {
		eps = append(eps, discovery.Endpoint{Addr: a})
	}
	set := discovery.Static{"orders": eps}
	if p.Explain.Mode == "" && x.rnd.IntN(4) == 0 {
		p.Explain.Sample = 1
	}
	m, err := zerohop.New(zerohop.Config{
		Resolver: set, Spec: zerohop.Spec{Defaults: p, Routes: rules, Services: map[string]zerohop.Policy{"orders": {}}},
		Rand: x.rnd.Uint64, Hooks: zerohop.Hooks{Explained: func(_ context.Context, e *zerohop.Explanation) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.told = append(x.told, e)
		}},
	})
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { m.Close() })
	return m
}

// get makes a call over HTTP, reads the answer and returns what is to be explained.
func (x *trial) get(ctx context.Context, m *zerohop.Mesh, method, body string) any {
	t := httpmesh.NewTransport(m, nil)
	x.t.Cleanup(t.CloseIdleConnections)
	client := &http.Client{Transport: t}
	if x.rnd.IntN(2) == 0 && body == "" && method == http.MethodGet {
		client.Timeout = time.Minute // which wraps the body
	}
	var r io.Reader
	if body != "" {
		r = io.MultiReader(strings.NewReader(body)) // which cannot be rewound
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://orders/v1", r)
	if err != nil {
		x.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 && zerohop.Explain(resp) == nil {
		x.t.Errorf("status %d is not explained before it is read", resp.StatusCode)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp
}

// rpc makes a unary call over gRPC.
func (x *trial) rpc(ctx context.Context, m *zerohop.Mesh) any {
	cc, err := grpc.NewClient(grpcmesh.Target("orders"), append(grpcmesh.DialOptions(m), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		x.t.Fatal(err)
	}
	defer cc.Close()
	_, err = health.NewHealthClient(cc).Check(ctx, &health.HealthCheckRequest{})
	if s, ok := status.FromError(err); err != nil && (!ok || s.Code() == codes.Unknown) {
		x.t.Errorf("%v has no status", err)
	}
	return err
}

// do makes a call by Do.
func (x *trial) do(ctx context.Context, m *zerohop.Mesh, service string) any {
	_, err := zerohop.Do(ctx, m, service, func(ctx context.Context, n *loadbalance.Node) (string, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.Addr())
		if err != nil {
			return "", err
		}
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })()
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			return "", err
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return line, err
	})
	return err
}

// serve answers each connection with a function, after a request was read.
func (x *trial) serve(answer func(c *net.TCPConn, r *http.Request)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		x.t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.Copy(io.Discard, r.Body)
					answer(c.(*net.TCPConn), r)
				}
			})
		}
	})
	x.t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

func says(text string) func(*net.TCPConn, *http.Request) {
	return func(c *net.TCPConn, _ *http.Request) { _, _ = io.WriteString(c, text) }
}

func answers(code int, headers string) string {
	return fmt.Sprintf("HTTP/1.1 %d x\r\n%sContent-Length: 2\r\nConnection: close\r\n\r\nno", code, headers)
}

func resets(text string) func(*net.TCPConn, *http.Request) {
	return func(c *net.TCPConn, _ *http.Request) {
		_, _ = io.WriteString(c, text)
		if text != "" {
			time.Sleep(20 * time.Millisecond) // or the reset would overtake the text
		}
		_ = c.SetLinger(0)
	}
}

func hangs(c *net.TCPConn, _ *http.Request) { _, _ = c.Read(make([]byte, 1)) }

// refusing returns an address where nobody listens.
func (x *trial) refusing() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		x.t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// grpcServer answers Check.
type grpcServer struct {
	health.UnimplementedHealthServer
	check func(ctx context.Context) error
}

func (s *grpcServer) Check(ctx context.Context, _ *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	return &health.HealthCheckResponse{}, s.check(ctx)
}

func (x *trial) serveGRPC(check func(ctx context.Context) error) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		x.t.Fatal(err)
	}
	s := grpc.NewServer()
	health.RegisterHealthServer(s, &grpcServer{check: check})
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	x.t.Cleanup(func() { s.Stop(); wg.Wait() })
	return l.Addr().String()
}

func coded(c codes.Code) func(context.Context) error {
	return func(context.Context) error { return status.Error(c, "no") }
}

func waits(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// within returns a context with a deadline, and one that is cancelled, after a short while.
func (x *trial) within() context.Context {
	ctx, cancel := context.WithTimeout(x.t.Context(), 60*time.Millisecond)
	x.t.Cleanup(cancel)
	return ctx
}

func (x *trial) leaving() context.Context {
	ctx, cancel := context.WithCancel(x.t.Context())
	t := time.AfterFunc(40*time.Millisecond, cancel)
	x.t.Cleanup(func() { t.Stop(); cancel() })
	return ctx
}

func attempts(n int) zerohop.Policy { return zerohop.Policy{Retry: zerohop.Retry{Attempts: n}} }

var safe = zerohop.Policy{Idempotent: zerohop.On}

// faults are what can happen. Each makes a call and returns what came of it and what its explanation has to say.
var faults = []struct {
	name string
	call func(x *trial) (any, truth)
}{
	{"HTTP: port refused", func(x *trial) (any, truth) {
		m := x.mesh(zerohop.Policy{}, nil, x.refusing(), x.refusing(), x.refusing())
		return x.get(x.t.Context(), m, "GET", ""), truth{flag: zerohop.FlagRetries, reason: zerohop.Failed, detail: resilience.Exhausted, attempts: 3, there: true, try: zerohop.FlagConnect}
	}},
	{"HTTP: port refused once", func(x *trial) (any, truth) {
		return x.get(x.t.Context(), x.mesh(attempts(1), nil, x.refusing()), "POST", "x"),
			truth{flag: zerohop.FlagConnect, reason: zerohop.Failed, detail: resilience.Exhausted, attempts: 1, there: true}
	}},
	{"HTTP: hangs, deadline of the caller", func(x *trial) (any, truth) {
		return x.get(x.within(), x.mesh(zerohop.Policy{}, nil, x.serve(hangs)), "GET", ""),
			truth{flag: zerohop.FlagDeadline, reason: zerohop.Ended, detail: resilience.Canceled, attempts: 1, there: true}
	}},
	{"HTTP: hangs, timeout of the policy", func(x *trial) (any, truth) {
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{Timeout: 60 * time.Millisecond}, nil, x.serve(hangs)), "GET", ""),
			truth{flag: zerohop.FlagTimeout, reason: zerohop.Ended, detail: resilience.Canceled, attempts: 1, there: true}
	}},
	{"HTTP: hangs, the caller cancels", func(x *trial) (any, truth) {
		return x.get(x.leaving(), x.mesh(zerohop.Policy{}, nil, x.serve(hangs)), "GET", ""),
			truth{flag: zerohop.FlagCallerGone, reason: zerohop.Ended, detail: resilience.Canceled, attempts: 1, there: true}
	}},
	{"HTTP: slow, timeout of attempts", func(x *trial) (any, truth) {
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{AttemptTimeout: 30 * time.Millisecond}, nil, x.serve(hangs)), "POST", "x"),
			truth{flag: zerohop.FlagTimeout, reason: zerohop.Failed, detail: resilience.Unsafe, attempts: 1, there: true}
	}},
	{"HTTP: reset before headers", func(x *trial) (any, truth) {
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{}, nil, x.serve(resets(""))), "POST", "x"),
			truth{flag: zerohop.FlagReset, reason: zerohop.Failed, detail: resilience.Unsafe, attempts: 1, there: true}
	}},
	{"HTTP: closed before headers", func(x *trial) (any, truth) {
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{}, nil, x.serve(says(""))), "POST", "x"),
			truth{flag: zerohop.FlagTerminated, reason: zerohop.Failed, detail: resilience.Unsafe, attempts: 1, there: true}
	}},
	{"HTTP: reset after headers", func(x *trial) (any, truth) {
		text := "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{}, nil, x.serve(resets(text))), "POST", "x"),
			truth{flag: zerohop.FlagReset, attempts: 1, status: 200, there: true, late: true}
	}},
	{"HTTP: truncated body", func(x *trial) (any, truth) {
		text := "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{}, nil, x.serve(says(text))), "POST", "x"),
			truth{flag: zerohop.FlagTerminated, attempts: 1, status: 200, there: true, late: true}
	}},
	{"HTTP: no HTTP", func(x *trial) (any, truth) {
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{}, nil, x.serve(says("SSH-2.0-what\r\n\r\n"))), "POST", "x"),
			truth{flag: zerohop.FlagProtocol, reason: zerohop.Failed, detail: resilience.Unsafe, attempts: 1, there: true}
	}},
	{"HTTP: 503 everywhere", func(x *trial) (any, truth) {
		a := x.serve(says(answers(503, "")))
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{}, nil, a, x.serve(says(answers(503, ""))), x.serve(says(answers(503, "")))), "GET", ""),
			truth{flag: zerohop.FlagRetries, detail: resilience.Exhausted, attempts: 3, status: 503, there: true, try: zerohop.FlagStatus}
	}},
	{"HTTP: 500", func(x *trial) (any, truth) {
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{}, nil, x.serve(says(answers(500, "")))), "GET", ""),
			truth{flag: zerohop.FlagStatus, detail: resilience.Answered, attempts: 1, status: 500, there: true}
	}},
	{"HTTP: 503 to a POST", func(x *trial) (any, truth) {
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{}, nil, x.serve(says(answers(503, "")))), "POST", "x"),
			truth{flag: zerohop.FlagStatus, detail: resilience.Unsafe, attempts: 1, status: 503, there: true}
	}},
	{"HTTP: 429 with a long pause", func(x *trial) (any, truth) {
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{}, nil, x.serve(says(answers(429, "Retry-After: 3600\r\n")))), "GET", ""),
			truth{flag: zerohop.FlagShed, detail: resilience.OutOfTime, attempts: 1, status: 429, there: true}
	}},
	{"HTTP: budget empty", func(x *trial) (any, truth) {
		m := x.mesh(zerohop.Policy{Budget: zerohop.Budget{Tokens: 2}, Outlier: zerohop.Outlier{Mode: zerohop.Off}}, nil, x.serve(says(answers(503, ""))), x.serve(says(answers(503, ""))))
		for range 2 {
			x.get(x.t.Context(), m, "GET", "")
		}
		return x.get(x.t.Context(), m, "GET", ""), truth{flag: zerohop.FlagRetries, detail: resilience.OverBudget, attempts: 1, status: 503, there: true, try: zerohop.FlagStatus}
	}},
	{"HTTP: ejected majority", func(x *trial) (any, truth) {
		p := zerohop.Policy{Outlier: zerohop.Outlier{Consecutive: 1, MaxEjected: 1}, Retry: zerohop.Retry{Attempts: 1}, Panic: -1, Balance: "random"}
		m := x.mesh(p, nil, x.refusing(), x.refusing(), x.refusing(), x.refusing())
		for range 20 {
			x.get(x.t.Context(), m, "GET", "")
		}
		return x.get(x.t.Context(), m, "GET", ""),
			truth{flag: zerohop.FlagConnect, reason: zerohop.Failed, detail: resilience.Exhausted, attempts: 1, there: true, removed: loadbalance.OutEjected}
	}},
	{"HTTP: fault of the route", func(x *trial) (any, truth) {
		rules := []routing.Rule{{Match: routing.Match{Service: "orders"}, Fault: routing.Fault{Abort: 503}}}
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{}, rules, x.refusing()), "GET", ""),
			truth{flag: zerohop.FlagFaultInjected, reason: zerohop.Injected, detail: resilience.Injected, status: 503}
	}},
	{"HTTP: fixed response", func(x *trial) (any, truth) {
		rules := []routing.Rule{{Match: routing.Match{Service: "orders"}, Response: &routing.Response{Status: 503}}}
		return x.get(x.t.Context(), x.mesh(zerohop.Policy{}, rules, x.refusing()), "GET", ""),
			truth{flag: zerohop.FlagStatus, detail: resilience.Fixed, status: 503}
	}},
	{"HTTP: unroutable lane", func(x *trial) (any, truth) {
		ctx := zerohop.WithCall(x.t.Context(), zerohop.CallOptions{Select: map[string]string{"version": "2"}})
		return x.get(ctx, x.mesh(zerohop.Policy{}, nil, x.refusing(), x.refusing()), "GET", ""),
			truth{flag: zerohop.FlagNoHealthy, reason: zerohop.NoEndpoints, detail: resilience.Unroutable, removed: loadbalance.NotSelected}
	}},
	{"HTTP: bad rewrite", func(x *trial) (any, truth) {
		rules := []routing.Rule{{Match: routing.Match{Service: "orders"}, Rewrite: routing.Rewrite{Path: routing.PathRewrite{Full: "/v2"}}}}
		m := x.mesh(zerohop.Policy{}, rules, x.refusing())
		t := httpmesh.NewTransport(m, nil)
		req, _ := http.NewRequestWithContext(x.t.Context(), "GET", "http://orders/v1/x/..%2f..%2fadmin", nil)
		resp, err := t.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		return err, truth{flag: zerohop.FlagLocalReset, reason: zerohop.Unrewritable, detail: resilience.Refused}
	}},
	{"gRPC: port refused", func(x *trial) (any, truth) {
		return x.rpc(x.t.Context(), x.mesh(zerohop.Policy{}, nil, x.refusing(), x.refusing())),
			truth{flag: zerohop.FlagConnect, reason: zerohop.NoEndpoints, detail: resilience.Unroutable}
	}},
	{"gRPC: UNAVAILABLE", func(x *trial) (any, truth) {
		return x.rpc(x.t.Context(), x.mesh(safe, nil, x.serveGRPC(coded(codes.Unavailable)), x.serveGRPC(coded(codes.Unavailable)))),
			truth{flag: zerohop.FlagRetries, detail: resilience.Exhausted, attempts: 3, status: 14, there: true, try: zerohop.FlagStatus}
	}},
	{"gRPC: INTERNAL", func(x *trial) (any, truth) {
		return x.rpc(x.t.Context(), x.mesh(zerohop.Policy{}, nil, x.serveGRPC(coded(codes.Internal)))),
			truth{flag: zerohop.FlagStatus, detail: resilience.Answered, attempts: 1, status: 13, there: true}
	}},
	{"gRPC: hangs, deadline of the caller", func(x *trial) (any, truth) {
		ctx, cancel := context.WithTimeout(x.t.Context(), 200*time.Millisecond)
		defer cancel()
		return x.rpc(ctx, x.mesh(zerohop.Policy{}, nil, x.serveGRPC(waits))),
			truth{flag: zerohop.FlagDeadline, reason: zerohop.Ended, detail: resilience.Canceled, attempts: 1, there: true}
	}},
	{"gRPC: slow, timeout of attempts", func(x *trial) (any, truth) {
		return x.rpc(x.t.Context(), x.mesh(zerohop.Policy{AttemptTimeout: 200 * time.Millisecond}, nil, x.serveGRPC(waits))),
			truth{flag: zerohop.FlagTimeout, reason: zerohop.Failed, detail: resilience.Unsafe, attempts: 1, there: true}
	}},
	{"gRPC: RESOURCE_EXHAUSTED", func(x *trial) (any, truth) {
		return x.rpc(x.t.Context(), x.mesh(zerohop.Policy{Idempotent: zerohop.Off}, nil, x.serveGRPC(coded(codes.ResourceExhausted)))),
			truth{flag: zerohop.FlagShed, detail: resilience.Answered, attempts: 1, status: 8, there: true}
	}},
	{"gRPC: fault of the route", func(x *trial) (any, truth) {
		rules := []routing.Rule{{Match: routing.Match{Service: "orders"}, Fault: routing.Fault{Abort: 503, AbortCode: 10}}}
		return x.rpc(x.t.Context(), x.mesh(zerohop.Policy{}, rules, x.refusing())),
			truth{flag: zerohop.FlagFaultInjected, reason: zerohop.Injected, detail: resilience.Injected, status: 10}
	}},
	{"Do: port refused", func(x *trial) (any, truth) {
		return x.do(x.t.Context(), x.mesh(zerohop.Policy{}, nil, x.refusing(), x.refusing(), x.refusing()), "orders"),
			truth{flag: zerohop.FlagRetries, reason: zerohop.Failed, detail: resilience.Exhausted, attempts: 3, there: true, try: zerohop.FlagConnect}
	}},
	{"Do: reset", func(x *trial) (any, truth) {
		return x.do(x.t.Context(), x.mesh(zerohop.Policy{}, nil, x.serve(resets(""))), "orders"),
			truth{flag: zerohop.FlagReset, reason: zerohop.Failed, detail: resilience.Unsafe, attempts: 1, there: true}
	}},
	{"Do: hangs, the caller cancels", func(x *trial) (any, truth) {
		return x.do(x.leaving(), x.mesh(safe, nil, x.serve(hangs)), "orders"),
			truth{flag: zerohop.FlagCallerGone, reason: zerohop.Ended, detail: resilience.Canceled, attempts: 1, there: true}
	}},
	{"Do: empty registry", func(x *trial) (any, truth) {
		return x.do(x.t.Context(), x.mesh(zerohop.Policy{}, nil), "orders"),
			truth{flag: zerohop.FlagNoHealthy, reason: zerohop.NoEndpoints, detail: resilience.Unroutable}
	}},
	{"Do: unknown service", func(x *trial) (any, truth) {
		return x.do(x.t.Context(), x.mesh(zerohop.Policy{}, nil), "nobody"),
			truth{flag: zerohop.FlagNoService, reason: zerohop.NoEndpoints, detail: resilience.Unroutable}
	}},
	{"Do: all breakers open", func(x *trial) (any, truth) {
		p := zerohop.Policy{Breaker: zerohop.Breaker{Mode: zerohop.On, Consecutive: 1}, Retry: zerohop.Retry{Mode: zerohop.Off}, Outlier: zerohop.Outlier{Mode: zerohop.Off}}
		m := x.mesh(p, nil, x.refusing(), x.refusing())
		for range 4 {
			x.do(x.t.Context(), m, "orders")
		}
		return x.do(x.t.Context(), m, "orders"),
			truth{flag: zerohop.FlagOverflow, reason: zerohop.Unavailable, detail: resilience.Unroutable, removed: loadbalance.BreakerRejects}
	}},
	{"Do: breaker of the service", func(x *trial) (any, truth) {
		m := x.mesh(zerohop.Policy{}, nil, x.refusing())
		if err := m.ForceBreaker("orders", resilience.BreakerForcedOpen); err != nil {
			x.t.Fatal(err)
		}
		return x.do(x.t.Context(), m, "orders"), truth{flag: zerohop.FlagOverflow, reason: zerohop.BreakerOpen, detail: resilience.Refused, stage: zerohop.StageBreaker}
	}},
	{"Do: rate limit", func(x *trial) (any, truth) {
		m := x.mesh(zerohop.Policy{RateLimit: zerohop.RateLimit{Mode: zerohop.On, Rate: 0.01, Burst: 1}}, nil, x.refusing())
		x.do(x.t.Context(), m, "orders")
		return x.do(x.t.Context(), m, "orders"), truth{flag: zerohop.FlagRateLimited, reason: zerohop.RateLimited, detail: resilience.Refused, stage: zerohop.StageRateLimit}
	}},
	{"Do: limit", func(x *trial) (any, truth) {
		m := x.mesh(zerohop.Policy{Limit: zerohop.Limit{Mode: zerohop.On, Max: 1}}, nil, x.refusing())
		began, end := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = zerohop.Do(x.t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) { close(began); <-end; return 0, nil })
		})
		<-began
		defer wg.Wait()
		defer close(end)
		return x.do(x.t.Context(), m, "orders"), truth{flag: zerohop.FlagOverflow, reason: zerohop.Limited, detail: resilience.Refused, stage: zerohop.StageLimit}
	}},
	{"Do: throttle", func(x *trial) (any, truth) {
		p := zerohop.Policy{Throttle: zerohop.Throttle{Mode: zerohop.On, K: 1.1}, Retry: zerohop.Retry{Mode: zerohop.Off}}
		m := x.mesh(p, nil, x.refusing())
		for range 1000 {
			_, err := zerohop.Do(x.t.Context(), m, "orders", func(context.Context, *loadbalance.Node) (int, error) {
				return 0, &zerohop.ClassifiedError{Verdict: resilience.Verdict{Outcome: resilience.Overload}, Err: errors.New("full")}
			})
			if e, ok := errors.AsType[*zerohop.Error](err); ok && e.Reason == zerohop.Throttled {
				return err, truth{flag: zerohop.FlagShed, reason: zerohop.Throttled, detail: resilience.Refused, stage: zerohop.StageThrottle}
			}
		}
		return nil, truth{}
	}},
	{"Do: closed mesh", func(x *trial) (any, truth) {
		m := x.mesh(zerohop.Policy{}, nil, x.refusing())
		m.Close()
		return x.do(x.t.Context(), m, "orders"), truth{flag: zerohop.FlagLocalReset, reason: zerohop.Closed, detail: resilience.Unroutable}
	}},
}

func TestExplanationsNameTheFault(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 1))
	var order []int
	for len(order) < runs { // each as often as the others, in a random order
		order = append(order, rnd.Perm(len(faults))...)
	}
	explained, named := 0, 0
	made, wrongs := make([]int, len(faults)), make([]int, len(faults))
	for i, f := range order[:runs] {
		t.Run(fmt.Sprintf("%d %s", i, faults[f].name), func(t *testing.T) {
			var mu sync.Mutex
			source := rand.New(rand.NewPCG(uint64(i), 2))
			x := &trial{t: t, rnd: rand.New(lockedSource{&mu, source})}
			v, want := faults[f].call(x)
			e := zerohop.Explain(v)
			if e == nil {
				t.Errorf("%v is not explained", v)
				return
			}
			explained++
			x.mu.Lock()
			told := x.told
			x.mu.Unlock()
			if len(told) == 0 {
				t.Error("Hooks.Explained was not told")
				return
			}
			made[f]++
			if wrong := append(want.against(e), want.against(told[len(told)-1])...); len(wrong) > 0 {
				t.Logf("wrong: %s\n%v", strings.Join(wrong, "; "), e)
				wrongs[f]++
			} else {
				named++
			}
		})
	}
	t.Logf("%d of %d calls that failed are explained, %d explanations name the fault", explained, runs, named)
	if explained < runs || named < right {
		t.Errorf("%d of %d are explained, %d right, want at least %d", explained, runs, named, right)
	}
	for f, n := range wrongs {
		if n > 0 && n == made[f] { // a few may be wrong by chance, but not all of a kind
			t.Errorf("%s: all %d are wrong", faults[f].name, n)
		}
	}
}

// against returns what an explanation has wrong.
func (w truth) against(e *zerohop.Explanation) (wrong []string) {
	check := func(ok bool, what string, got, want any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s %v, want %v", what, got, want))
		}
	}
	check(e.Flag == w.flag, "flag", e.Flag, w.flag)
	check(e.Reason == w.reason, "reason", e.Reason, w.reason)
	check(w.late || e.Detail == w.detail, "detail", e.Detail, w.detail)
	check(e.Attempts == w.attempts, "attempts", e.Attempts, w.attempts)
	check(e.Service == "orders" || w.flag == zerohop.FlagNoService, "service", e.Service, "orders")
	if w.status > 0 && w.reason == "" {
		check(e.Status == w.status, "status", e.Status, w.status)
	}
	if w.there {
		for _, try := range e.Tries[:e.N] {
			if try.Addr == "" && try.Cause == resilience.Backup { // there was no other endpoint
				continue
			}
			flag := w.try
			if flag == "" {
				flag = w.flag
			}
			check(strings.HasPrefix(try.Addr, "127.0.0.1:") && try.Flag == flag && try.Choice.Nodes > 0, "try", try.Addr+" "+string(try.Flag), "an endpoint, "+string(flag)+" and a choice")
		}
	}
	if w.there {
		made := 0
		for _, try := range e.Tries[:e.N] {
			if try.Addr != "" {
				made++
			}
		}
		check(made == w.attempts, "tries", made, w.attempts)
	}
	if w.stage != "" {
		check(e.NR > 0 && e.Refusals[max(e.NR-1, 0)].Stage == w.stage, "refusals", e.Refusals[:e.NR], w.stage)
	}
	if w.removed != 0 {
		check(e.N > 0 && e.Tries[max(e.N-1, 0)].Choice.Removed[w.removed] > 0, "removed", e.Tries[0].Choice.Removed, w.removed)
	}
	return wrong
}

type lockedSource struct {
	mu *sync.Mutex
	r  *rand.Rand
}

func (s lockedSource) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.Uint64()
}
