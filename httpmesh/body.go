package httpmesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// A response that is not wanted any more is read to its end, so that its connection can be used again, and kept
// in case that nothing better follows; but only so much of it and for so long.
const (
	drainLimit = 64 << 10
	drainTime  = 50 * time.Millisecond
)

// keptBody is the body of a response that was read when its attempt was let go of.
type keptBody struct{ bytes.Reader }

func (*keptBody) Close() error { return nil }

func kept(resp *http.Response) bool {
	_, ok := resp.Body.(*keptBody)
	return ok
}

// Release reads and closes the body of a response, so that its connection is free, and keeps it if it is small.
func (x *exchange) Release(a *zerohop.Attempt) {
	defer x.replay.retire(a.Number) // not before: a transport that cannot finish the request may break the response
	d := x.delivery(a.Number)
	resp := d.resp
	if resp == nil {
		return
	}
	rc := resp.Body
	timer := time.AfterFunc(drainTime, func() { rc.Close() }) // it may run yet when resp has another body
	data, err := io.ReadAll(io.LimitReader(rc, drainLimit+1))
	timer.Stop()
	rc.Close()
	d.trip.end()
	if err == nil && len(data) <= drainLimit {
		body := &keptBody{}
		body.Reset(data)
		resp.Body = body
		return
	}
	d.resp = nil
	a.Status = -1
	a.Err = fmt.Errorf("httpmesh: answer %q was discarded for another attempt", resp.Status)
}

// guard returns the body of an answer such that the attempt ends with it. b is where it may be kept. rpc is not nil if
// the end of the body says how the attempt went.
func guard(b *body, resp *http.Response, way trip, a *zerohop.Attempt, rpc *ending) io.ReadCloser {
	b.rc, b.req, b.trip, b.attempt, b.rpc = resp.Body, resp.Request, way, a, rpc
	if n := a.Node(); n != nil && n.WantsLoad() {
		b.resp = resp
	}
	if resp.Body == nil || resp.Body == http.NoBody {
		b.finish(true)
		return resp.Body
	}
	if resp.StatusCode != http.StatusSwitchingProtocols && resp.Request.Method != http.MethodConnect { // tunnels may be silent
		if limit := a.Policy().ReadTimeout; limit > 0 {
			b.rc = &lively{ReadCloser: b.rc, limit: limit, body: b}
		}
	}
	if w, ok := resp.Body.(io.Writer); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		return &tunnel{body: b, Writer: w}
	}
	return b
}

type body struct {
	rc      io.ReadCloser
	req     *http.Request
	trip    trip
	attempt *zerohop.Attempt
	rpc     *ending
	resp    *http.Response // nil if nobody wants to know what its trailer says of the load
	closed  atomic.Bool
	over    atomic.Bool
}

// tunnel is the body of a 101 response, to which the caller may write. Either direction may end before the other, so
// the attempt ends when it is closed.
type tunnel struct {
	*body
	io.Writer
}

func (b *tunnel) Read(p []byte) (int, error) {
	late := b.req.Context().Err() != nil
	n, err := b.rc.Read(p)
	if err != nil && err != io.EOF && !b.closed.Load() {
		b.end(err, late)
	}
	return n, err
}

// CloseWrite tells the server that nothing more will be written, as that of net/http does.
func (b *tunnel) CloseWrite() error {
	if w, ok := b.Writer.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return fmt.Errorf("httpmesh: CloseWrite: %w", http.ErrNotSupported)
}

func (b *body) Read(p []byte) (int, error) {
	late := b.req.Context().Err() != nil
	n, err := b.rc.Read(p)
	if b.rpc != nil {
		b.rpc.saw(p[:n])
	}
	switch {
	case err == nil || b.closed.Load(): // that a closed body fails is no news
	case err == io.EOF:
		b.finish(true)
	default:
		b.end(err, late)
	}
	return n, err
}

func (b *body) Close() error {
	b.closed.Store(true)
	err := b.rc.Close()
	b.finish(false)
	return err
}

// Explanation returns that of the call: how zerohop.Explain finds out about a body that broke off.
func (b *body) Explanation() *zerohop.Explanation { return b.attempt.Explanation() }

// end ends the attempt because the body broke off. late says that the caller asked for more only when his context had
// ended.
func (b *body) end(err error, late bool) {
	// It broke off, or the deadline passed while the caller waited for more.
	outcome := resilience.Failure
	// The error may be the cause with which the caller cancelled.
	if late || errors.Is(err, context.Canceled) || errors.Is(b.req.Context().Err(), context.Canceled) {
		outcome = resilience.Neutral
	}
	if b.leave() {
		b.attempt.End(outcome, err)
	}
}

// finish ends the attempt because the caller has read the whole body, or (not eof) wants no more of it.
func (b *body) finish(eof bool) {
	if b.leave() {
		outcome, err := b.outcome(eof)
		if eof && b.resp != nil {
			reportLoad(b.attempt.Node(), b.resp.Trailer, outcome)
		}
		b.attempt.End(outcome, err)
	}
}

// leave gives the connection back. It is true for the first caller.
func (b *body) leave() bool {
	first := !b.over.Swap(true)
	if first {
		b.trip.end()
	}
	return first
}

// outcome is that of an attempt whose answer did not break off. eof says that it is complete.
func (b *body) outcome(eof bool) (resilience.Outcome, error) {
	if o := b.attempt.Verdict().Outcome; b.rpc == nil || o != resilience.Success {
		return o, nil
	}
	return b.rpc.outcome(b.req.Context(), eof)
}
