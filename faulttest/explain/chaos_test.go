package explain

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

const (
	perRun    = 8                      // calls
	tooLong   = 300 * time.Millisecond // the timeout of attempts
	callKey   = "x-call"
	chaosSeed = 11
)

// blow is what an endpoint of the chaos does to a request.
type blow struct {
	name  string
	flag  zerohop.Flag // what has to be said of the attempt
	code  int          // the status or code of the answer, -1 if there is none
	again bool         // it is worth repeating
	text  string       // what has to be in the error, if there is one
	late  bool         // the answer has begun
}

var (
	fine     = &blow{name: "fine"}
	refused  = &blow{name: "refused", flag: zerohop.FlagConnect, code: -1, again: true, text: "connection refused"}
	broken   = &blow{name: "500", flag: zerohop.FlagStatus, code: 500}
	away     = &blow{name: "503", flag: zerohop.FlagStatus, code: 503, again: true}
	busy     = &blow{name: "429", flag: zerohop.FlagShed, code: 429, again: true}
	reset    = &blow{name: "reset", flag: zerohop.FlagReset, code: -1, again: true, text: "connection reset"}
	shut     = &blow{name: "shut", flag: zerohop.FlagTerminated, code: -1, again: true, text: "EOF"}
	babble   = &blow{name: "babble", flag: zerohop.FlagProtocol, code: -1, again: true, text: "malformed"}
	silent   = &blow{name: "silent", flag: zerohop.FlagTimeout, code: -1, again: true, text: "longer than"}
	cut      = &blow{name: "cut", flag: zerohop.FlagTerminated, code: 200, late: true, text: "unexpected EOF"}
	overHTTP = []*blow{fine, broken, away, busy, reset, shut, babble, silent, cut}
	overDo   = []*blow{fine, reset, shut, silent}
	overGRPC = []*blow{
		fine, silent,
		{name: "UNAVAILABLE", flag: zerohop.FlagStatus, code: 14, again: true, text: "no"},
		{name: "INTERNAL", flag: zerohop.FlagStatus, code: 13, text: "no"},
		{name: "RESOURCE_EXHAUSTED", flag: zerohop.FlagShed, code: 8, text: "no"},
		{name: "DEADLINE_EXCEEDED of the server", flag: zerohop.FlagStatus, code: 4, text: "no"},
		{name: "CANCELLED by the server", flag: zerohop.FlagStatus, code: 1, text: "no"},
	}
)

// fate is what becomes of one call, as the endpoints know it.
type fate struct {
	mu    sync.Mutex
	rnd   *rand.Rand
	odds  []*blow // drawn from for each request
	leave func()  // cancels the call when an endpoint is silent; nil if nobody does

	dealt []dealt
	gone  bool // the caller is
}

type dealt struct {
	addr string
	*blow
}

// deal returns what happens to a request that has come to an endpoint.
func (f *fate) deal(addr string) *blow {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.odds[f.rnd.IntN(len(f.odds))]
	f.dealt = append(f.dealt, dealt{addr, b})
	if b == silent && f.leave != nil {
		f.gone = true
		f.leave()
	}
	return b
}

// fleet are the endpoints, which find the fate of a call by its number.
type fleet struct {
	fates sync.Map
	dead  string
}

func (w *fleet) of(key string) *fate {
	f, _ := w.fates.Load(key)
	return f.(*fate)
}

func (w *fleet) http(c *net.TCPConn, r *http.Request) {
	switch w.of(r.Header.Get(callKey)).deal(c.LocalAddr().String()) {
	case fine:
		_, _ = io.WriteString(c, answers(200, ""))
	case broken:
		_, _ = io.WriteString(c, answers(500, ""))
	case away:
		_, _ = io.WriteString(c, answers(503, ""))
	case busy:
		_, _ = io.WriteString(c, answers(429, ""))
	case reset:
		_ = c.SetLinger(0)
	case shut:
	case babble:
		_, _ = io.WriteString(c, "SSH-2.0-what\r\n\r\n")
	case silent:
		hangs(c, r)
	case cut:
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
	}
}

func (w *fleet) grpc(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		md, _ := metadata.FromIncomingContext(ctx)
		b := w.of(md.Get(callKey)[0]).deal(addr)
		switch b {
		case fine:
			return nil
		case silent:
			<-ctx.Done()
			return ctx.Err()
		}
		return status.Error(codes.Code(b.code), "no")
	}
}

