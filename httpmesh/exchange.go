package httpmesh

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

var errNoResponse = errors.New("httpmesh: base transport returned neither a response nor an error")

// exchange is one call over HTTP.
type exchange struct {
	call      zerohop.Call
	transport *Transport
	req       *http.Request
	out       http.Request // of the first attempt
	foreign   *foreign     // nil over an *http.Transport
	begun     atomic.Int32 // attempts that may have reached a server
	handed    atomic.Bool  // the body of req was given to a transport, which closes it
	replay    *replay      // of that body if attempts share it
	rewinds   *rewinds     // of it if GetBody may do no more than that
	body      body         // of the answer
	first     delivery

	mu   sync.Mutex // guards what follows, and req against its owner
	more atomic.Pointer[further]
	over bool

	protocol protocol
}

// delivery is the answer to one attempt.
type delivery struct {
	resp *http.Response
	trip trip
}

// further is what calls have that do not succeed at once, or come under a route that acts on them.
type further struct {
	routed     routed // does not change once the first attempt begins
	deliveries [resilience.MaxAttempts - 1]delivery
	failed     *zerohop.Attempt // the last that did
}

// foreign is an exchange over a base that finds its way by the URL and may send requests again by itself.
type foreign struct {
	exchange
	url     url.URL // of the first attempt
	resends resends // of the first attempt
}

// toldExchange and toldForeign are those that hooks are told of.
type toldExchange struct {
	exchange
	details zerohop.Details
}

type toldForeign struct {
	foreign
	details zerohop.Details
}

func newExchange(t *Transport, req *http.Request) *exchange {
	var x *exchange
	switch told := t.mesh.Observed(); { // of one allocation, whatever is in it
	case t.pool == nil && told:
		o := &toldForeign{}
		x, o.foreign.foreign = &o.exchange, &o.foreign
		x.call.Room(&o.details)
	case t.pool == nil:
		f := &foreign{}
		x, f.foreign = &f.exchange, f
	case told:
		o := &toldExchange{}
		x = &o.exchange
		x.call.Room(&o.details)
	default:
		x = &exchange{}
	}
	x.transport, x.req, x.protocol = t, req, protocolOf(req)
	return x
}

// share prepares for attempts that send the same body.
func (x *exchange) share() {
	switch req := x.req; {
	case req.Body == nil, req.Body == http.NoBody:
	case req.GetBody == nil:
		x.replay = &replay{src: req.Body}
	case x.protocol != plain:
		x.rewinds = &rewinds{}
	}
}

