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
	FlagNoHealthy: "no endpoint to go to", FlagConnect: "could not connect", FlagOverflow: "refused by a limit or a breaker", FlagTimeout: "took longer than its policy allows",
	FlagReset: "reset by the endpoint", FlagTerminated: "the connection ended", FlagRetries: "retries used up", FlagNoRoute: "the route leads nowhere",
	FlagNoService: "no such service", FlagRateLimited: "rate limited", FlagDelayInjected: "delayed by a fault", FlagFaultInjected: "aborted by a fault",
	FlagCallerGone: "cancelled by the caller", FlagDeadline: "deadline of the caller", FlagProtocol: "broken protocol", FlagShed: "shed for overload",
	FlagLocalReset: "given up by the client", FlagStatus: "the endpoint failed",
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
		e.Tries[i].write(&b, i+1)
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
	case e.Reason != "":
		end = string(e.Reason)
	case e.Outcome != resilience.Success:
		end = "answered with a failure"
	}
	if e.Status >= 0 {
		end += fmt.Sprintf(", status %d", e.Status)
	}
	fmt.Fprintf(b, "%s: %s after %v, %s\n", what, end, round(e.Duration), counted(e.Attempts, "attempt"))
}

func (e *Explanation) why(b *strings.Builder) {
	if e.Flag != "" {
		fmt.Fprintf(b, "  flag %s: %s\n", e.Flag, flagWords[e.Flag])
	}
	if e.Error != "" {
		fmt.Fprintf(b, "  error %q\n", e.Error)
	}
	if failed := e.Outcome != resilience.Success; failed && e.Attempts > 0 && e.Detail != resilience.Answered {
		fmt.Fprintf(b, "  no further attempt: %s\n", e.Detail)
	} else if failed && e.Attempts > 0 && e.Protocol != protocolGRPC && e.Status >= 0 && e.Status < 400 {
		b.WriteString("  no further attempt: the answer had begun\n")
	} else if failed && e.Attempts > 0 {
		b.WriteString("  no further attempt: a failure of this kind is not repeated\n")
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
	fmt.Fprintf(b, "  %s", e.Criticality)
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
	if e.Random != 0 {
		fmt.Fprintf(b, " (drawn by %s)", hexadecimal(e.Random))
	}
	b.WriteString("\n")
}

func (r *StageRefusal) write(b *strings.Builder) {
	verb := "refused"
	if !r.Enforced {
		verb = "would have refused"
	}
	fmt.Fprintf(b, "  %s %s ", r.Stage, verb)
	if r.Attempt < 0 {
		b.WriteString("the call")
	} else {
		fmt.Fprintf(b, "attempt %d", r.Attempt+1)
	}
	if r.After > 0 {
		fmt.Fprintf(b, ": come again in %v", round(r.After))
	}
	b.WriteString("\n")
}

func (t *Try) write(b *strings.Builder, number int) {
	fmt.Fprintf(b, "  attempt %d (%s) at +%v", number, t.Cause, round(t.Start))
	if t.Addr != "" {
		b.WriteString(" to " + whereabouts(t.Addr, t.Zone))
	}
	switch {
	case t.Running:
		fmt.Fprintf(b, ": no answer in %v, given up", round(t.Latency))
	case t.Status >= 0:
		fmt.Fprintf(b, ": %s, status %d in %v", t.Outcome, t.Status, round(t.Latency))
	case t.Addr == "" && t.Error != "":
		b.WriteString(": not made")
	default:
		fmt.Fprintf(b, ": %s in %v", t.Outcome, round(t.Latency))
	}
	if t.Flag != "" {
		fmt.Fprintf(b, ", %s (%s)", t.Flag, flagWords[t.Flag])
	}
	b.WriteString("\n")
	if t.Error != "" {
		fmt.Fprintf(b, "    error %q\n", t.Error)
	}
	t.verdict(b)
	t.chosen(b)
}

func (t *Try) verdict(b *strings.Builder) {
	if t.Outcome == resilience.Success || t.Running {
		return
	}
	var said []string
	if t.Retry {
		said = append(said, "worth repeating")
	}
	if t.Unsent {
		said = append(said, "provably not begun by the endpoint")
	}
	switch {
	case t.After < 0:
		said = append(said, "the endpoint wants no retry")
	case t.After > resilience.AtOnce:
		said = append(said, fmt.Sprintf("the endpoint wants a pause of %v", round(t.After)))
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
	fmt.Fprintf(b, "    chosen from %s", counted(int(c.Nodes), "endpoint"))
	if t.Late {
		b.WriteString(" (as they were when it failed)")
	}
	var out []string
	for r, n := range c.Removed {
		if n > 0 && r != int(loadbalance.NotRemoved) {
			out = append(out, fmt.Sprintf("%d %s", n, removalWords[r]))
		}
	}
	if len(out) > 0 {
		fmt.Fprintf(b, ", without %s", strings.Join(out, ", "))
	}
	if c.Panicking {
		b.WriteString(", panicking: ejections and failed checks are ignored")
	}
	if c.Levels > 1 {
		fmt.Fprintf(b, ", level %d of %d", int(c.Level)+1, c.Levels)
	}
	fmt.Fprintf(b, ": %s\n", howSentences[c.How])
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
			fmt.Fprintf(b, ", %s", removalWords[n.Removed])
		}
		b.WriteString("\n")
	}
}

var howSentences = [...]string{
	loadbalance.HowNone: "none could be had", loadbalance.HowCompared: "the least score of those compared", loadbalance.HowDrawn: "drawn, or next in turn",
	loadbalance.HowHashed: "by the key of the call", loadbalance.HowBound: "the call is bound to it", loadbalance.HowProbe: "as the probe of an ejected endpoint",
	loadbalance.HowElsewhere: "where the first choice could take no attempt", loadbalance.HowLastResort: "although none was usable",
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
	}
	return d
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
