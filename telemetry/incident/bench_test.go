package incident

import (
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// BenchmarkHooks measures the hooks of a call with one attempt.
func BenchmarkHooks(b *testing.B) {
	failure := zerohop.CallResult{Duration: time.Millisecond, Status: -1, Err: errRefused, Outcome: resilience.Failure}
	for _, c := range []struct {
		name    string
		result  zerohop.CallResult
		attempt zerohop.AttemptResult
	}{
		{"success", zerohop.CallResult{Duration: time.Millisecond, Status: 200}, zerohop.AttemptResult{Status: 200}},
		{"failure", failure, zerohop.AttemptResult{Status: -1, Err: errRefused, Outcome: resilience.Failure}},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := open(b, Config{SLOs: []SLO{{Service: "orders", Objective: .999, Latency: time.Second}}})
			h := r.Hooks()
			x := &zerohop.Explanation{CallResult: c.result, Flag: zerohop.FlagConnect, N: 3}
			ctx, info := b.Context(), zerohop.CallInfo{Service: "orders", Route: "v1", Start: time.Now()}
			x.CallInfo = info
			b.ReportAllocs()
			for b.Loop() {
				h.AttemptDone(ctx, info, zerohop.AttemptInfo{}, c.attempt)
				if c.result.Err != nil {
					h.Explained(ctx, x)
				}
				h.CallDone(ctx, info, c.result)
			}
		})
	}
	b.Run("kept", func(b *testing.B) { // what the few failures cost that are kept
		r := open(b, Config{})
		x := &zerohop.Explanation{CallResult: failure, Flag: zerohop.FlagConnect, N: 3}
		b.ReportAllocs()
		for b.Loop() {
			r.keep(r.traffic, &Entry{Kind: KindFailed, Service: "orders", Call: r.call(x)})
		}
	})
}

func BenchmarkDump(b *testing.B) {
	r := open(b, Config{})
	for range 40_000 {
		r.keep(r.traffic, &Entry{At: r.now(), Kind: KindAttempt, Service: "orders", Addr: "10.0.0.1:80", Cause: string(FailedRefused), Text: errRefused.Error()})
	}
	for b.Loop() {
		if err := r.Dump(discard{}); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