// delivery returns the place for the answer to attempt i.
func (x *exchange) delivery(i int) *delivery {
	if i == 0 {
		return &x.first
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return &x.rest().deliveries[i-1]
}

// rest returns what calls have that do not succeed at once. x.mu is held.
func (x *exchange) rest() *further {
	if x.more.Load() == nil {
		x.more.Store(&further{})
	}
	return x.more.Load()
}

// Attempt sends the request to the node of a and waits for the response headers.
func (x *exchange) Attempt(ctx context.Context, a *zerohop.Attempt) resilience.Verdict {
	sent := int(x.begun.Add(1)) - 1
	v := x.try(ctx, a, sent)
	if v.Unsent && v.Outcome != resilience.Overload { // a server that refused it makes it a repetition for others
		x.begun.Add(-1)
	}
	if v.Outcome != resilience.Success && a.Node() != nil {
		x.mu.Lock()
		x.rest().failed = a
		x.mu.Unlock()
	}
	if v.Retry && (v.Unsent || a.Repeatable()) && x.replay.exhausted() {
		a.Unrepeatable()
		if x.req.Context().Err() == nil { // this is no backup, so the request is not its owner's again
			x.transport.unrepeated.Add(1)
		}
	}
	return v
}

// try makes an attempt when the request was sent so many times before.
func (x *exchange) try(ctx context.Context, a *zerohop.Attempt, sent int) resilience.Verdict {
	var again *resends
	if x.foreign != nil {
		if again = &x.foreign.resends; a.Number > 0 {
			again = &resends{}
		}
		ctx = again.watch(ctx)
	}
	req, err := x.request(ctx, a, sent)
	if err != nil {
		x.refuse(a, err)
		return resilience.Verdict{Outcome: resilience.Neutral, Unsent: true}
	}
	var (
		resp *http.Response
		way  trip
	)
	if a.WantsProber() {
		a.SetProber(x.transport.prober(a, req))
	}
	if t := x.transport; t.handler(a.Node()) != nil {
		a.Over(zerohop.NetworkInProcess)
		resp, way, err = callHandler(t.handler(a.Node()), req)
	} else if t.pool != nil {
		if resp, way, err = t.poolOf(a, req, x.protocol).send(req); way.local {
			a.Over(zerohop.NetworkUnix)
		}
	} else if resp, err = t.base.RoundTrip(req); again.count() > 0 {
		a.Resent(again.count())
	}
	a.Idle(idle(req))
	switch {
	case err != nil && malformed(req):
		a.Err = err
		return resilience.Verdict{Outcome: resilience.Neutral, Unsent: true}
	case err != nil && (spoiled(req) || canceled(req)):
		a.Err = err
		return resilience.Verdict{Outcome: resilience.Neutral}
	case err == nil && resp == nil:
		err = errNoResponse
	case err == nil && !a.Arrived():
		resp.Body.Close()
		way.end()
		err = context.Canceled
	}
	if err != nil {
		a.Err = err
		v := resilience.Verdict{Outcome: resilience.Failure, Retry: true, Unsent: way.unsent || unsent(ctx, err)}
		if way.stale || errors.Is(err, errNoUpgrade) { // it only closed an idle connection, or is no place for such requests
			v.Outcome = resilience.Neutral
		}
		return v
	}
	if resp.StatusCode == http.StatusMisdirectedRequest {
		way.shun()
	}
	*x.delivery(a.Number) = delivery{resp, way}
	a.Status = resp.StatusCode
	v := x.protocol.judge(req, resp)
	if by := first(resp.Header[RefusedHeader]); resp.StatusCode == http.StatusServiceUnavailable && by != "" {
		v = resilience.Verdict{Outcome: resilience.Overload, Retry: true, Unsent: by != below, After: v.After}
	}
	switch why := resp.Header.Get(NoRetryHeader); {
	case !v.Retry, why == "":
	case why == noTime:
		v = resilience.Verdict{Outcome: resilience.Neutral, Retry: true, Unsent: true, After: -1}
	default:
		v.After = -1
	}
	if n := a.Node(); n != nil && n.WantsLoad() {
		reportLoad(n, resp.Header, v.Outcome)
	}
	return v
}

// request makes the request of an attempt out of that of the call, which is not touched.
func (x *exchange) request(ctx context.Context, a *zerohop.Attempt, sent int) (*http.Request, error) {
	req := &x.out
	switch {
	case a.Number == 0:
		x.out = *x.req.WithContext(ctx) // inlined, this allocates nothing
	case !a.Backup():
		req = x.req.WithContext(ctx)
	default:
		if req = x.copy(ctx); req == nil {
			return nil, context.Canceled
		}
	}
	if y := x.routed(); y != nil {
		y.direct(req)
		if y.Mirrored && a.Number == 0 {
			x.mirror(y)
		}
	}
	if err := x.load(ctx, a, req); err != nil {
		return nil, err
	}
	if x.foreign != nil && !x.transport.direct {
		u := &x.foreign.url
		if a.Number > 0 {
			u = &url.URL{}
		}
		*u = *req.URL
		if req.Host == "" {
			req.Host = u.Host
		}
		u.Host = a.Node().Addr()
		req.URL = u
	}
	x.announce(ctx, req, a, sent)
	return req, nil
}

// refuse gives up an attempt that has no body to send. What came of the one before is the answer then.
func (x *exchange) refuse(a *zerohop.Attempt, err error) {
	a.Err = err
	a.Refuse(err)
	if a.Backup() {
		return
	}
	if a.Number > 0 {
		a.Unrepeatable()
	}
	if errors.Is(err, errNotRepeatable) {
		x.transport.unrepeated.Add(1)
	}
	x.mu.Lock()
	f := x.rest().failed
	x.mu.Unlock()
	if f != nil && f.Err != nil {
		f.Err = fmt.Errorf("%w (not repeated: %w)", f.Err, err)
	}
}

// load gives the request of an attempt its body.
func (x *exchange) load(ctx context.Context, a *zerohop.Attempt, req *http.Request) (err error) {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return nil
	case x.rewinds != nil:
		x.handed.Store(true)
		if req.Body, err = x.rewinds.begin(req, a); err != nil {
			return err
		}
	case a.Number > 0 && req.GetBody != nil:
		if req.Body, err = req.GetBody(); err != nil {
			return err
		}
	case x.replay == nil:
		x.handed.Store(true)
	default:
		limit := 0
		if a.Repeatable() && !x.protocol.endless(req) {
			limit = replayLimit
		}
		p := x.replay.begin(ctx, a.Number, limit, a.Backup())
		if p == nil {
			return errNotRepeatable
		}
		req.Body = p
	}
	if y := x.routed(); y != nil {
		if e := y.tee.Load(); e != nil {
			req.Body = &teed{ReadCloser: req.Body, tee: e}
		}
	}
	req.Body = observed(req)
	return nil
}

// copy returns the request for a backup, which may begin or end only after the call is over and the caller's request
// is his to change again. In the first case it returns nil.
func (x *exchange) copy(ctx context.Context) *http.Request {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return nil
	}
	return x.req.Clone(ctx)
}

// end says that the call is over.
func (x *exchange) end() {
	if y := x.routed(); y != nil {
		if e := y.tee.Load(); e != nil {
			e.end()
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
}

// free closes the body of the request as soon as no transport reads it. a is the answer, nil if there is none.
func (x *exchange) free(a *zerohop.Attempt) {
	switch {
	case x.replay == nil:
		if !x.handed.Load() && x.req.Body != nil {
			x.req.Body.Close()
		}
	case a == nil:
		x.replay.end(-1)
	default:
		x.replay.end(a.Number)
	}
}

// deliver returns the response of the answer.
func (x *exchange) deliver(a *zerohop.Attempt) *http.Response {
	d := x.delivery(a.Number)
	resp := d.resp
	resp.Request = x.req
	if a.Explained() {
		explain(resp, a.Explanation())
	}
	x.rewriteAnswer(resp)
	bind(resp, x.req, a)
	if !kept(resp) {
		resp.Body = guard(&x.body, resp, d.trip, a, x.protocol.watched(resp))
	}
	return resp
}

// explain has zerohop.Explain find e, whoever wraps the body of the response.
func explain(resp *http.Response, e *zerohop.Explanation) {
	if e != nil {
		zerohop.Attach(resp, e)
	}
}

// Describe returns what hooks are told of the request.
func (x *exchange) Describe() (protocol, host, method string) {
	return "http", x.req.URL.Host, x.req.Method
}
