package vet

import (
	"time"

	"github.com/zerohop/zerohop"
)

// timeouts compares the bounds of a call with each other, with what its caller has, and with how long answers take.
func (r *runner) timeouts(u *use) {
	p := &u.p
	total, by := p.Timeout, "timeout"
	var p50, p99 time.Duration
	if l := u.load; l != nil {
		p50, p99 = l.latency.P50, l.latency.P99
		if l.bound > 0 && (total == 0 || l.bound < total) {
			total, by = l.bound, "time that "+l.bounded+" gives it"
		}
	}
	each, n := p.AttemptTimeout, p.Retry.Attempts
	pause := p.Retry.Base
	switch {
	case !u.retries() || each == 0 || total == 0 || !u.explicit("attemptTimeout", "timeout"):
	case each >= total:
		r.report(u, attemptTimeoutTooLong, Warning, u.blame("attemptTimeout", "timeout"),
			"attemptTimeout is %v and the %s %v, so it never ends an attempt before the call is over: set attemptTimeout to %v or less", each, by, total, total/2)
	case p99 > 0 && total-each < p99 || p99 == 0 && total-each < each/2:
		need := p99
		if need == 0 {
			need = each
		}
		r.report(u, noTimeForRetry, Warning, u.blame("attemptTimeout", "timeout"),
			"after a first attempt of %v (attemptTimeout) %v are left of the %s of %v, less than the %v that a second one may need: lower attemptTimeout to %v, or raise the timeout to %v",
			each, total-each, by, total, need, max(total-need-pause, total/2), each+need+pause)
	case n > 2 && u.explicit("retry.attempts") && time.Duration(n-1)*each >= total:
		begun := int((total + each - 1) / each)
		r.report(u, attemptsExceedTimeout, Note, u.blame("retry.attempts"),
			"%d attempts of %v (attemptTimeout) take %v, and the %s is %v: if attempts hang no more than %d are begun", n, each, time.Duration(n)*each, by, total, begun)
	}
	if u.retries() && total > 0 && u.explicit("retry.base") && pause >= total {
		r.report(u, backoffTooLong, Warning, u.blame("retry.base"), "the pause before the first retry is up to %v and the %s %v: lower retry.base to %v or less", pause, by, total, total/10)
	}
	if late := least(total, each); p.Backup.Mode == zerohop.On && u.attempts() > 1 && late > 0 && p.Backup.Min >= late && u.explicit("backup.min") {
		r.report(u, backupTooLate, Warning, u.blame("backup.min"), "a backup joins an attempt after %v at the earliest, which has ended by then, after %v: lower backup.min to %v or less", p.Backup.Min, late, late/2)
	}
	if c := p.Connect.Timeout; least(total, each) > 0 && c >= least(total, each) && u.explicit("connect.timeout") {
		r.report(u, connectTimeoutTooLong, Warning, u.blame("connect.timeout"), "to connect may take %v and an attempt %v: lower connect.timeout to %v or less, so that there is time for another endpoint", c, least(total, each), least(total, each)/2)
	}
	if p.ReadTimeout > 0 && p.Timeout > 0 && p.ReadTimeout >= p.Timeout && u.explicit("readTimeout") {
		r.report(u, readTimeoutTooLong, Warning, u.blame("readTimeout"), "readTimeout is %v and the timeout, which ends the call, %v: lower it or leave it out", p.ReadTimeout, p.Timeout)
	}
	if u.load == nil {
		return
	}
	for _, t := range []struct {
		field string
		bound time.Duration
	}{{"attemptTimeout", each}, {"timeout", p.Timeout}} {
		switch {
		case t.bound == 0:
		case p50 >= t.bound:
			r.report(u, timeoutBelowLatency, Error, u.blame(t.field), "%s is %v, and half of the answers take more than %v: raise it above %v", t.field, t.bound, p50, max(p99, p50))
		case p99 >= t.bound:
			r.report(u, timeoutBelowLatency, Warning, u.blame(t.field), "%s is %v, and one answer in a hundred takes more than %v: raise it above that", t.field, t.bound, p99)
		}
	}
	l := u.load
	if l.bound > 0 && !l.server && p.Timeout > l.bound && u.explicit("timeout") {
		r.report(u, timeoutOutlivesCaller, Warning, u.blame("timeout"), "the timeout is %v, but %s gives %s only %v and is gone then: lower it, or serve %s with the server half of zerohop (server: true in the graph)",
			p.Timeout, l.bounded, u.client, l.bound, u.client)
	}
	if !l.repeated && p.Idempotent != zerohop.On && l.bound == 0 && p.Timeout == 0 && p.AttemptTimeout == 0 && p.ReadTimeout == 0 {
		r.report(u, noDeadline, Warning, u.at, "the call may not be repeated, and neither its caller nor the policy sets a bound: if an endpoint hangs it hangs for ever. Set timeout or attemptTimeout")
	}
}

// network compares what callers from outside wait with how long answers take.
func (r *runner) network(n *network) {
	for i, e := range n.graph.Entries {
		v := n.services[lower(e.Service)]
		l := v.Latency
		switch {
		case e.Deadline == 0:
		case l.P50 >= e.Deadline:
			r.entry(n, i, Error, "the caller of %s waits %v, and half of the answers take more than %v: raise the deadline above %v", v.name, e.Deadline, l.P50, max(l.P50, l.P99))
		case l.P99 >= e.Deadline:
			r.entry(n, i, Warning, "the caller of %s waits %v, and one answer in a hundred takes more than %v: raise the deadline above that", v.name, e.Deadline, l.P99)
		}
	}
	r.mirrors(n)
}
