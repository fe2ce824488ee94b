package zerohop

import (
	"errors"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Throttle refuses attempts that the service would most likely refuse, because it refused so many before; see
// resilience.Throttle. Calls of each criticality are judged by their own kind. An attempt was refused if it ended as
// resilience.Overload, or failed in a way worth repeating: it was not connected, took too long, or was answered 502, 503,
// 504 or UNAVAILABLE. Other errors of the service (500, INTERNAL) have cost it as much as answers do.
type Throttle struct {
	// Mode switches the stage. The built-in default is Off. Observe only tells Hooks.Refused of what it would refuse.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// K is how many attempts are sent for each that the service accepts. 0 inherits; the built-in default is 2.
	K float64 `json:"k,omitempty" yaml:"k,omitempty"`
	// Window is the time over which attempts count. 0 inherits; the built-in default is 2 min.
	Window time.Duration `json:"window,omitempty" yaml:"window,omitempty"`
	// Aggression, if above 1, makes it refuse more where the service refuses little. 0 inherits; the built-in default is 1.
	Aggression float64 `json:"aggression,omitempty" yaml:"aggression,omitempty"`
	// MaxRejection is the largest share that it refuses. 0 inherits; the built-in default is 1.
	MaxRejection float64 `json:"maxRejection,omitempty" yaml:"maxRejection,omitempty"`
}

func (t Throttle) over(wide Throttle) Throttle {
	return Throttle{
		Mode: pick(t.Mode, wide.Mode), K: pick(t.K, wide.K), Window: pick(t.Window, wide.Window),
		Aggression: pick(t.Aggression, wide.Aggression), MaxRejection: pick(t.MaxRejection, wide.MaxRejection),
	}
}

func (t Throttle) config() resilience.ThrottleConfig {
	return resilience.ThrottleConfig{K: t.K, Window: t.Window, Aggression: t.Aggression, MaxRejection: t.MaxRejection}
}

// validate reports every mistake.
func (t Throttle) validate(path string) error {
	return errors.Join(t.Mode.refusing(path+".mode"), under(path, t.config().Validate()))
}

// throttles are those of a service, by criticality.
type throttles [resilience.CriticalPlus + 1]*resilience.Throttle

// newThrottles returns those of a policy, nil if there are none.
func newThrottles(p *Throttle) *throttles {
	if !p.Mode.decides() {
		return nil
	}
	var list throttles
	for i := range list {
		list[i] = resilience.NewThrottle(p.config())
	}
	return &list
}

// throttled asks whether the attempt may be made, and returns why not.
func (c *Call) throttled(now time.Duration, a *Attempt, list *throttles) error {
	t := list[c.criticality()]
	if !t.Allow(now, c.mesh().cfg.Rand()) {
		r := Refusal{
			Stage: StageThrottle, Attempt: a.Number, Enforced: c.target.service.policy.Throttle.Mode == On,
			After: max(t.Next()-now, 1), Err: resilience.ErrThrottled,
		}
		if err := c.refuse(&r); err != nil {
			return err
		}
		t.Insist()
	}
	a.owing = true
	return nil
}

// accepted tells the throttle whether the service accepted the attempt.
func (a *Attempt) accepted(now time.Duration, answer bool) {
	if !a.owing {
		return
	}
	o := a.verdict.Outcome
	if o == resilience.Failure && answer && a.Status >= 0 && !a.verdict.Retry {
		o = resilience.Success
	}
	a.settle(now, o)
}

// settle tells the throttle, if it is yet to be told, how the attempt ended.
func (a *Attempt) settle(now time.Duration, o resilience.Outcome) {
	if a.owing {
		a.owing = false
		a.call.target.service.throttle[a.call.criticality()].Done(now, o)
	}
}
