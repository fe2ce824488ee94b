package zerohop

import (
	"fmt"
	"strings"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// flagWords says what a flag means.
var flagWords = map[Flag]string{
	FlagNoHealthy: "no endpoint can take it", FlagConnect: "could not connect", FlagOverflow: "refused here, by a limit or a breaker", FlagTimeout: "took longer than its policy allows",
	FlagReset: "reset by the endpoint", FlagTerminated: "the connection ended", FlagRetries: "all attempts failed", FlagNoRoute: "the route leads nowhere",
	FlagNoService: "no such service", FlagRateLimited: "refused here, by a rate limit", FlagDelayInjected: "delayed by a fault of the route",
	FlagFaultInjected: "aborted by a fault of the route",
	FlagCallerGone:    "cancelled by the caller", FlagDeadline: "the caller's deadline passed", FlagProtocol: "broken protocol", FlagShed: "the endpoint has too much to do",
	FlagLocalReset: "given up here", FlagStatus: "the endpoint failed",
}

const throttledHere = "refused here, as the service refuses most calls"

// flagWords says what the flag of the call means.
func (e *Explanation) flagWords() string {
	switch {
	case e.Flag == FlagRetries && e.Detail == resilience.OverBudget:
		return "the retry budget is empty"
	case e.Flag == FlagShed && e.Reason == Throttled:
		return throttledHere
	case e.Flag == FlagStatus && e.Attempts == 0 && e.Detail == resilience.Fixed:
		return "the route answers with a failure, and asks no endpoint"
	case e.Flag == FlagNoRoute && e.Reason == Fixed:
		return "the route answers by itself, which Do has no use for"
	}
	return flagWords[e.Flag]
}

// flagWords says what the flag of an attempt means.
func (t *Try) flagWords() string {
	switch {
	case t.Flag == FlagShed && t.Addr == "":
		return throttledHere
	case t.Flag == FlagNoHealthy && t.Cause == resilience.Backup:
		return "no other endpoint"
	}
	return flagWords[t.Flag]
}

// detailWords say why there was no further attempt.
var detailWords = map[resilience.Reason]string{
	resilience.Answered: "a failure of this kind is not repeated", resilience.Exhausted: "as many as allowed were made", resilience.Unsafe: "it is not safe to repeat the call",
	resilience.OverBudget: "the retry budget is empty", resilience.OutOfTime: "not enough time is left", resilience.Unroutable: "no endpoint is left",
	resilience.Declined: "the endpoint asked for none", resilience.Nested: "the call is made for a request that is a retry itself",
	resilience.Unrepeatable: "what was sent cannot be sent again", resilience.Refused: "refused here", resilience.Uncritical: "sheddable calls are not repeated",
	resilience.Paused: "an operator has paused retries",
}

// String returns the record as a text of several lines for people: how the call ended and why, why it was not repeated, and of each
// attempt how its endpoint was chosen, what had removed the others, and what became of it. What others have a hand in is quoted.
func (e *Explanation) String() string {
	if e == nil {
		return "not explained"
	}
	var b strings.Builder
	e.head(&b)
	e.why(&b)
	e.routed(&b)
	for _, r := range e.Refusals[:e.NR] {
		r.write(&b)
	}
	for i := range e.Tries[:e.N] {
		e.try(&b, i)
	}
	return b.String()
}

func (e *Explanation) head(b *strings.Builder) {
	what := visible(e.Service)
	if e.Method != "" {
		what = visible(e.Method) + " " + what
	}
	if e.Host != "" && e.Host != e.Service {
		what += " (called as " + visible(e.Host) + ")"
	}
	end := "answered"
	switch {
	case e.Reason == Ended && e.Flag == FlagTimeout:
		end = "timed out"
	case e.Reason == Ended && e.Flag == FlagDeadline:
		end = "out of time"
	case e.Reason == Ended && e.Flag == FlagCallerGone:
		end = "cancelled"
	case e.Reason != "":
		end = string(e.Reason)
	case e.brokeOff():
		end = "answer broke off"
	case e.Outcome != resilience.Success && e.Attempts == 0:
		end = "answered by the route"
	case e.Outcome != resilience.Success:
		end = "failed"
	}
	if e.Status >= 0 {
		end += ", " + e.status(e.Status)
	}
	fmt.Fprintf(b, "%s: %s after %v, %s\n", what, end, round(e.Duration), counted(e.Attempts, "attempt"))
}

// brokeOff reports whether the answer was none of a failure when it began.
func (e *Explanation) brokeOff() bool {
	if e.Outcome == resilience.Success || e.Status < 0 || e.N == 0 {
		return false
	}
	return e.Status < 400 && e.Protocol != protocolGRPC
}

// status names a status or a code.
func (e *Explanation) status(n int) string {
	if e.Protocol != protocolGRPC {
		return fmt.Sprintf("status %d", n)
	}
	if n < len(codeWords) {
		return fmt.Sprintf("code %d (%s)", n, codeWords[n])
	}
	return fmt.Sprintf("code %d", n)
}

// codeWords are the codes of gRPC.
var codeWords = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// unrepeated says why there was no further attempt, empty if that needs no words.
func (e *Explanation) unrepeated() string {
	switch {
	case e.Outcome == resilience.Success || e.Attempts == 0 || e.Reason == Ended:
		return ""
	case e.Detail == resilience.Answered && e.brokeOff():
		return "the answer had begun"
	case e.Detail == resilience.OutOfTime && e.N > 0 && e.Tries[e.N-1].After > resilience.AtOnce:
		return "the endpoint wants a longer pause than the call can wait"
	}
	return pick(detailWords[e.Detail], e.Detail.String())
}

func (e *Explanation) why(b *strings.Builder) {
	if e.Flag != "" {
		fmt.Fprintf(b, "  flag %s: %s\n", e.Flag, e.flagWords())
	}
	if e.Error != "" {
		fmt.Fprintf(b, "  error %s\n", quoted(e.Error, maxErrorText))
	}
	if why := e.unrepeated(); why != "" {
		fmt.Fprintf(b, "  no further attempt: %s\n", why)
	}
	if e.Delayed > 0 {
		fmt.Fprintf(b, "  held up by a fault of the route for %v\n", round(e.Delayed))
	}
	if e.Instead != "" {
		fmt.Fprintf(b, "  made as the fallback for %s\n", visible(e.Instead))
	}
	if e.Mirror {
		b.WriteString("  a copy of another call\n")
	}
	fmt.Fprintf(b, "  criticality %s", e.Criticality)
	if e.Lane != "" {
		fmt.Fprintf(b, ", lane %s", visible(e.Lane))
	}
	if e.Budget >= 0 {
		fmt.Fprintf(b, ", retry budget at %.0f %%", e.Budget*100)
	}
	if e.Left > 0 {
		fmt.Fprintf(b, ", %v left until the deadline", round(e.Left))
	}
	b.WriteString("\n")
}

func (e *Explanation) routed(b *strings.Builder) {
	fmt.Fprintf(b, "  spec %d", e.Generation)
	if e.Rule < 0 {
		b.WriteString(", no route\n")
		return
	}
	fmt.Fprintf(b, ", rule %d", e.Rule)
	if e.Route != "" {
		fmt.Fprintf(b, " %q", e.Route)
	}
	if e.Match > 0 {
		fmt.Fprintf(b, " by its match %d", e.Match)
	}
	if e.Backend >= 0 {
		fmt.Fprintf(b, ", backend %d", e.Backend)
	}
	if e.Random != 0 && e.Backend >= 0 {
		fmt.Fprintf(b, " (drawn by %s)", hexadecimal(e.Random))
	}
	b.WriteString("\n")
}

func (r *StageRefusal) write(b *strings.Builder) {
	verb := "refused"
	if !r.Enforced {
		verb = "would have refused"
	}
	fmt.Fprintf(b, "  %s %s ", stageWords[r.Stage], verb)
	if r.Attempt < 0 {
		b.WriteString("the call")
	} else {
		fmt.Fprintf(b, "attempt %d", r.Attempt+1)
	}
	if r.After > 0 {
		fmt.Fprintf(b, ", come again in %v", round(r.After))
	}
	b.WriteString("\n")
}

var stageWords = map[Stage]string{
	StageRateLimit: "the rate limit", StageLimit: "the limit of calls in flight", StageThrottle: "throttling", StageEndpointLimit: "the limit of endpoints",
	StageBreaker: "the breaker of the service",
}

// try says what became of attempt i.
func (e *Explanation) try(b *strings.Builder, i int) {
	t := &e.Tries[i]
	fmt.Fprintf(b, "  attempt %d", i+1)
	if t.Cause != resilience.First {
		fmt.Fprintf(b, " (%s)", t.Cause)
	}
	fmt.Fprintf(b, " at +%v", round(t.Start))
	if t.Addr != "" {
		b.WriteString(" to " + whereabouts(t.Addr, t.Zone))
	}
	if t.Network != NetworkTCP {
		b.WriteString(" over " + t.Network.String())
	}
	silent := t.Flag == FlagTimeout || t.Flag == FlagDeadline || t.Flag == FlagCallerGone || t.Flag == FlagLocalReset
	switch {
	case t.Addr == "" && t.Error != "" && e.Tries[i].Choice.How == loadbalance.HowNone && t.Status < 0:
		b.WriteString(": not made")
	case t.Running || silent && t.Outcome != resilience.Success:
		fmt.Fprintf(b, ": no answer in %v", round(t.Latency))
	case t.Status >= 0:
		fmt.Fprintf(b, ": %s, %s after %v", outcomeWords[t.Outcome], e.status(t.Status), round(t.Latency))
	default:
		fmt.Fprintf(b, ": %s after %v", outcomeWords[t.Outcome], round(t.Latency))
	}
	if t.Flag != "" {
		fmt.Fprintf(b, ", %s (%s)", t.Flag, t.flagWords())
	}
	b.WriteString("\n")
	if t.Error != "" && (i != e.last() || !strings.HasPrefix(e.Error, t.Error)) { // else it is above
		fmt.Fprintf(b, "    error %s\n", quoted(t.Error, maxTryText))
	}
	t.verdict(b)
	t.chosen(b)
}

// last returns which attempt was the last one made, or the last one if none was.
func (e *Explanation) last() int {
	for i := int(e.N) - 1; i >= 0; i-- {
		if e.Tries[i].Addr != "" {
			return i
		}
	}
	return int(e.N) - 1
}

// outcomeWords say how an attempt ended. Neutral says nothing about the endpoint.
var outcomeWords = map[resilience.Outcome]string{
	resilience.Success: "answered", resilience.Failure: "failed", resilience.Overload: "refused", resilience.Neutral: "ended",
}

// quoted quotes a text that was cut to so many bytes if it is as long as that.
func quoted(s string, most int) string {
	if len(s) > most-3 { // a rune that does not fit is left out
		return fmt.Sprintf("%q...", s)
	}
	return fmt.Sprintf("%q", s)
}

func (t *Try) verdict(b *strings.Builder) {
	if t.Outcome == resilience.Success || t.Running {
		return
	}
	var said []string
	if t.Retry {
		said = append(said, "a retry may help")
	}
	if t.Unsent && t.Addr != "" {
		said = append(said, "the endpoint has provably not begun")
	}
	switch {
	case t.After < 0:
		said = append(said, "the endpoint wants no retry")
	case t.After > resilience.AtOnce:
		said = append(said, fmt.Sprintf("the endpoint wants a pause of at least %v", round(t.After)))
	}
	if len(said) > 0 {
		fmt.Fprintf(b, "    %s\n", strings.Join(said, ", "))
	}
}

// chosen says how the endpoint was picked.
func (t *Try) chosen(b *strings.Builder) {
	c := &t.Choice
	if c.Nodes == 0 && c.N == 0 {
		return
	}
	verb := "picked from"
	if c.How == loadbalance.HowNone {
		verb = "none could be picked of"
	}
	fmt.Fprintf(b, "    %s %s", verb, counted(int(c.Nodes), "endpoint"))
	var out []string
	for r, n := range c.Removed {
		if n > 0 && r != int(loadbalance.NotRemoved) {
			out = append(out, fmt.Sprintf("%d %s", n, removalPhrases[r]))
		}
	}
	if len(out) > 0 {
		fmt.Fprintf(b, " (%s)", strings.Join(out, ", "))
	}
	if c.Levels > 1 {
		fmt.Fprintf(b, ", group %d of %d by priority and zone", int(c.Level)+1, c.Levels)
	}
	switch how := howSentences[c.How]; {
	case c.How == loadbalance.HowDrawn && c.Nodes == 1:
		b.WriteString(": the only one")
	case c.How == loadbalance.HowDrawn && c.Removed[loadbalance.NotRemoved] == 1 && !t.Late:
		b.WriteString(": the only one left")
	case how != "":
		b.WriteString(": " + how)
	}
	if t.Late && (c.Nodes > 1 || c.How == loadbalance.HowNone) {
		b.WriteString(" (as seen after it failed)")
	}
	b.WriteString("\n")
	if c.Panicking {
		b.WriteString("    so few are in service that ejections and failed checks do not count\n")
	}
	for _, n := range c.Compared[:c.N] {
		mark := " "
		if n.Picked {
			mark = ">"
		}
		fmt.Fprintf(b, "    %s %s", mark, whereabouts(n.Addr, n.Zone))
		if n.Score != 0 {
			fmt.Fprintf(b, " score %.4g", n.Score)
		}
		fmt.Fprintf(b, ", %d in flight", n.InFlight)
		if n.Cost > 0 {
			fmt.Fprintf(b, ", takes %v", round(n.Cost))
		}
		if n.Weight > 1 {
			fmt.Fprintf(b, ", weight %d", n.Weight)
		}
		if n.Removed != loadbalance.NotRemoved {
			fmt.Fprintf(b, ", %s", removalPhrases[n.Removed])
		}
		b.WriteString("\n")
	}
}

var howSentences = [...]string{
	loadbalance.HowNone: "", loadbalance.HowCompared: "the least score of those compared", loadbalance.HowDrawn: "at random or next in turn",
	loadbalance.HowHashed: "by the key of the call", loadbalance.HowBound: "the call is bound to it", loadbalance.HowProbe: "as the probe of an ejected endpoint",
	loadbalance.HowElsewhere: "as the first choice could take no attempt", loadbalance.HowLastResort: "as a last resort",
}

// removalPhrases follow a number of endpoints, or one.
var removalPhrases = [loadbalance.Removals]string{
	loadbalance.NotRemoved: "usable", loadbalance.LeftOut: "left to other clients", loadbalance.NotSelected: "without the metadata or the lane asked for",
	loadbalance.NotConnected: "not connected", loadbalance.NotHealthy: "not healthy by their source", loadbalance.OtherLevel: "of another priority or zone",
	loadbalance.OutEjected: "ejected", loadbalance.OutFailing: "failing their checks", loadbalance.OutByHand: "taken out by an operator",
	loadbalance.BreakerRejects: "with an open breaker", loadbalance.AtLimit: "at their limit", loadbalance.Tried: "tried before",
	loadbalance.UnderPenalty: "just failed or asked for a pause", loadbalance.Busiest: "with too much in flight", loadbalance.WarmingUp: "warming up",
}

// whereabouts names an endpoint.
func whereabouts(addr, zone string) string {
	if zone == "" {
		return visible(addr)
	}
	return visible(addr) + " in " + visible(zone)
}

// visible returns a name that may come from anybody, quoted if it is not one that people would give.
func visible(s string) string {
	if s == "" || len(s) > 200 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
		return fmt.Sprintf("%.200q", s)
	}
	return s
}

// round leaves of a duration what people read.
func round(d time.Duration) time.Duration {
	switch {
	case d > time.Second:
		return d.Round(time.Millisecond)
	case d > time.Millisecond:
		return d.Round(time.Microsecond)
	case d > 10*time.Microsecond:
		return d.Round(100 * time.Nanosecond)
	}
	return d
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
