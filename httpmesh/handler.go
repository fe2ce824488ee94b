package httpmesh

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/orca"
	"github.com/zerohop/zerohop/resilience"
)

// Handler is the server half of a Transport: an http.Handler around that of a service. It is made by NewHandler. Its
// methods are safe for concurrent use.
type Handler struct {
	next http.Handler
	o    HandlerOptions

	started, ended atomic.Int64               // requests
	failed         atomic.Int64               // of them, as their callers see it
	meter          atomic.Pointer[orca.Meter] // nil until somebody asks for the load

	drain    sync.Once
	draining chan struct{} // closed by Drain
}

// HandlerOptions are the options of a Handler. The zero value is good.
type HandlerOptions struct {
	// MinTime is the least time a request needs. One whose caller has less left is refused like one that has none.
	// 0 means none.
	MinTime time.Duration
	// MaxCriticality is the highest level that a request can ask for by its CriticalityHeader, which may come from anybody.
	// Unspecified means Critical: where strangers cannot reach the server, set it to CriticalPlus to let callers have that.
	MaxCriticality resilience.Criticality
	// IgnoreLane has requests be in no lane, whatever their BaggageHeader says, which may come from anybody: next gets it
	// without the lane, and calls made for the request are in none, unless next says otherwise by zerohop.WithLane. It is for the
	// edge, where strangers would choose which version of a service works for them, if only among the lanes that there are.
	IgnoreLane bool
	// Admission decides which requests are worked on; it may be shared by all servers of the process. nil means all.
	//
	// What it refuses because the server has too much to do gets 503 with a RefusedHeader, and Retry-After if a place is
	// known to be free in a second or later; a Transport tries elsewhere, out of its budget, also what is not safe to
	// repeat. NoRetryHeader asks it not to if that would be in vain (AdmissionError.Final). What is refused because the
	// caller has too little time left gets 504, like requests without any.
	//
	// A request keeps its place until the handler returns; event streams and tunnels (CONNECT and upgrades) until
	// their answers begin, for a limit of what is worked on says nothing of what only stays open, and a few hundred of
	// those would shut everybody else out. Requests for LoadPath need no place.
	Admission *zerohop.Admission
	// Operation names what a request asks for, for Admission; see zerohop.Arrival. nil means the pattern if the handler is an
	// *http.ServeMux or the request came through one, or else the method.
	Operation func(*http.Request) string
	// Exempt says which requests need no place and are never refused by Admission. Health checks that the handler serves
	// itself should be: an overloaded server that fails them leaves its load to the others. nil means none.
	Exempt func(*http.Request) bool
	// Load returns how busy the server is, for balancers that weigh endpoints by that. It is called for every answer,
	// from many goroutines, so it should return figures taken before. nil means that answers do not tell, but for what
	// Unmeasured says.
	Load func() LoadReport
	// Unmeasured switches off that the Handler measures the load of the server by itself and tells it to clients that ask,
	// by WantLoadHeader. Servers that strangers can reach may want to keep that to themselves.
	Unmeasured bool
	// Quiet is how long no request must have come before Drain returns. Less than the time that callers need to learn
	// of the drain makes some meet a closed connection. 0 means 1 s, a negative time none.
	Quiet time.Duration
}

