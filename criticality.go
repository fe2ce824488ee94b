package zerohop

import (
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// criticality returns the level of a call under the given policy: what its options say, else that of the request it is made
// for, else that of the policy.
func (s *sayings) criticality(p *Policy) resilience.Criticality {
	level := min(s.options.Criticality, resilience.CriticalPlus)
	if in := s.inbound; in != nil {
		level = level.Or(in.Criticality)
	}
	return level.Or(p.Criticality).Or(resilience.Critical)
}

// criticality returns the level of the call, which is never Unspecified once its target is known.
func (c *Call) criticality() resilience.Criticality { return c.machine.Config.Criticality }

// Criticality returns how bad it is if the call of the attempt fails. It is never Unspecified.
func (a *Attempt) Criticality() resilience.Criticality { return a.call.criticality() }

// Timeout returns the bound of the attempt, 0 if there is none. See Policy.AttemptTimeout.
func (a *Attempt) Timeout() time.Duration { return a.call.timeout() }