// kind is a way to make calls.
type kind struct {
	name  string
	odds  []*blow
	safe  bool // calls are repeated
	calls func(x *trial, m *zerohop.Mesh) func(ctx context.Context, key string) any
}

var kinds = []kind{
	{"GET", overHTTP, true, func(x *trial, m *zerohop.Mesh) func(context.Context, string) any {
		return x.requests(m, http.MethodGet)
	}},
	{"POST", overHTTP, false, func(x *trial, m *zerohop.Mesh) func(context.Context, string) any {
		return x.requests(m, http.MethodPost)
	}},
	{"Do", overDo, true, (*trial).dos},
	{"gRPC", overGRPC, true, (*trial).rpcs},
}

func (x *trial) requests(m *zerohop.Mesh, method string) func(context.Context, string) any {
	t := httpmesh.NewTransport(m, nil)
	x.t.Cleanup(t.CloseIdleConnections)
	return func(ctx context.Context, key string) any {
		req, err := http.NewRequestWithContext(ctx, method, "http://orders/v1", nil)
		if err != nil {
			return err
		}
		req.Header.Set(callKey, key)
		resp, err := t.RoundTrip(req)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp
	}
}

func (x *trial) dos(m *zerohop.Mesh) func(context.Context, string) any {
	return func(ctx context.Context, key string) any {
		_, err := zerohop.Do(ctx, m, "orders", func(ctx context.Context, n *loadbalance.Node) (string, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.Addr())
			if err != nil {
				return "", err
			}
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			_, _ = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n%s: %s\r\n\r\n", callKey, key)
			line, err := bufio.NewReader(c).ReadString('\n')
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return line, err
		})
		return err
	}
}