// NewHandler returns a Handler around next. nil means http.DefaultServeMux. Wherever next runs in the server, these hold:
//
//   - The context of a request has the deadline that its TimeoutHeader sets, or an earlier one if it had that. A request
//     without any time left is refused with 504 before next sees it, and with NoRetryHeader, because there would be even
//     less for another attempt. The header tells how much time is left and not when it is over, so the clocks of hosts
//     are not compared, and the time on the way is not counted. It can only shorten what the server allows.
//     What becomes a WebSocket or another tunnel has no deadline, for that of the caller ends with the handshake.
//   - Calls that next makes over a mesh with the context of the request are restrained if the request is a repetition
//     (see zerohop.Inbound), and if one of them has failed for good, a failure that next answers with, 429 or 5xx, asks
//     the caller not to repeat the request, by NoRetryHeader. So an outage at the bottom of a chain of services is not
//     multiplied by every one of them.
//   - Those calls are as critical as the request says by its CriticalityHeader, up to HandlerOptions.MaxCriticality.
//   - Those calls are in the lane of the request, which its BaggageHeader names; see zerohop.Lane and HandlerOptions.IgnoreLane.
//   - Answers carry the load of the server, if there is HandlerOptions.Load. To clients that ask, by WantLoadHeader or at
//     LoadPath, they also tell what the Handler itself has measured, which is what loadbalance.Prequal and
//     UtilizationRoundRobin need: how many requests are in flight and how long those take that begin with about as
//     many (loadbalance.InFlightMetric and LatencyMetric, until their answers begin), rates of requests and of failures
//     (429 and 5xx), and the part of its processors that the process uses. Nothing is measured before the first client
//     asks.
//   - Requests are counted, and drained by Drain.
//
// The deadlines of gRPC and Connect (grpc-timeout, Connect-Timeout-Ms) are left to their servers. The http.ResponseWriter
// that next gets has Flush, Hijack, ReadFrom, Push and CloseNotify if that of the server has them, and works with
// http.ResponseController. Panics of next pass.
//
// The headers may come from anybody: all they can do is give up time or retries of the request that carries them, and choose
// among the lanes that there are.
func NewHandler(next http.Handler, o HandlerOptions) *Handler {
	if next == nil {
		next = http.DefaultServeMux
	}
	if o.Quiet == 0 {
		o.Quiet = time.Second
	}
	return &Handler{next: next, o: o, draining: make(chan struct{})}
}

// ServeHTTP calls the handler of the service, unless the caller has no time left.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	asked := !h.o.Unmeasured && r.Header[WantLoadHeader] != nil
	if asked && r.Method == http.MethodGet && r.URL.Path == LoadPath {
		h.tell(w, r)
		return
	}
	started := h.started.Add(1)
	a := h.reply(w, r)
	defer a.end()
	if m := h.meter.Load(); m != nil || asked {
		a.time(m, asked, started)
	}
	a.inbound.Attempt = sentBefore(r.Header)
	a.inbound.Criticality = criticalityOf(r.Header, h.o.MaxCriticality)
	ctx := r.Context()
	left, ok := timeLeft(r.Header)
	if ok {
		if left <= 0 || left < h.o.MinTime {
			a.refuse()
			return
		}
		if r.Method != http.MethodConnect && !upgrades(r) { // who opens a tunnel does not say how long it lasts
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, left)
			defer cancel()
		}
	}
	if a.visit != nil {
		if err := h.admit(ctx, a, r, left); err != nil {
			a.turnAway(ctx, err)
			return
		}
		defer a.leave(ctx)
	}
	header := h.lane(a, r.Header)
	in := r.WithContext(zerohop.WithInbound(ctx, &a.inbound))
	in.Header = header
	h.next.ServeHTTP(a.writer(), in)
	a.begin(http.StatusOK) // if next wrote nothing, the server will
	// The server removes the files of a form, and handlers around this one read the pattern, from the request that they
	// have.
	r.MultipartForm, r.Pattern = in.MultipartForm, in.Pattern
}

// Requests returns how many requests have come so far, and how many of them failed for their callers: those that were answered with 429
// or 5xx, be it by a refusal, and those whose handlers panicked before they answered. Requests for LoadPath are none. It costs a few
// nanoseconds, and is what a console.Console needs to show what comes in.
func (h *Handler) Requests() (all, failed int64) {
	failed = h.failed.Load() // first, so that there are never more than all
	return h.started.Load(), failed
}

// InFlight returns the number of requests that are being worked on. A connection that was hijacked counts until the
// handler returns.
func (h *Handler) InFlight() int {
	ended := h.ended.Load() // first, so that the difference is never too small
	return int(h.started.Load() - ended)
}
