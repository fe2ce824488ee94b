package zerohop

import (
	"context"
	"time"

	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// Request is what a transport knows of a call before it begins.
type Request struct {
	routing.Request
	// Protocol is a short name for hooks, such as "http".
	Protocol string
	// Operation names what is called where the method of routing.Request does not, such as the full method of an RPC.
	// It is CallInfo.Method then, and what is learned about latency is learned for it alone: a slow operation must not
	// delay the backups of a fast one. That is done for the first 100 operations that succeed under a route, so that
	// names cannot fill the memory; the others share what they learn. Empty means the method, and that all calls under a
	// route share it.
	Operation string
	// Instead names the service that this call is a fallback for; see Call.Instead. It has none itself then.
	Instead string
	// Copy is set if the call is a copy of another one: it goes to the service of the copy, and the route and the fallback of
	// that do not matter. It is attempted once.
	Copy *Copy
	// Timeout bounds the call further. 0 means not at all.
	Timeout time.Duration
	// Idempotent says that the protocol lets the call be executed more than once.
	Idempotent bool
	// Attempts limits the attempts further, for example to 1 when the body can be sent only once. 0 means
	// no limit.
	Attempts int
	// Stream says that an attempt is answered when it has begun, so that nothing is to be learned from how
	// long that took, and a backup would only be a second stream.
	Stream bool
	// Whole says that an attempt is over when Exchange.Attempt returns, so that its context need not end. That saves
	// what it takes to make one that can, where nothing but the caller can give the attempt up.
	Whole bool
	// WaitReady is like CallOptions.WaitReady, for protocols that have such an option themselves.
	WaitReady bool
	// LatePick leaves the choice of endpoints to the transport, which calls Attempt.Pick itself.
	LatePick bool
	// OwnEndpoints says that the transport sends attempts to endpoints that it finds and chooses itself. Attempts have
	// no Node then and are judged by their verdicts alone, and the call neither looks for endpoints nor waits for them.
	OwnEndpoints bool

	match int    // of the rule that it came under; -1 without one
	draw  uint64 // the random word of its route; 0 if it needed none
}

// target finds where the call goes and under which policy.
func (r *Request) target(m *Mesh) (t *target, err error) {
	if r.Copy != nil {
		return r.Copy.mirror.target, nil
	}
	t, r.match, err = m.target(&r.Request, &r.draw)
	return t, err
}

// Exchange is one call as its protocol sees it. It is implemented by transports.
type Exchange interface {
	// Attempt makes one attempt on a.Node and blocks until it knows how it went. ctx ends when the attempt
	// is given up; when a's answer becomes the call's, it lives until a.End. Attempt records an error or a
	// status in a. An error with a status is an answer of the service, and becomes that of the call like any
	// other; one without makes Run return an *Error. Attempt is called from several goroutines if a backup
	// is made.
	Attempt(ctx context.Context, a *Attempt) resilience.Verdict
	// Release frees what an attempt holds, after Attempt returned, because another attempt follows or has
	// won. It must not block for long. If it keeps the answer, that may still become the call's; if not, it
	// sets a.Err, and a.Status to -1. An attempt is released at most once, and never after it became the answer.
	Release(a *Attempt)
}
