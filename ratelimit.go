package zerohop

import (
	"errors"
	"fmt"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// RateLimit bounds how many calls this process begins in a second; see resilience.RateLimit. Retries and backups are not
// counted: the budget is for them. A route that sets any of it has a limit of its own, for each service that it leads
// to, and its calls do not count against that of the service.
type RateLimit struct {
	// Mode switches the limit. The built-in default is Off. Observe only tells Hooks.Refused of the calls that the limit would
	// refuse.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Rate is how many calls may begin in a second, between 0.001 and 1,000,000. It must be set where the limit is on.
	Rate float64 `json:"rate,omitempty" yaml:"rate,omitempty"`
	// Burst is how many may begin at once after a pause. 0 inherits; the built-in default is what Rate allows in a second, at
	// least 1.
	Burst int `json:"burst,omitempty" yaml:"burst,omitempty"`
	// MaxWait is how long a call may wait for its turn. Calls take their turns in the order in which they come; one whose
	// deadline would pass before is refused at once. 0 inherits; the built-in default is that none waits, and so is less
	// than 0.
	MaxWait time.Duration `json:"maxWait,omitempty" yaml:"maxWait,omitempty"`
}

func (l RateLimit) over(wide RateLimit) RateLimit {
	return RateLimit{
		Mode: pick(l.Mode, wide.Mode), Rate: pick(l.Rate, wide.Rate), Burst: pick(l.Burst, wide.Burst),
		MaxWait: pick(l.MaxWait, wide.MaxWait),
	}
}

func (l RateLimit) config() resilience.RateLimitConfig {
	return resilience.RateLimitConfig{Rate: l.Rate, Burst: l.Burst}
}

// validate reports every mistake. A rate that is not set is inherited; see lacking.
func (l RateLimit) validate(path string) error {
	errs := []error{l.Mode.refusing(path + ".mode")}
	c := l.config()
	if c.Rate == 0 {
		c.Rate = minRate
	}
	return errors.Join(append(errs, under(path, c.Validate()))...)
}

// minRate is the least rate that there is.
const minRate = 0.001

// lacking reports a limit that is on without a rate, after all that it could inherit.
func (l RateLimit) lacking(path string) error {
	if l.Rate != 0 || l.Mode != On && l.Mode != Observe {
		return nil
	}
	return under(path, resilience.RateLimitConfig{}.Validate())
}

// under puts a path before each of the mistakes that a Validate reports.
func under(path string, err error) error {
	if err == nil {
		return nil
	}
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	for i := range list {
		list[i] = fmt.Errorf("%s.%w", path, list[i])
	}
	return errors.Join(list...)
}

// newRateLimit returns the limit of a policy, nil if there is none.
func newRateLimit(p *RateLimit) *resilience.RateLimit {
	if !p.Mode.decides() {
		return nil
	}
	return resilience.NewRateLimit(p.config())
}

// limitRate asks for a turn of the call. It returns how long that is to wait for.
func (c *Call) limitRate(now time.Duration) (wait time.Duration, err error) {
	limit := c.target.rate
	if limit == nil {
		return 0, nil
	}
	p := &c.target.policy.RateLimit
	most := max(p.MaxWait, 0)
	if d := c.deadline(now); d > 0 {
		most = min(most, max(d-now-time.Millisecond, 0)) // less is left than a call takes
	}
	wait, ok := limit.Reserve(now, most)
	if ok {
		if p.Mode == Observe {
			wait = 0
		}
		return wait, nil
	}
	r := Refusal{Stage: StageRateLimit, Attempt: -1, Enforced: p.Mode == On, After: wait, Err: resilience.ErrRateLimited}
	return 0, c.refuse(&r)
}
