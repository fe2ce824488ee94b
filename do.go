package zerohop

import (
	"context"
	"errors"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// ClassifiedError tells Do what an error means, if Do would misjudge it.
type ClassifiedError struct {
	// Verdict is the meaning.
	Verdict resilience.Verdict
	// Err is the error. Never nil.
	Err error
}

// Error returns the text of Err.
func (e *ClassifiedError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ClassifiedError) Unwrap() error { return e.Err }

// Do calls f with an endpoint of the service, under the policy of the service, and again with another one if it
// fails and may be repeated. It is for protocols that have no transport of their own here.
//
// An error of f counts as a failure of the endpoint worth repeating; a failed dial (*net.OpError) also as
// proven unsent; a *ClassifiedError as what it says. Calls are repeated only if they are declared idempotent, by
// Policy.Idempotent or CallOptions.Idempotent, or were not sent. f may then run twice at the same time, and must
// return soon after its context ended, which for the attempt whose result Do returns happens when Do returns.
//
// The error is an *Error, which wraps that of the last attempt.
//
// Where Policy.Fallback names another service, f may be called with endpoints of that in the end.
func Do[T any](ctx context.Context, m *Mesh, service string, f func(ctx context.Context, node *loadbalance.Node) (T, error)) (T, error) {
	return newDoExchange(m, f).do(ctx, m, service)
}

// DoOr is Do with an answer for calls that have failed for good, and that no other service has answered for: the result is
// that of fallback, which gets the *Error of the call. Its context is the caller's. A fallback that has no answer returns the
// error that it got. It is not called for a caller who has gone away.
func DoOr[T any](ctx context.Context, m *Mesh, service string, f func(ctx context.Context, node *loadbalance.Node) (T, error), fallback func(ctx context.Context, err error) (T, error)) (T, error) {
	x := newDoExchange(m, f)
	v, err := x.do(ctx, m, service)
	if err == nil || !x.call.Failed(nil, err) {
		return v, err
	}
	v, other := fallback(ctx, err)
	if other == nil {
		x.call.FellBack("", err)
	}
	return v, other
}

type doExchange[T any] struct {
	call    Call
	f       func(context.Context, *loadbalance.Node) (T, error)
	results [resilience.MaxAttempts]T
}

// toldDoExchange is one that hooks are told of.
type toldDoExchange[T any] struct {
	doExchange[T]
	details Details
}

func newDoExchange[T any](m *Mesh, f func(context.Context, *loadbalance.Node) (T, error)) *doExchange[T] {
	if !m.Observed() {
		return &doExchange[T]{f: f}
	}
	x := &toldDoExchange[T]{doExchange: doExchange[T]{f: f}}
	x.call.Room(&x.details)
	return &x.doExchange
}

func (x *doExchange[T]) do(ctx context.Context, m *Mesh, service string) (T, error) {
	r := Request{Request: routing.Request{Service: service}}
	a, err := x.call.Run(ctx, m, &r, x)
	if err == nil {
		a.End(a.Verdict().Outcome, nil)
		return x.results[a.Number], nil
	}
	var zero T
	if _, ok := x.call.Instead(nil, err, &r); !ok {
		return zero, err
	}
	other := newDoExchange(m, x.f)
	if a, failure := other.call.Run(ctx, m, &r, other); failure == nil {
		a.End(a.Verdict().Outcome, nil)
		x.call.FellBack(r.Service, err)
		return other.results[a.Number], nil
	}
	return zero, err
}

func (x *doExchange[T]) Attempt(ctx context.Context, a *Attempt) resilience.Verdict {
	x.results[a.Number], a.Err = x.f(ctx, a.Node())
	if a.Err == nil {
		return resilience.Verdict{Outcome: resilience.Success}
	}
	var c *ClassifiedError
	if errors.As(a.Err, &c) {
		return c.Verdict
	}
	// The cause of the end of ctx says nothing: that may be how another call failed.
	cause := context.Cause(ctx)
	unsent := DialFailed(a.Err) && (errors.Is(ctx.Err(), cause) || !errors.Is(a.Err, cause))
	return resilience.Verdict{Outcome: resilience.Failure, Retry: true, Unsent: unsent}
}

func (x *doExchange[T]) Release(*Attempt) {}
