package zerohop

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"unsafe"
	"weak"
)

// ExplainPolicy says which calls have an Explanation.
type ExplainPolicy struct {
	// Mode switches explanations. The built-in default is On: failed calls are explained. CallOptions.Explain comes before.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Sample is the share of all other calls that are explained, from 0 to 1, drawn at random. 0 inherits; the built-in default is
	// none, and so is less than 0.
	Sample float64 `json:"sample,omitempty" yaml:"sample,omitempty"`
}

func (e ExplainPolicy) over(wide ExplainPolicy) ExplainPolicy {
	return ExplainPolicy{Mode: pick(e.Mode, wide.Mode), Sample: pick(e.Sample, wide.Sample)}
}

func (e ExplainPolicy) validate(path string) error {
	errs := []error{e.Mode.switching(path + ".mode")}
	if !(e.Sample <= 1) {
		errs = append(errs, fmt.Errorf("%s.sample: must be at most 1, got %v", path, e.Sample))
	}
	return errors.Join(errs...)
}

// explaining says which ends of a call are explained.
type explaining uint8

const (
	explainFailures explaining = iota
	explainNever
	explainAll // and every pick is recorded
	explainEnd // of a call by Do whose route has a fixed response: it fails, though that is a success elsewhere
)

// level returns what the policy has of calls that say nothing themselves, and how many of 1<<53 are explained in any case.
func (e ExplainPolicy) level() (explaining, uint64) {
	if e.Mode == Off {
		return explainNever, 0
	}
	return explainFailures, uint64(max(e.Sample, 0) * (1 << 53))
}

// explains returns which ends of a call with the options are explained. A random word is drawn only where there is a share.
func (t *target) explains(o *CallOptions) explaining {
	switch {
	case o.Explain == On:
		return explainAll
	case o.Explain == Off:
		return explainNever
	case t.sample > 0 && t.service.mesh.cfg.Rand()>>11 < t.sample:
		return explainAll
	}
	return t.explain
}

// Explain returns the record of how a call came to its end, nil if there is none. v is an error that a call or a stream of grpcmesh
// returned, or one that wraps it; an *http.Response of httpmesh; a CallRecord; or a *Report, whose last call that is explained it is.
// Calls that failed are explained unless Policy.Explain or CallOptions.Explain switch that off, others if they were sampled or if
// CallOptions.Explain asks for it.
//
// A response whose status is a failure is explained from the start, and one that breaks off once Read has said so: then what
// Explain returns has that in it, too. Whoever wraps Response.Body, as http.Client does if it has a Timeout, hides the second
// kind from all but a Report and Hooks.Explained.
func Explain(v any) *Explanation {
	switch v := v.(type) {
	case nil:
		return nil
	case *Explanation:
		return v
	case *Report:
		return v.explanation()
	case CallRecord:
		return v.Explanation
	case *CallRecord:
		if v == nil {
			return nil
		}
		return v.Explanation
	case interface{ Explanation() *Explanation }:
		return v.Explanation()
	case error:
		if e, ok := errors.AsType[*Error](v); ok {
			if e == nil {
				return nil
			}
			return e.Explanation
		}
		if x := (interface{ Explanation() *Explanation })(nil); errors.As(v, &x) {
			return x.Explanation()
		}
		return nil
	}
	return explainResponse(v)
}

// explanation returns that of the last call that has one.
func (r *Report) explanation() *Explanation {
	if r == nil {
		return nil
	}
	calls := r.Calls()
	for i := len(calls) - 1; i >= 0; i-- {
		if e := calls[i].Explanation; e != nil {
			return e
		}
	}
	return nil
}

// explainResponse is Explain for an *http.Response, of which this package does not know: who calls over gRPC alone need not pay for
// net/http.
func explainResponse(v any) *Explanation {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return nil
	}
	if p.Elem().Kind() == reflect.Struct {
		if f := p.Elem().FieldByName("Body"); f.IsValid() && f.CanInterface() {
			if body, ok := f.Interface().(interface{ Explanation() *Explanation }); ok {
				if e := body.Explanation(); e != nil {
					return e
				}
			}
		}
	}
	if x, ok := attached.Load(p.Pointer()); ok && x.(*attachment).to(v) {
		return x.(*attachment).explanation
	}
	return nil
}

// attached are the explanations of answers, by their addresses.
var attached sync.Map

type attachment struct {
	to          func(v any) bool
	explanation *Explanation
}

// Attach has Explain return e for an answer as long as that lives, which e does not prolong, whatever is wrapped around what it
// consists of. It is for transports.
func Attach[T any](answer *T, e *Explanation) {
	p := weak.Make(answer)
	x := &attachment{explanation: e, to: func(v any) bool {
		same, ok := v.(*T)
		return ok && p.Value() == same // else another one has its place in memory
	}}
	at := uintptr(unsafe.Pointer(answer))
	attached.Store(at, x)
	runtime.AddCleanup(answer, func(x *attachment) { attached.CompareAndDelete(at, x) }, x)
}
