package zerohop

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// Flag is why a call ended as it did, in the vocabulary of Envoy's response flags, which operators know. The empty Flag is that of
// calls and attempts that succeeded.
type Flag string

const (
	// FlagNoHealthy: the service has no endpoint that the call could go to (UH).
	FlagNoHealthy Flag = "UH"
	// FlagConnect: the last attempt could not connect (UF).
	FlagConnect Flag = "UF"
	// FlagOverflow: a limit or a circuit breaker refused the call (UO).
	FlagOverflow Flag = "UO"
	// FlagTimeout: an attempt or the call took longer than its policy allows (UT).
	FlagTimeout Flag = "UT"
	// FlagReset: the endpoint reset the exchange (UR).
	FlagReset Flag = "UR"
	// FlagTerminated: the connection ended amid the exchange (UC).
	FlagTerminated Flag = "UC"
	// FlagRetries: attempts or the retry budget were used up (URX).
	FlagRetries Flag = "URX"
	// FlagNoRoute: the rule that the call fits has nowhere to send it (NR), such as one with a fixed response for a call by Do.
	FlagNoRoute Flag = "NR"
	// FlagNoService: there is no service of that name (NC).
	FlagNoService Flag = "NC"
	// FlagRateLimited: a rate limit refused the call (RL).
	FlagRateLimited Flag = "RL"
	// FlagDelayInjected: a fault of the route held the call up (DI).
	FlagDelayInjected Flag = "DI"
	// FlagFaultInjected: a fault of the route made the call fail (FI).
	FlagFaultInjected Flag = "FI"
	// FlagCallerGone: the caller cancelled the call (DC).
	FlagCallerGone Flag = "DC"
	// FlagDeadline: the deadline of the caller passed (DT).
	FlagDeadline Flag = "DT"
	// FlagProtocol: the endpoint broke the protocol (UPE).
	FlagProtocol Flag = "UPE"
	// FlagShed: the server, or throttling before it, shed the call (OM).
	FlagShed Flag = "OM"
	// FlagLocalReset: the client itself gave the exchange up (LR): another attempt was faster, the mesh was closed, or what is to be
	// sent cannot be.
	FlagLocalReset Flag = "LR"
	// FlagStatus: the endpoint answered with a failure that is not repeated, or failed in a way that no other flag names. Envoy has no
	// flag for that; this one is ours.
	FlagStatus Flag = "US"
)

// Flag returns why the call ended as it did, empty if it succeeded without a delay. It allocates nothing for what hooks are told.
func (r CallResult) Flag() Flag {
	if r.flag != "" {
		return r.flag
	}
	if r.Outcome == resilience.Success && r.Err == nil {
		if r.Delayed > 0 {
			return FlagDelayInjected
		}
		return ""
	}
	e, _ := r.Err.(*Error)
	if e == nil {
		e, _ = errors.AsType[*Error](r.Err)
	}
	if e != nil && e.Reason != Failed {
		return e.flag()
	}
	switch {
	case r.Detail == resilience.Injected:
		return FlagFaultInjected
	case r.Detail == resilience.Canceled:
		return flagOfEnd(r.Err)
	case r.Detail == resilience.OverBudget, r.Detail == resilience.Exhausted && r.Attempts > 1:
		return FlagRetries
	}
	last := AttemptResult{Status: r.Status, Outcome: r.Outcome, Err: r.Err}
	if e != nil {
		last.Err = e.Err
		if n := len(e.Attempts); n > 0 {
			a := &e.Attempts[n-1]
			last = AttemptResult{Status: a.Status, Outcome: a.Outcome, Err: a.Err}
		}
	}
	return last.Flag()
}

// flag returns that of a call that did not fail by its attempts.
func (e *Error) flag() Flag {
	switch e.Reason {
	case NoEndpoints:
		if errors.Is(e.Err, discovery.ErrUnknownService) {
			return FlagNoService
		}
		return FlagNoHealthy
	case Unavailable, Limited, BreakerOpen:
		return FlagOverflow
	case RateLimited:
		return FlagRateLimited
	case Throttled:
		return FlagShed
	case Injected:
		return FlagFaultInjected
	case Fixed:
		return FlagNoRoute
	case Ended:
		return flagOfEnd(e.Err)
	case Closed, Unrewritable:
		return FlagLocalReset
	}
	return FlagStatus
}

// flagOfEnd returns that of a call or an attempt whose context has ended with the error.
func flagOfEnd(err error) Flag {
	if _, ok := errors.AsType[limitError](err); ok {
		return FlagTimeout
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return FlagDeadline
	}
	return FlagCallerGone
}

// Flag returns what became of the attempt, empty if it succeeded. It allocates nothing for what hooks are told.
func (r AttemptResult) Flag() Flag {
	switch {
	case r.flag != "":
		return r.flag
	case r.Outcome == resilience.Success:
		return ""
	case r.Status >= 0 && r.Outcome == resilience.Overload:
		return FlagShed
	case r.Err == nil:
		return FlagStatus
	}
	return flagOfError(r.Err, r.Status)
}

// The codes of gRPC that say how an RPC ended, rather than what its server makes of it.
const (
	codeCanceled         = 1
	codeDeadlineExceeded = 4
)

