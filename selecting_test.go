package zerohop

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// versions are endpoints with the given versions, "" for none.
func versions(list ...string) discovery.Static {
	eps := endpoints(len(list))
	for i, v := range list {
		if v != "" {
			eps[i].Meta = map[string]string{"version": v, "index": fmt.Sprint(i)}
		}
	}
	return discovery.Static{"orders": eps}
}

// answering makes calls with a header until it is clear who answers them, and returns the versions of those.
func answering(ctx context.Context, t *testing.T, m *Mesh, h header) (map[string]bool, error) {
	t.Helper()
	seen := map[string]bool{}
	for range 60 {
		x := &exchange{attempt: func(_ context.Context, a *Attempt) resilience.Verdict {
			seen[a.Node().Endpoint().Meta["version"]] = true
			return resilience.Verdict{Outcome: resilience.Success}
		}}
		a, err := x.run(ctx, m, Request{Request: routing.Request{Header: h}})
		if err != nil {
			return nil, err
		}
		a.End(resilience.Success, nil)
	}
	return seen, nil
}

func TestCallsGoToEndpointsWithTheirMetadata(t *testing.T) {
	v := func(s string) map[string]string { return map[string]string{"version": s} }
	byHeader := map[string]string{"version": "X-Version"}
	for _, c := range []struct {
		name   string
		policy Select
		call   map[string]string
		h      header
		want   []string // versions; nil means ErrNoMatch
	}{
		{"no selection", Select{}, nil, nil, []string{"1", "2", "3", ""}},
		{"match", Select{Match: v("2")}, nil, nil, []string{"2"}},
		{"no match", Select{Match: v("9")}, nil, nil, nil},
		{"no match, none", Select{Match: v("9"), Fallback: FallbackNone}, nil, nil, nil},
		{"no match, any", Select{Match: v("9"), Fallback: FallbackAny}, nil, nil, []string{"1", "2", "3", ""}},
		{"no match, default", Select{Match: v("9"), Fallback: FallbackDefault, Default: v("1")}, nil, nil, []string{"1"}},
		{"no match, no default", Select{Match: v("9"), Fallback: FallbackDefault, Default: v("8")}, nil, nil, nil},
		{"header", Select{Headers: byHeader}, nil, header{"X-Version": "3"}, []string{"3"}},
		{"no header", Select{Headers: byHeader}, nil, nil, []string{"1", "2", "3", ""}},
		{"no header, match", Select{Headers: byHeader, Match: v("1")}, nil, nil, []string{"1"}},
		{"header before match", Select{Headers: byHeader, Match: v("1")}, nil, header{"X-Version": "2"}, []string{"2"}},
		{"hostile header", Select{Headers: byHeader, Match: v("1")}, nil, header{"X-Version": "\x00../2"}, nil},
		{"hostile header, any", Select{Headers: byHeader, Fallback: FallbackAny}, nil, header{"X-Version": "x"}, []string{"1", "2", "3", ""}},
		{"two keys", Select{Match: map[string]string{"version": "2", "index": "1"}}, nil, nil, []string{"2"}},
		{"two keys of different endpoints", Select{Match: map[string]string{"version": "2", "index": "0"}}, nil, nil, nil},
		{"off", Select{Mode: Off, Match: v("2")}, nil, nil, []string{"1", "2", "3", ""}},
		{"call", Select{}, v("3"), nil, []string{"3"}},
		{"call before match", Select{Match: v("2")}, v("3"), nil, []string{"3"}},
		{"call and match", Select{Match: v("2")}, map[string]string{"index": "1"}, nil, []string{"2"}},
		{"call and match of different endpoints", Select{Match: v("2")}, map[string]string{"index": "0"}, nil, nil},
		{"call and header", Select{Headers: byHeader}, map[string]string{"index": "2"}, header{"X-Version": "3"}, []string{"3"}},
		{"call, while off", Select{Mode: Off, Match: v("2")}, v("3"), nil, []string{"3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := open(t, Config{Resolver: versions("1", "2", "3", ""), Spec: Spec{Defaults: Policy{Select: c.policy}}})
				got, err := answering(WithCall(t.Context(), CallOptions{Select: c.call}), t, m, c.h)
				if c.want == nil {
					if !errors.Is(err, loadbalance.ErrNoMatch) {
						t.Fatalf("answers by %v, %v, want ErrNoMatch", got, err)
					}
					return
				}
				if err != nil || len(got) != len(c.want) {
					t.Fatalf("answers by versions %v, %v, want %v", got, err, c.want)
				}
				for _, w := range c.want {
					if !got[w] {
						t.Errorf("answers by versions %v, want %v", got, c.want)
					}
				}
			})
		})
	}
}

// What a route asks for takes the place of what its service does.
func TestRoutesSelectPartsOfAService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		canary := Policy{Select: Select{Match: map[string]string{"version": "2"}}}
		spec := Spec{
			Services: map[string]Policy{"orders": {Select: Select{Match: map[string]string{"version": "1"}}}},
			Policies: map[string]Policy{"canary": canary},
			Routes: []routing.Rule{{
				Name: "canary", Policy: "canary",
				Match: routing.Match{Headers: []routing.Field{{Name: "X-Canary", Value: "yes"}}},
			}},
		}
		m := open(t, Config{Resolver: versions("1", "1", "2"), Spec: spec})
		canary.Select.Match["version"] = "3" // the mesh has a copy
		for v, h := range map[string]header{"1": {}, "2": {"X-Canary": "yes"}} {
			got, err := answering(t.Context(), t, m, h)
			if err != nil || len(got) != 1 || !got[v] {
				t.Errorf("calls with %v are answered by versions %v, %v, want %s", h, got, err, v)
			}
		}
	})
}

// Only the endpoints that match are tried.
func TestRetriesStayInTheSelection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: versions("1", "2", "1", "2"), Spec: idempotent})
		tried := map[string]int{}
		ctx := WithCall(t.Context(), CallOptions{Select: map[string]string{"version": "2"}})
		_, err := Do(ctx, m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
			tried[n.Addr()]++
			return 0, errors.New("no")
		})
		failure(t, err)
		if len(tried) != 2 || tried["10.0.0.2:80"]+tried["10.0.0.4:80"] != 3 {
			t.Errorf("tried %v, want both endpoints of version 2 and nothing else", tried)
		}
	})
}

func TestCallsWithoutSelectionDoNotPayForIt(t *testing.T) {
	m := open(t, Config{Resolver: versions("1", "2", "3")})
	if err := ping(t.Context(), m, "orders"); err != nil {
		t.Fatal(err)
	}
	s := m.known()["orders"]
	if got := testing.AllocsPerRun(100, func() {
		if s.direct.guide(nil, &CallOptions{}, "") != nil {
			t.Error("a call without selection has a guide")
		}
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}
