package main

import (
	"fmt"
	"time"
)

// picture is what a terminal shows during a phase.
func (s *show) picture(n int, left time.Duration) []string {
	title := fmt.Sprintf("phase %d of %d, %d s left", n+1, len(story), max(left+time.Second-1, 0)/time.Second)
	lines := []string{s.paint(bold, "zerohop quickstart") + ": " + title, s.note(n), ""}
	lines = append(lines, s.table(s.results[n].stats(), s.labels(), s.styles())...)
	if s.done > 0 {
		lines = append(append(lines, ""), s.phases()...)
	}
	return lines
}

// note says what happens in a phase.
func (s *show) note(n int) string {
	if story[n].fault == beKilled && s.noticed > 0 {
		return fmt.Sprintf("Backend d was killed. The registry listed it for another %.1f s.", s.noticed.Seconds())
	}
	return story[n].note
}

// labels and styles tell how the backends are.
func (s *show) labels() (all [backends]string) {
	for i, b := range s.backends {
		all[i] = "  " + names[i]
		if b.state != beHealthy {
			all[i] += " " + b.state
		}
	}
	return all
}

func (s *show) styles() (all [backends]style) {
	for i, b := range s.backends {
		all[i] = map[string]style{beSlow: warn, beFailing: bad, beKilled: bad}[b.state]
	}
	return all
}

// phases sums up those that are over.
func (s *show) phases() []string {
	var titles []string
	var all [][columns]stats
	for n := range s.done {
		titles = append(titles, story[n].name)
		all = append(all, s.results[n].stats())
	}
	return s.summary(titles, all)
}

// end says what there was to see.
func (s *show) end() {
	if s.done < len(story) {
		s.print(fmt.Sprintf("Interrupted in phase %d of %d.", s.done+1, len(story)))
	}
	if s.done == 0 {
		return
	}
	var calls, lostWithout, lostWith int
	var failure error
	for n := range s.done {
		for i, t := range s.results[n].stats() {
			if i%2 == 0 {
				calls += t.calls
				lostWithout += t.failed
				continue
			}
			lostWith += t.failed
			if failure == nil {
				failure = t.failure
			}
		}
	}
	s.print(s.phases()...)
	s.print("",
		"Latencies are of calls that succeeded within their deadline of 1 s. Attempts",
		"are counted by the backends: a call that found nobody there counts as none.",
		"",
		fmt.Sprintf("Of %d calls each, the plain clients lost %d and zerohop %d.", calls, lostWithout, lostWith))
	if failure != nil {
		s.print("The first one lost with zerohop: " + failure.Error())
	}
	if late := s.late(); late >= busy {
		s.print(fmt.Sprintf("This machine was busy: calls began up to %s late, which counts as latency.", latency(late)))
	}
	s.print("Read next: README.md, then examples/http and examples/grpc, which are short.")
}

// busy is how late a call may begin before the figures say more about this machine than about its backends.
const busy = 50 * time.Millisecond

// late is how long after it was due a call began, at worst.
func (s *show) late() (worst time.Duration) {
	for n := range s.results {
		for _, t := range s.results[n].stats() {
			worst = max(worst, t.late)
		}
	}
	return worst
}
