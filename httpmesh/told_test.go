package httpmesh

import (
	"context"
	"net/http"
	"testing"

	"github.com/zerohop/zerohop"
)

// watching are hooks that change nothing of a call, as those of telemetry are where there are no spans.
func watching() zerohop.Hooks {
	return zerohop.Hooks{
		CallStart:    func(ctx context.Context, _ zerohop.CallInfo) context.Context { return ctx },
		CallDone:     func(context.Context, zerohop.CallInfo, zerohop.CallResult) {},
		AttemptStart: func(ctx context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo) context.Context { return ctx },
		AttemptDone:  func(context.Context, zerohop.CallInfo, zerohop.AttemptInfo, zerohop.AttemptResult) {},
		Propagate:    func(context.Context, func(key, value string)) {},
	}
}

func TestHooksThatOnlyWatchCostNoAllocation(t *testing.T) {
	plain := allocations(t, &http.Client{Transport: NewTransport(open(t, zerohop.Config{Resolver: fakes(3)}), nop{})})
	told := allocations(t, &http.Client{Transport: NewTransport(open(t, zerohop.Config{Resolver: fakes(3), Hooks: watching()}), nop{})})
	if told > plain {
		t.Errorf("a call makes %v allocations with hooks, %v without", told, plain)
	}
}

// anyContext cannot be compared.
type anyContext struct {
	context.Context
	_ []int
}

func TestHooksMayReturnAnyContext(t *testing.T) {
	h := watching()
	h.CallStart = func(ctx context.Context, _ zerohop.CallInfo) context.Context { return anyContext{Context: ctx} }
	c := &http.Client{Transport: NewTransport(open(t, zerohop.Config{Resolver: fakes(3), Hooks: h}), nop{})}
	do(t, c, request(t.Context(), t, http.MethodGet, "http://orders/", nil))
}

// A hook that sets headers of one attempt, late or never again, must not change those of others.
func TestHeadersOfHooksStayWithTheirAttempt(t *testing.T) {
	h := watching()
	var kept []func(key, value string)
	h.Propagate = func(_ context.Context, set func(key, value string)) {
		if len(kept) == 0 {
			set("Traceparent", "first")
		}
		kept = append(kept, set)
	}
	var seen []http.Header
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		kept[0]("Traceparent", "late")
		seen = append(seen, req.Header)
		return nop{}.RoundTrip(req)
	})
	c := &http.Client{Transport: NewTransport(open(t, zerohop.Config{Resolver: fakes(3), Hooks: h}), base)}
	req := request(t.Context(), t, http.MethodGet, "http://orders/", nil)
	for range 3 {
		do(t, c, req)
	}
	if got := seen[0].Get("Traceparent"); got != "first" {
		t.Errorf("the first attempt has %q, want what was set in time", got)
	}
	if seen[1].Get("Traceparent") != "" || seen[2].Get("Traceparent") != "" || req.Header.Get("Traceparent") != "" {
		t.Errorf("others have headers of the first attempt: %v", seen)
	}
}
