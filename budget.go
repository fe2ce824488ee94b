package zerohop

import (
	"errors"
	"fmt"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// Budget limits extra attempts; see resilience.Budget for how, and resilience.BudgetConfig for the fields.
type Budget struct {
	// Mode switches the limit. The built-in default is On; Off lets every call use all its attempts.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Kind is what pays for extra attempts: "success", "grpc", "ratio" or "concurrent". Empty inherits; the built-in
	// default is "success". The fields below are not inherited by a budget of another kind, each of which has defaults of
	// its own.
	Kind string `json:"kind,omitempty" yaml:"kind,omitempty"`
	// Tokens is the size of the bucket of "success" and "grpc". The default is 10. Half of it is how many calls can be
	// repeated at once by a client with little traffic: set it to more than twice the calls in flight on an endpoint if all
	// of them are to survive its end.
	Tokens float64 `json:"tokens,omitempty" yaml:"tokens,omitempty"`
	// Ratio is what a success pays in, or a call ("ratio"), or the share of the attempts under way ("concurrent"). The
	// default is 0.1 for "success" and "grpc", and 0.2 for the others.
	Ratio float64 `json:"ratio,omitempty" yaml:"ratio,omitempty"`
	// Floor is what is granted in any case: extra attempts per second for "ratio", at a time for "concurrent". The defaults
	// are 10 and 3. Less than 0 means none.
	Floor float64 `json:"floor,omitempty" yaml:"floor,omitempty"`
	// Window is over what time "ratio" counts. The default is 10 s.
	Window time.Duration `json:"window,omitempty" yaml:"window,omitempty"`
}

func (b Budget) over(wide Budget) Budget {
	kind := pick(b.Kind, wide.Kind)
	if pick(kind, resilience.BudgetSuccess) != pick(wide.Kind, resilience.BudgetSuccess) {
		wide = Budget{Mode: wide.Mode}
	}
	return Budget{
		Mode:   pick(b.Mode, wide.Mode),
		Kind:   kind,
		Tokens: pick(b.Tokens, wide.Tokens),
		Ratio:  pick(b.Ratio, wide.Ratio),
		Floor:  pick(b.Floor, wide.Floor),
		Window: pick(b.Window, wide.Window),
	}
}

func (b Budget) config() resilience.BudgetConfig {
	return resilience.BudgetConfig{Kind: b.Kind, Tokens: b.Tokens, Ratio: b.Ratio, Floor: b.Floor, Window: b.Window}
}

func (b Budget) validate(path string) error {
	return within(path, b.config().Validate())
}

// within puts a path before each of the errors that were joined.
func within(path string, err error) error {
	if err == nil {
		return nil
	}
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	var errs []error
	for _, err := range list {
		errs = append(errs, fmt.Errorf("%s.%w", path, err))
	}
	return errors.Join(errs...)
}
