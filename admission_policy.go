package zerohop

import (
	"errors"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// AdmissionPolicy says which requests a server refuses. It is plain data; the zero value observes by the defaults.
type AdmissionPolicy struct {
	// Mode is On, Off or Observe. Empty means Observe: what would be refused is counted and told, and worked on, so that a
	// policy can be seen on what the server really gets before it refuses anything.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Deadline switches that requests are refused whose caller has less time left than the median of what requests for the
	// same operation take: when they come, and when they would get a place after they have waited. Off, they are refused
	// only if no time is left at all. Empty means On.
	Deadline Switch `json:"deadline,omitempty" yaml:"deadline,omitempty"`
	// Algorithm is how many requests may be worked on at once: "fixed" Max of them, or what "gradient" or "aimd" find out;
	// see resilience.LimitConfig. Empty means "gradient".
	Algorithm string `json:"algorithm,omitempty" yaml:"algorithm,omitempty"`
	// Max is the largest limit. 0 means 1000. Sheddable requests get at most 75 % of the places, SheddablePlus ones 90 %.
	Max int `json:"max,omitempty" yaml:"max,omitempty"`
	// Min is the least that an adaptive limit falls to. 0 means 3.
	Min int `json:"min,omitempty" yaml:"min,omitempty"`
	// Initial is where an adaptive limit starts. 0 means 20.
	Initial int `json:"initial,omitempty" yaml:"initial,omitempty"`
	// Timeout is how long a request may take before "aimd" lowers the limit. 0 means 5 s.
	Timeout time.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
	// Queue is how many requests may wait for a place. 0 means 100, which absorbs bursts of a service of a few thousand
	// requests a second; less than 0 means none.
	Queue int `json:"queue,omitempty" yaml:"queue,omitempty"`
	// MaxWait is how long a request may wait. 0 means 1 s, less than 0 as long as its deadline allows.
	MaxWait time.Duration `json:"maxWait,omitempty" yaml:"maxWait,omitempty"`
	// Patience is how long requests may wait without a break before the newest go first. 0 means 100 ms, less than 0 that
	// the oldest always do.
	Patience time.Duration `json:"patience,omitempty" yaml:"patience,omitempty"`
}

// defaultAdmissionQueue is what a service that takes 20 ms and has 20 places works off in 100 ms.
const defaultAdmissionQueue = 100

// Validate reports every field that makes no sense.
func (p AdmissionPolicy) Validate() error {
	return errors.Join(p.Mode.refusing("mode"), p.Deadline.switching("deadline"), p.config().Validate())
}

func (p AdmissionPolicy) withDefaults() AdmissionPolicy {
	p.Mode = pick(p.Mode, Observe)
	p.Deadline = pick(p.Deadline, On)
	p.Algorithm = pick(p.Algorithm, "gradient")
	p.Max = pick(p.Max, 1000)
	p.Queue = pick(p.Queue, defaultAdmissionQueue)
	return p
}

func (p AdmissionPolicy) config() resilience.LimitConfig {
	return resilience.LimitConfig{
		Algorithm: p.Algorithm, Max: p.Max, Min: p.Min, Initial: p.Initial, Timeout: p.Timeout,
		Queue: max(p.Queue, 0), MaxWait: p.MaxWait, Patience: p.Patience, Observe: p.Mode == Observe,
	}
}