// flagOfError returns what an attempt became that ended with an error, and with a status if that is not negative.
func flagOfError(err error, status int) Flag {
	if _, ok := errors.AsType[timeoutError](err); ok {
		return FlagTimeout
	}
	if DialFailed(err) {
		return FlagConnect
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return flagOfEnd(err)
	}
	switch status {
	case codeCanceled:
		return FlagCallerGone
	case codeDeadlineExceeded:
		return FlagDeadline
	}
	var t interface{ Timeout() bool }
	switch {
	case status >= 0 && status < 100: // a code: it came with the answer
		return FlagStatus
	case errors.Is(err, loadbalance.ErrUnavailable), errors.Is(err, loadbalance.ErrLimited):
		return FlagOverflow
	case errors.Is(err, loadbalance.ErrNoEndpoints), errors.Is(err, loadbalance.ErrNoNode), errors.Is(err, loadbalance.ErrNoMatch), errors.Is(err, loadbalance.ErrNoOther):
		return FlagNoHealthy
	case errors.Is(err, syscall.ECONNREFUSED):
		return FlagConnect
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return FlagReset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return FlagTerminated
	case errors.As(err, &t) && t.Timeout():
		return FlagTimeout
	}
	return flagOfText(err.Error())
}

// flagOfText is for the errors of net/http and TLS that only their texts tell apart. What a server says is not to be in
// them, save behind what comes first.
func flagOfText(text string) Flag {
	for _, known := range []struct {
		part string
		flag Flag
	}{
		{"tls: ", FlagConnect}, {"x509: ", FlagConnect},
		{"malformed", FlagProtocol}, {"HTTP response to HTTPS client", FlagProtocol}, {"protocol error", FlagProtocol}, {"PROTOCOL_ERROR", FlagProtocol},
		{"unexpected EOF", FlagTerminated},
		{"connection reset", FlagReset}, {"stream error", FlagReset}, {"RST_STREAM", FlagReset}, {"forcibly closed", FlagReset},
		{"server closed", FlagTerminated}, {"connection broken", FlagTerminated}, {"GOAWAY", FlagTerminated}, {"connection lost", FlagTerminated},
		{"EOF", FlagTerminated},
	} {
		if strings.Contains(text, known.part) {
			return known.flag
		}
	}
	return FlagStatus
}

// Mark says what became of the attempt, for transports whose errors do not tell. It is called by Exchange.Attempt, or before End.
func (a *Attempt) Mark(f Flag) {
	a.call.mu.Lock()
	defer a.call.mu.Unlock()
	a.ownRarity().flag = f
}

// flagOf returns what became of an attempt that did not succeed.
func (c *Call) flagOf(a *Attempt, o resilience.Outcome, status int, err error) Flag {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flagOfLocked(a, o, status, err)
}

func (c *Call) flagOfLocked(a *Attempt, o resilience.Outcome, status int, err error) Flag {
	if r := (*refusedError)(nil); errors.As(err, &r) {
		return (&Error{Reason: r.Stage.reason()}).flag()
	}
	f := AttemptResult{Status: status, Outcome: o, Err: err, flag: a.rarity().flag}.Flag()
	switch {
	case f == FlagCallerGone || f == FlagDeadline:
		return c.flagOfGone(err)
	case err == nil && status < 0: // it is running, or was given up
		return c.flagOfGone(context.Canceled)
	}
	return f
}

// flagOfGone returns that of what ended with a context of the call.
func (c *Call) flagOfGone(err error) Flag {
	d := c.details
	limited := d != nil && d.outer != nil
	cause := context.Cause(c.ctx)
	if _, ok := errors.AsType[limitError](cause); ok {
		return FlagTimeout
	}
	switch gone := c.caller().Err(); {
	case errors.Is(gone, context.DeadlineExceeded):
		return FlagDeadline
	case gone != nil:
		return FlagCallerGone
	case !errors.Is(err, context.DeadlineExceeded) && !c.due(c.mesh().now()):
		return FlagLocalReset
	}
	if limited { // the deadline is about to pass: whose is it?
		own, _ := c.ctx.Deadline()
		if outer, ok := d.outer.Deadline(); !ok || own.Before(outer) {
			return FlagTimeout
		}
	}
	return FlagDeadline
}

// flag returns that of a result that the call is about to tell.
func (c *Call) flag(r *CallResult) Flag {
	e, _ := r.Err.(*Error)
	switch {
	case r.Outcome == resilience.Success && (e == nil || e.Reason == Failed):
		return ""
	case e != nil && e.Reason == Ended:
		return c.flagOfGone(e.Err)
	case e != nil && e.Reason == NoEndpoints && e.Detail == resilience.Unroutable && c.first.rarity().flag != "":
		return c.first.rarity().flag
	case e != nil && e.Reason != Failed, r.Detail == resilience.Injected, r.Detail == resilience.OverBudget, r.Detail == resilience.Exhausted && r.Attempts > 1:
		return r.Flag()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := c.machine.Launched() - 1; i >= 0; i-- {
		a := c.slot(i)
		if !a.begun || !a.judged || a.rarity().refused != nil {
			continue
		}
		record := a.result()
		if a.rarity().record != nil {
			record = *a.rarity().record
		}
		if a.answer && r.Status >= 0 || a.answer && record.Err == nil { // as it ended, which may be after it was judged
			record.Outcome, record.Status, record.Err = r.Outcome, r.Status, r.Err
			if e != nil {
				record.Err = e.Err
			}
		}
		if f := c.flagOfLocked(a, record.Outcome, record.Status, record.Err); f != "" {
			return f
		}
	}
	return ""
}
