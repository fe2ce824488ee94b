package zerohop

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// Described is implemented by an Exchange that can say what was called, so that a call need not keep it for the case that it
// fails. It is called in the goroutine of the call, or of who reads the answer.
type Described interface {
	// Describe returns CallInfo.Protocol, Host and Method. An empty host means the name of the service.
	Describe() (protocol, host, method string)
}

// noted is what is known of how the endpoint of an attempt was chosen.
type noted struct {
	choice loadbalance.Choice
	budget float64 // level
	late   bool    // it was looked at when the attempt had failed
}

// recording reports whether the pick of the attempt is to be recorded.
func (c *Call) recording(a *Attempt) bool {
	switch {
	case c.explain == explainAll:
		return true
	case a.cause == resilience.First || c.explain != explainFailures:
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failing
}

// note keeps how the endpoint was chosen, once that is done: others may read it from then on.
func (a *Attempt) note(n *noted) {
	a.call.mu.Lock()
	defer a.call.mu.Unlock()
	a.ownRarity().noted = n
}

// level returns the level of the retry budget, -1 if there is none.
func (c *Call) level() float64 {
	if c.target.budget == nil {
		return -1
	}
	return c.target.budget.Level()
}

// lookBack has the picks recorded that follow, and looks at how those were made that came before.
func (c *Call) lookBack(now time.Duration) {
	if c.explain == explainNever {
		return
	}
	var (
		list  [resilience.MaxAttempts]*Attempt
		tried [resilience.MaxAttempts]*loadbalance.Node
		n     int
	)
	c.mu.Lock()
	c.failing = true
	for i := range c.machine.Launched() {
		a := c.slot(i)
		if tried[i] = a.Node(); !a.begun || a.rarity().noted != nil || a.Node() == nil && a.refused() {
			continue
		}
		list[n] = a
		n++
	}
	c.mu.Unlock()
	for _, a := range list[:n] {
		note := &noted{late: true, budget: c.level()}
		if !c.own {
			c.look(now, a, tried[:a.Number], &note.choice)
		}
		c.mu.Lock()
		if r := a.ownRarity(); r.noted == nil {
			r.noted = note
		}
		c.mu.Unlock()
	}
}

// look finds out about the pick of an attempt that was not recorded.
func (c *Call) look(now time.Duration, a *Attempt, tried []*loadbalance.Node, choice *loadbalance.Choice) {
	in := loadbalance.Info{Now: c.mesh().at(now), Other: a.Backup(), Hash: c.hash}
	for _, n := range tried {
		if n != nil {
			in.Avoid = append(in.Avoid, n)
		}
	}
	c.mu.Lock()
	r, p := *a.rarity(), a.pick
	c.mu.Unlock()
	set, known := r.ready, r.known
	if set == nil {
		set = c.target.service.balancer.Set()
		known = set
	}
	if g := c.guide(); g != nil {
		in.Node, in.Strict = g.node, g.strict
		all := known
		var err error
		if set, err = g.choose(&in, r.astray, set, known); err != nil {
			choice.Nodes = int32(len(all.Nodes()))
			choice.Removed[loadbalance.NotSelected] = choice.Nodes
			return
		}
	}
	set.By(c.target.algorithm).Look(in, p, a.ended.Load()&1 == 0, choice)
}

// noteRefusal keeps what a stage said.
func (c *Call) noteRefusal(r *Refusal) {
	if c.explain == explainNever {
		return
	}
	s := StageRefusal{Stage: r.Stage, Attempt: int8(r.Attempt), Enforced: r.Enforced, After: r.After}
	if r.Attempt < 0 { // nobody else has the call yet
		if c.details == nil {
			c.details = &details{}
		}
		c.details.refusals = append(c.details.refusals, s)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest().refusals = append(c.rest().refusals, s)
}

// explains reports whether the call is explained, given how it ended.
func (c *Call) explains(o resilience.Outcome, err error) bool {
	switch {
	case c.explain == explainNever:
		return false
	case c.explain >= explainAll || o == resilience.Failure || o == resilience.Overload:
		return true
	case o == resilience.Success:
		e, ok := err.(*Error)
		return ok && e.Reason == Injected // with a status that would be no failure of an endpoint
	case err != nil:
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next.reason != resilience.Answered
}

// explained makes the Explanation of a call that is over, and keeps it for who asks later.
func (c *Call) explained(r *CallResult) *Explanation {
	c.mu.Lock()
	if m := c.more; m != nil && m.final {
		c.mu.Unlock()
		return m.made
	}
	c.mu.Unlock()
	e := c.explanation(r)
	failure, ok := r.Err.(*Error)
	if ok {
		failure.Explanation = e
	}
	if !ok || c.said.report != nil || c.explain != explainFailures {
		c.keepExplanation(e, true)
	}
	return e
}

func (c *Call) keepExplanation(e *Explanation, final bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.rest()
	m.made, m.final = e, final
}

// explainFailure is explained for an answer that is a failure and is about to end.
func (c *Call) explainFailure(a *Attempt) *Explanation {
	if c.explain == explainNever {
		return nil
	}
	r := c.result(a.Status, a.verdict.Outcome, a.Err)
	e := c.explanation(&r)
	c.keepExplanation(e, true)
	return e
}

// Explanation returns the record of the call, nil if there is none (yet). Where the answer is a failure, or the call was sampled, that
// is there as soon as Run has returned, and there may be another one when the answer has been read to the end.
func (c *Call) Explanation() *Explanation {
	if c.target == nil || c.explain == explainNever {
		return nil
	}
	c.mu.Lock()
	var made *Explanation
	if c.more != nil {
		made = c.more.made
	}
	var a *Attempt
	if c.over && made == nil && !c.closed.Load() && c.next.attempt >= 0 && c.next.kind == resilience.Finish {
		if a = c.slot(int(c.next.attempt)); !a.answer {
			a = nil
		}
	}
	c.mu.Unlock()
	if made != nil || a == nil || !c.explains(a.verdict.Outcome, a.Err) {
		return made
	}
	r := c.result(a.Status, a.verdict.Outcome, a.Err)
	e := c.explanation(&r)
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.rest(); m.made == nil { // else the call has ended meanwhile
		m.made = e
	}
	return c.more.made
}

// Explained reports whether there is an Explanation as soon as the attempt is the answer of its call: it is a failure, or the call
// was sampled. Others have none unless they break off. It is for transports, and cheaper than to ask Call.Explanation.
func (a *Attempt) Explained() bool {
	x := a.call.explain
	return x != explainNever && (x != explainFailures || a.verdict.Outcome != resilience.Success)
}

// Explanation returns that of the call.
func (a *Attempt) Explanation() *Explanation { return a.call.Explanation() }

// explanation makes the record of a call that is over.
func (c *Call) explanation(r *CallResult) *Explanation {
	now := c.mesh().now()
	c.lookBack(now)
	t := c.target
	e := &Explanation{
		CallInfo: c.described(), CallResult: *r, Flag: r.Flag(), Generation: t.service.generation,
		Match: c.match, Random: c.draw,
		Sampled: c.explain == explainAll, Budget: c.level(),
	}
	e.fail(r.Err)
	if c.explain == explainEnd {
		e.Reason, e.Flag = Fixed, FlagNoRoute
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.machine.Config.Deadline
	if d > 0 {
		e.Left = max(d-now, 0)
	}
	for i := range c.machine.Launched() {
		if a := c.slot(i); a.begun {
			t := &e.Tries[e.N]
			c.try(a, t, d)
			if a.answer && a.verdict.Outcome == resilience.Success && e.Outcome != resilience.Success && e.Status >= 0 { // it broke off
				t.Outcome, t.Error, t.Flag = e.Outcome, errorText(r.Err, maxTryText), c.flagOfLocked(a, e.Outcome, e.Status, r.Err)
			}
			e.N++
		}
	}
	var list []StageRefusal
	if c.details != nil {
		list = c.details.refusals
	}
	if c.more != nil && len(c.more.refusals) > 0 {
		list = append(list[:len(list):len(list)], c.more.refusals...)
	}
	e.NR = int8(copy(e.Refusals[:], list[max(len(list)-MaxExplainedRefusals, 0):]))
	return e
}

// fail notes why the call failed. The error itself may hold on to anything.
func (e *Explanation) fail(err error) {
	e.Err = nil
	if err == nil {
		return
	}
	if failure, ok := errors.AsType[*Error](err); ok {
		e.Reason = failure.Reason
		if failure.Err != nil {
			err = failure.Err
		}
	}
	e.Error = errorText(err, maxErrorText)
}

const (
	maxErrorText = 256 // Explanation.Error
	maxTryText   = 128 // Try.Error
)

// errorText returns the text of an error as valid UTF-8, cut to so many bytes.
func errorText(err error, most int) string {
	if err == nil {
		return ""
	}
	s := err.Error()
	if len(s) > most {
		s = s[:most]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > most { // what was replaced takes three bytes for one
		s = strings.TrimRight(strings.ToValidUTF8(s[:most], ""), "\uFFFD")
	}
	return strings.Clone(s) // not a part of a long one
}

// described returns what hooks are told of the call, and what its exchange knows if they are told nothing.
func (c *Call) described() CallInfo {
	if d := c.details; d != nil && !d.start.IsZero() {
		return c.info()
	}
	info := CallInfo{
		Service: c.target.service.name, Host: c.target.service.name, Route: c.target.route, Rule: c.target.at.rule, Backend: c.target.at.backend, Lane: c.Lane(),
		Mirror: c.target.copies, Criticality: c.criticality(), Start: c.mesh().at(c.start),
	}
	if x, ok := c.exchange.(Described); ok {
		var host string
		info.Protocol, host, info.Method = x.Describe()
		info.Host = pick(host, info.Host)
	}
	return info
}

// try fills in what became of an attempt. deadline is that of the call, 0 if there is none. c.mu is held.
func (c *Call) try(a *Attempt, t *Try, deadline time.Duration) {
	rare := a.rarity()
	r := a.result()
	if rare.record != nil {
		r = *rare.record
	}
	*t = Try{
		Addr: r.Addr, Cause: r.Cause, Start: r.Start, Latency: r.Duration, Outcome: r.Outcome, Status: r.Status, Network: r.Network,
		Running: r.Running && c.machine.Running(a.Number), Budget: -1,
	}
	if n := a.Node(); n != nil && r.Addr != "" {
		t.Zone = n.Endpoint().Zone
	}
	if a.judged {
		t.Retry, t.Unsent, t.After = a.verdict.Retry, a.verdict.Unsent, a.verdict.After
	}
	err := r.Err
	if rare.refused != nil {
		err = rare.refused
	}
	t.Error = errorText(err, maxTryText)
	if t.Outcome != resilience.Success || err != nil && rare.refused != nil {
		t.Flag = c.flagOfLocked(a, t.Outcome, t.Status, err)
	}
	if deadline > 0 {
		t.Left = max(deadline-a.start, 0)
	}
	if n := rare.noted; n != nil {
		t.Choice, t.Budget, t.Late = n.choice, n.budget, n.late
	}
}

// stillborn is the end of a call that has no target.
func (m *Mesh) stillborn(ctx context.Context, r *Request, o *CallOptions, err *Error) error {
	if o.Explain == Off {
		return err
	}
	now := time.Now()
	result := CallResult{Status: -1, Outcome: resilience.Failure, Detail: err.Detail, Err: err}
	e := &Explanation{
		CallInfo: CallInfo{
			Service: r.Service, Host: r.Service, Protocol: r.Protocol, Method: pick(r.Operation, r.Method), Instead: r.Instead, Rule: -1, Backend: -1,
			Criticality: o.Criticality.Or(resilience.Critical), Start: now,
		},
		CallResult: result, Generation: m.present.Load().number, Match: -1, Budget: -1, Flag: result.Flag(), Sampled: o.Explain == On,
	}
	e.fail(err)
	err.Explanation = e
	if h := m.cfg.Hooks.Explained; h != nil {
		h(ctx, e)
	}
	return err
}