func (x *trial) rpcs(m *zerohop.Mesh) func(context.Context, string) any {
	cc, err := grpc.NewClient(grpcmesh.Target("orders"), append(grpcmesh.DialOptions(m), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { cc.Close() })
	return func(ctx context.Context, key string) any {
		_, err := health.NewHealthClient(cc).Check(metadata.AppendToOutgoingContext(ctx, callKey, key), &health.HealthCheckRequest{}, grpc.WaitForReady(true))
		return err
	}
}

// In a run a call meets any mixture of faults, and the endpoints know which. All calls that fail have to be explained, and what is said of
// a call and of each of its attempts has to be what the endpoints have dealt: a run is right if that holds for all its calls.
func TestExplanationsOfChaosAreRight(t *testing.T) {
	x := &trial{t: t}
	w := &fleet{dead: x.refusing()}
	byHTTP, byGRPC := []string{w.dead}, []string{}
	for range 4 {
		byHTTP = append(byHTTP, x.serve(w.http))
		byGRPC = append(byGRPC, x.serveGRPCAt(w.grpc))
	}
	var mu sync.Mutex
	failed, unexplained, rightRuns, passed, judged := 0, 0, 0, 0, 0
	var each []verdict // of failed calls
	var next int
	var wg sync.WaitGroup
	for range 8 { // runs wait for silent endpoints most of the time
		wg.Go(func() {
			for {
				mu.Lock()
				run := next
				next++
				mu.Unlock()
				if run >= runs {
					return
				}
				k := &kinds[run%len(kinds)]
				addrs := byHTTP
				if k.name == "gRPC" {
					addrs = byGRPC
				}
				list := w.run(x, run, k, addrs)
				mu.Lock()
				ok := true
				for _, v := range list {
					failed++
					if v.e == nil {
						unexplained++
						t.Errorf("run %d: %s, dealt %v, is not explained", run, k.name, v.want.dealt)
						continue
					}
					if v.want.starved() {
						continue
					}
					if wrong := v.want.against(v.e); len(wrong) > 0 {
						ok = false
						t.Logf("run %d: wrong: %s; dealt %v\n%v", run, strings.Join(wrong, "; "), v.want.names(), v.e)
					}
					each = append(each, v)
				}
				if ok {
					rightRuns++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d calls failed, %d of them are not explained, %d of %d runs are right", failed, unexplained, rightRuns, runs)
	if failed < 3*runs || rightRuns < right {
		t.Errorf("%d calls failed, and %d of %d runs are right, want at least %d", failed, rightRuns, runs, right)
	}
	// What is right of one call is to be wrong of another to which something else was done: else this test would prove nothing.
	for i, v := range each {
		for j := range 20 {
			o := each[(i+1+j)%len(each)]
			if v.e == nil || o.e == nil || v.want.same(o.want) {
				continue
			}
			judged++
			if len(v.want.against(o.e)) == 0 {
				passed++
			}
		}
	}
	t.Logf("%d of %d explanations of other calls pass", passed, judged)
	if judged < 1000 || passed*1000 > judged { // of calls that took too long nobody knows more
		t.Errorf("%d of %d explanations of other calls pass", passed, judged)
	}
	commonest(t, each)
}

// commonest holds up to every call the explanation that the most calls have.
func commonest(t *testing.T, each []verdict) {
	most := 0
	for _, v := range each {
		n := 0
		for _, o := range each {
			if v.e != nil && len(o.want.against(v.e)) == 0 {
				n++
			}
		}
		most = max(most, n)
	}
	t.Logf("the explanation that fits the most calls fits %d of %d", most, len(each))
	if most*10 > len(each) {
		t.Errorf("one explanation fits %d of %d calls", most, len(each))
	}
}

type verdict struct {
	want *dealing
	e    *zerohop.Explanation
}

// dealing is the truth about a call.
type dealing struct {
	kind  *kind
	dealt []dealt
	gone  bool
	dead  string
	took  time.Duration
}

func (d *dealing) names() (list []string) {
	for _, b := range d.dealt {
		list = append(list, b.addr+" "+b.name)
	}
	return list
}

func (d *dealing) same(o *dealing) bool {
	if d.gone != o.gone || len(d.dealt) != len(o.dealt) {
		return false
	}
	for i := range d.dealt {
		if d.dealt[i] != o.dealt[i] {
			return false
		}
	}
	return true
}

// run makes the calls of a run and returns those that failed.
func (w *fleet) run(x *trial, run int, k *kind, addrs []string) (list []verdict) {
	rnd := rand.New(rand.NewPCG(chaosSeed, uint64(run)))
	var mu sync.Mutex
	p := zerohop.Policy{
		AttemptTimeout: tooLong, Budget: zerohop.Budget{Tokens: 1000}, Backup: zerohop.Backup{Mode: zerohop.Off}, Outlier: zerohop.Outlier{Mode: zerohop.Off},
		Retry: zerohop.Retry{Base: time.Millisecond, Max: 2 * time.Millisecond},
	}
	if k.safe {
		p.Idempotent = zerohop.On
	}
	if rnd.IntN(4) == 0 {
		p.Explain.Sample = 1
	}
	eps := discovery.Static{"orders": nil}
	for _, a := range addrs {
		eps["orders"] = append(eps["orders"], discovery.Endpoint{Addr: a})
	}
	m, err := zerohop.New(zerohop.Config{
		Resolver: eps, Spec: zerohop.Spec{Defaults: p}, Rand: lockedSource{&mu, rand.New(rand.NewPCG(uint64(run), 2))}.Uint64,
	})
	if err != nil {
		x.t.Error(err)
		return nil
	}
	x.t.Cleanup(func() { m.Close() })
	call := k.calls(x, m)
	for i := range perRun {
		key := strconv.Itoa(run*perRun + i)
		ctx, cancel := context.WithCancel(x.t.Context())
		f := &fate{rnd: rand.New(rand.NewPCG(uint64(run), uint64(i)))}
		for _, b := range k.odds {
			n := 4
			if b == silent {
				n = 1
			}
			for range n {
				f.odds = append(f.odds, b)
			}
		}
		if rnd.IntN(2) == 0 {
			f.leave = cancel
		}
		w.fates.Store(key, f)
		start := time.Now()
		v := call(ctx, key)
		took := time.Since(start)
		cancel()
		f.mu.Lock()
		d := &dealing{kind: k, dealt: f.dealt, gone: f.gone, dead: w.dead, took: took}
		f.mu.Unlock()
		n := len(d.dealt)
		if n == 0 || d.gone || d.dealt[n-1].blow != fine {
			list = append(list, verdict{d, zerohop.Explain(v)})
		} else if err, ok := v.(error); ok && err != nil && took < tooLong { // else the machine was too busy to see the answer in time
			x.t.Errorf("%s, dealt %v: %v", k.name, d.names(), err)
		}
	}
	return list
}

// against returns what an explanation has wrong.
func (d *dealing) against(e *zerohop.Explanation) (wrong []string) {
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	// Attempts that nobody answered to are those at the dead endpoint; all the others have to be those that endpoints saw, in order.
	var all []*blow
	rest := d.dealt
	for i := range e.Tries[:e.N] {
		try := &e.Tries[i]
		b := refused
		switch {
		case try.Addr == d.dead:
		case len(rest) > 0 && rest[0].addr == try.Addr:
			b, rest = rest[0].blow, rest[1:]
		case d.stalled(try): // before the endpoint saw it
			b = silent
		default:
			check(false, "attempt %d to %s, dealt %v", i+1, try.Addr, rest)
			return wrong
		}
		all = append(all, b)
		left := b == silent && d.gone
		flag, code := b.flag, b.code
		if left {
			flag = zerohop.FlagCallerGone
			if d.kind.name == "gRPC" {
				code = try.Status // -1, or what the client makes of it
			}
		}
		if d.stalled(try) {
			continue
		}
		check(try.Flag == flag, "attempt %d %s, want %s", i+1, try.Flag, flag)
		check(try.Status == code, "attempt %d with status %d, want %d", i+1, try.Status, code)
		check(b.text == "" || left || strings.Contains(try.Error, b.text), "attempt %d with error %q, want %q", i+1, try.Error, b.text)
		check(b == refused == (try.Unsent && try.Flag == zerohop.FlagConnect), "attempt %d unsent: %v", i+1, try.Unsent)
		check(left || try.Retry == b.again, "attempt %d worth repeating: %v", i+1, try.Retry)
		picked := 0
		for _, c := range try.Choice.Compared[:try.Choice.N] {
			if c.Picked {
				picked++
				check(c.Addr == try.Addr, "attempt %d picked %s", i+1, c.Addr)
			}
		}
		check(picked == 1 && int(try.Choice.Nodes) >= 4, "attempt %d has %d picked of %d", i+1, picked, try.Choice.Nodes)
	}
	check(len(rest) == 0, "no word of %v", rest)
	if len(all) == 0 {
		return append(wrong, "no attempts")
	}
	check(e.Service == "orders" && e.Attempts == len(all), "%d attempts at %s, want %d", e.Attempts, e.Service, len(all))
	last := all[len(all)-1]
	if d.stalled(&e.Tries[e.N-1]) {
		last = silent
	}
	flag, detail, reason, code := last.flag, resilience.Answered, zerohop.Failed, -1
	for _, b := range all { // the last answer there is
		if b.code >= 0 && (b != refused) {
			code, reason = b.code, ""
		}
	}
	if last.code < 0 && last.again && !d.kind.safe { // what is not repeated ends with its own error
		code, reason = -1, zerohop.Failed
	}
	switch {
	case d.gone && last == silent:
		flag, detail, reason, code = zerohop.FlagCallerGone, resilience.Canceled, zerohop.Ended, -1
	case last.late:
		code, reason = last.code, ""
	case !last.again:
	case len(all) == 3:
		flag, detail = zerohop.FlagRetries, resilience.Exhausted
	case !d.kind.safe && last != refused:
		detail = resilience.Unsafe
	default:
		check(false, "ended after %d attempts with %s", len(all), last.name)
	}
	check(e.Flag == flag, "flag %s, want %s", e.Flag, flag)
	check(e.Detail == detail, "detail %s, want %s", e.Detail, detail)
	check(e.Reason == reason, "reason %q, want %q", e.Reason, reason)
	check(e.Status == code, "status %d, want %d", e.Status, code)
	return wrong
}

// starved reports whether no endpoint saw the call in the time in which an attempt is given up: what kept it was the machine, of which
// nobody knows more.
func (d *dealing) starved() bool { return len(d.dealt) == 0 && d.took >= tooLong }

// stalled reports whether an attempt took too long, as it says, whatever its endpoint did: the machine may have been busy.
func (d *dealing) stalled(t *zerohop.Try) bool {
	return t.Flag == zerohop.FlagTimeout && t.Latency >= tooLong && d.took >= t.Latency
}

// serveGRPCAt is serveGRPC for a server that wants to know its address.
func (x *trial) serveGRPCAt(check func(addr string) func(context.Context) error) string {
	var addr string
	ready := make(chan struct{})
	addr = x.serveGRPC(func(ctx context.Context) error {
		<-ready
		return check(addr)(ctx)
	})
	close(ready)
	return addr
}
