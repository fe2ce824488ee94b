package zerohop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// laned are endpoints in the given lanes, "" for none, with their number as the version.
func laned(lanes ...string) discovery.Static {
	eps := endpoints(len(lanes))
	for i, lane := range lanes {
		eps[i].Meta = map[string]string{"version": fmt.Sprint(i)}
		if lane != "" {
			eps[i].Meta["lane"] = lane
		}
	}
	return discovery.Static{"orders": eps}
}

func TestCallsGoToTheEndpointsOfTheirLane(t *testing.T) {
	on := Lane{Mode: On}
	for _, tt := range []struct {
		name   string
		policy Policy
		lane   string
		want   string // versions; none means ErrNoMatch
	}{
		{"unmarked", Policy{Lane: on}, "", "0 1 2"},
		{"marked", Policy{Lane: on}, "x", "3 4"},
		{"stable by name", Policy{Lane: on}, "stable", "0 1 2"},
		{"a lane that the service does not have", Policy{Lane: on}, "z", "0 1 2"},
		{"and nowhere else to go", Policy{Lane: Lane{Mode: On, Fallback: FallbackNone}}, "z", ""},
		{"an invalid lane", Policy{Lane: on}, "a b", "0 1 2"},
		{"off", Policy{}, "x", "0 1 2 3 4 5"},
		{"another key", Policy{Lane: Lane{Mode: On, Key: "version"}}, "2", "2"},
		{"another stable value", Policy{Lane: Lane{Mode: On, Stable: "y"}}, "", "0 1 5"},
		{"where stable is a lane", Policy{Lane: Lane{Mode: On, Stable: "y"}}, "stable", "2"},
		{"a selection in the lane", Policy{Lane: on, Select: Select{Match: map[string]string{"version": "4"}}}, "x", "4"},
		{"a selection outside of the lane", Policy{Lane: on, Select: Select{Match: map[string]string{"version": "1"}}}, "x", "1"},
		{"a selection in a lane, unmarked", Policy{Lane: on, Select: Select{Match: map[string]string{"version": "4"}}}, "", ""},
		{"or any, unmarked", Policy{Lane: on, Select: Select{Match: map[string]string{"version": "4"}, Fallback: FallbackAny}}, "", "0 1 2"},
		{"or any, kept in the lane", Policy{Lane: Lane{Mode: On, Fallback: FallbackNone}, Select: Select{Match: map[string]string{"version": "1"}, Fallback: FallbackAny}}, "x", "3 4"},
		{"a session", Policy{Lane: on, Sticky: Sticky{Header: "X-Session"}}, "x", "3 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := open(t, Config{Resolver: laned("", "", "stable", "x", "x", "y"), Spec: Spec{Defaults: tt.policy}})
				got := versionsOf(WithLane(t.Context(), tt.lane), t, m)
				if got != tt.want {
					t.Errorf("calls go to %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// versionsOf returns the versions that answer calls, empty if none matches.
func versionsOf(ctx context.Context, t *testing.T, m *Mesh) string {
	t.Helper()
	seen, err := answering(ctx, t, m, header{"X-Session": formatSession(loadbalance.NodeKey("10.0.0.1:80"))})
	if err != nil && !errors.Is(err, loadbalance.ErrNoMatch) {
		t.Fatal(err)
	}
	var list []string
	for v := range seen {
		list = append(list, v)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestWhoSaysWhichLaneACallIsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hook string
		m := open(t, Config{Resolver: laned("", "w", "i", "h", "b"), Spec: Spec{Defaults: Policy{Lane: Lane{Mode: On}}}, Hooks: Hooks{
			Lane: func(context.Context) string { return hook },
		}})
		in := func(ctx context.Context) context.Context { return WithInbound(ctx, &Inbound{Lane: "i"}) }
		ignoring := func(ctx context.Context) context.Context {
			return WithInbound(ctx, &Inbound{Lane: "i", IgnoreLane: true})
		}
		marked := func(lane string) func(context.Context) context.Context {
			return func(ctx context.Context) context.Context { return WithLane(ctx, lane) }
		}
		none := func(ctx context.Context) context.Context { return ctx }
		for _, tt := range []struct {
			name    string
			ctx     []func(context.Context) context.Context
			hook    string
			baggage string
			want    string
			of      string // LaneOf
		}{
			{"nobody", nil, "", "", "0", ""},
			{"baggage", nil, "", "a=1,zerohop-lane=b", "4", ""},
			{"baggage that is invalid", nil, "", "zerohop-lane=a%20b", "0", ""},
			{"the hook before baggage", nil, "h", "zerohop-lane=b", "3", ""},
			{"a hook that makes no sense", nil, "\n", "zerohop-lane=b", "4", ""},
			{"the request before both", []func(context.Context) context.Context{in}, "h", "zerohop-lane=b", "2", "i"},
			{"WithLane before all", []func(context.Context) context.Context{marked("w"), in}, "h", "zerohop-lane=b", "1", "w"},
			{"in either order", []func(context.Context) context.Context{in, marked("w")}, "h", "zerohop-lane=b", "1", "w"},
			{"none, on purpose", []func(context.Context) context.Context{in, marked("")}, "h", "zerohop-lane=b", "0", ""},
			{"an edge that ignores lanes", []func(context.Context) context.Context{ignoring}, "h", "zerohop-lane=b", "0", ""},
			{"an edge that chooses", []func(context.Context) context.Context{ignoring, marked("w")}, "h", "zerohop-lane=b", "1", "w"},
			{"a request in no lane", []func(context.Context) context.Context{func(ctx context.Context) context.Context {
				return WithInbound(ctx, &Inbound{})
			}}, "", "zerohop-lane=b", "4", ""},
			{"the last word", []func(context.Context) context.Context{marked("h"), none, marked("w")}, "", "", "1", "w"},
		} {
			ctx := t.Context()
			for _, f := range tt.ctx {
				ctx = f(ctx)
			}
			hook = tt.hook
			if got := LaneOf(ctx); got != tt.of {
				t.Errorf("%s: LaneOf() = %q, want %q", tt.name, got, tt.of)
			}
			got, err := answering(ctx, t, m, header{"Baggage": tt.baggage})
			if err != nil || len(got) != 1 || !got[tt.want] {
				t.Errorf("%s: calls go to %v, %v, want %s", tt.name, got, err, tt.want)
			}
		}
	})
}

// Routes see the lane, and have lanes of their own.
func TestRoutesKnowTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: laned("", "x"), Spec: Spec{
			Policies: map[string]Policy{"lanes": {Lane: Lane{Mode: On}}},
			Routes:   []routing.Rule{{Match: routing.Match{Headers: []routing.Field{{Name: "X-Route", Present: true}}}, Policy: "lanes"}},
		}})
		for route, want := range map[string]int{"": 2, "yes": 1} {
			got, err := answering(WithLane(t.Context(), "x"), t, m, header{"X-Route": route})
			if err != nil || len(got) != want || !got["1"] {
				t.Errorf("calls with route %q go to %v, %v, want %d of them", route, got, err, want)
			}
		}
	})
}

// What fails in the lane is tried on the stable version, unless the lane has another endpoint, or the policy is against that.
func TestRetriesLeaveTheLaneLast(t *testing.T) {
	for _, tt := range []struct {
		name     string
		fallback Fallback
		lanes    []string
		want     string // lanes of the attempts
	}{
		{"one endpoint", FallbackStable, []string{"", "", "x"}, "x - -"},
		{"two endpoints", FallbackStable, []string{"", "x", "x"}, "x x -"},
		{"kept in the lane", FallbackNone, []string{"", "", "x"}, "x x x"},
		{"no stable endpoint", FallbackStable, []string{"x"}, "x x x"},
		{"none but of another lane", FallbackStable, []string{"x", "y"}, "x x x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				spec := idempotent
				spec.Defaults.Lane = Lane{Mode: On, Fallback: tt.fallback}
				m := open(t, Config{Resolver: laned(tt.lanes...), Spec: spec})
				var tried []string
				_, err := Do(WithLane(t.Context(), "x"), m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
					lane := n.Endpoint().Meta["lane"]
					if lane == "" {
						lane = "-"
					}
					tried = append(tried, lane)
					return 0, errors.New("no")
				})
				failure(t, err)
				if got := strings.Join(tried, " "); got != tt.want {
					t.Errorf("attempts went to %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// A branch that dies costs no call: at first its calls are repeated, then they go elsewhere at once, until it is back.
func TestCallsLeaveALaneThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: laned("", "", "", "x"), Spec: Spec{Defaults: Policy{Lane: Lane{Mode: On}}}})
		ctx := WithLane(t.Context(), "x")
		down, attempts := true, map[string]int{}
		call := func() string {
			v, err := Do(ctx, m, "orders", func(_ context.Context, n *loadbalance.Node) (string, error) {
				lane := n.Endpoint().Meta["lane"]
				attempts[lane]++
				if lane == "x" && down {
					return "", &net.OpError{Op: "dial", Err: errors.New("refused")}
				}
				return lane, nil
			})
			if err != nil {
				t.Fatalf("a call failed: %v", err)
			}
			return v
		}
		for range 1000 {
			if got := call(); got != "" {
				t.Fatalf("answer of lane %q while it is down", got)
			}
			time.Sleep(time.Millisecond)
		}
		if got := attempts["x"]; got < 5 || got > 10 {
			t.Errorf("%d attempts on the dead endpoint, want those that eject it", got)
		}
		down = false
		time.Sleep(time.Minute)
		call() // the probe
		attempts = map[string]int{}
		for range 100 {
			call()
		}
		if attempts["x"] != 100 || attempts[""] != 0 {
			t.Errorf("attempts by lane %v, want all 100 in the lane that is back", attempts)
		}
	})
}

// That a branch is slow is no reason to have the stable version answer.
func TestBackupsStayInTheLane(t *testing.T) {
	for name, lanes := range map[string][]string{"alone": {"", "", "x"}, "of two": {"", "x", "x"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				spec := idempotent
				spec.Defaults.Lane = Lane{Mode: On}
				m := open(t, Config{Resolver: laned(lanes...), Spec: spec})
				attempts := make(chan string, 5)
				got, err := Do(WithLane(t.Context(), "x"), m, "orders", func(_ context.Context, n *loadbalance.Node) (string, error) {
					attempts <- n.Addr()
					time.Sleep(10 * time.Second)
					return n.Endpoint().Meta["lane"], nil
				})
				if err != nil || got != "x" || len(attempts) != len(lanes)-slices.Index(lanes, "x") {
					t.Errorf("lane %q answers, %v, after %d attempts, want x after one on each of its endpoints", got, err, len(attempts))
				}
			})
		})
	}
}

// A session or a node that a call names holds inside of the lane; one that is strict goes nowhere else.
func TestNodesAndLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: laned("", "x", "x"), Spec: Spec{Defaults: Policy{Lane: Lane{Mode: On}}}})
		for _, tt := range []struct {
			lane, node string
			strict     Switch
			want       string
			err        error
		}{
			{"x", "10.0.0.3:80", Off, "2", nil},
			{"x", "10.0.0.3:80", On, "2", nil},
			{"x", "10.0.0.1:80", Off, "1 2", nil},
			{"x", "10.0.0.1:80", On, "", loadbalance.ErrNoNode},
			{"", "10.0.0.2:80", Off, "0", nil},
			{"", "10.0.0.2:80", On, "", loadbalance.ErrNoNode},
			{"z", "10.0.0.1:80", On, "0", nil},
		} {
			ctx := WithCall(WithLane(t.Context(), tt.lane), CallOptions{Node: tt.node, Strict: tt.strict})
			got, err := answering(ctx, t, m, nil)
			ok := errors.Is(err, tt.err) && len(got) == len(strings.Fields(tt.want))
			for _, v := range strings.Fields(tt.want) {
				ok = ok && got[v]
			}
			if !ok {
				t.Errorf("calls in lane %q for %s, strict %s, go to %v, %v, want %q, %v", tt.lane, tt.node, tt.strict, got, err, tt.want, tt.err)
			}
		}
	})
}

func TestBaggageOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		off := Policy{Propagate: Off}
		m := open(t, Config{Resolver: discovery.Static{"orders": endpoints(1), "quiet": endpoints(1)}, Spec: Spec{Services: map[string]Policy{"quiet": off}}})
		ignoring := WithInbound(t.Context(), &Inbound{IgnoreLane: true})
		for _, tt := range []struct {
			name    string
			ctx     context.Context
			service string
			values  []string
			want    string
			ok      bool
		}{
			{"no lane", t.Context(), "", []string{"a=1,zerohop-lane=y"}, "", false},
			{"alone", WithLane(t.Context(), "x"), "", nil, "zerohop-lane=x", true},
			{"encoded", WithLane(t.Context(), "5%"), "", nil, "zerohop-lane=5%25", true},
			{"with others", WithLane(t.Context(), "x"), "", []string{"a=1", "b=2"}, "a=1,b=2,zerohop-lane=x", true},
			{"another lane", WithLane(t.Context(), "x"), "", []string{"zerohop-lane=y,b=2"}, "b=2,zerohop-lane=x", true},
			{"already there", WithLane(t.Context(), "x"), "", []string{"zerohop-lane=x;p=1,b=2"}, "", false},
			{"by the request", WithInbound(t.Context(), &Inbound{Lane: "x"}), "", nil, "zerohop-lane=x", true},
			{"out of the lane", WithLane(t.Context(), ""), "", []string{"a=1,zerohop-lane=y"}, "a=1", true},
			{"out of no lane", WithLane(t.Context(), ""), "", []string{"a=1"}, "", false},
			{"ignored", ignoring, "", []string{"zerohop-lane=y"}, "", true},
			{"no room", WithLane(t.Context(), "x"), "", []string{strings.Repeat("a", 8190) + "=1"}, strings.Repeat("a", 8190) + "=1,zerohop-lane=x", false},
			{"not told", WithLane(t.Context(), "x"), "quiet", nil, "", false},
		} {
			var got string
			var ok bool
			x := &exchange{}
			x.attempt = func(context.Context, *Attempt) resilience.Verdict {
				if ok = x.Call.Tags(); ok {
					got, ok = x.Call.Baggage(tt.values)
				}
				return resilience.Verdict{Outcome: resilience.Success}
			}
			a, err := x.Run(tt.ctx, m, &Request{Request: routing.Request{Service: pick(tt.service, "orders")}}, x)
			if err != nil {
				t.Fatal(err)
			}
			a.End(resilience.Success, nil)
			if got != tt.want || ok != tt.ok {
				t.Errorf("%s: Baggage(%.60q) = %.60q, %v, want %.60q, %v", tt.name, tt.values, got, ok, tt.want, tt.ok)
			}
		}
	})
}

func TestLaneOfAPolicyIsValidated(t *testing.T) {
	err := Spec{Defaults: Policy{Lane: Lane{
		Mode: "yes", Key: strings.Repeat("k", 257), Stable: "no token", Fallback: FallbackAny,
	}}}.Validate()
	for _, field := range []string{"mode", "key", "stable", "fallback"} {
		if err == nil || !strings.Contains(err.Error(), "defaults.lane."+field+": ") {
			t.Errorf("Validate() = %v, want a mistake in defaults.lane.%s", err, field)
		}
	}
	for name, want := range map[string]bool{
		"feature-x": true, "": false, strings.Repeat("a", MaxLane): true, strings.Repeat("a", MaxLane+1): false, "a b": false, "é": false, "a,b": false, "a/b": false,
	} {
		if got := LaneOf(WithLane(t.Context(), name)) == name && name != ""; got != want {
			t.Errorf("%q is a lane: %v, want %v", name, got, want)
		}
	}
}

func TestUnmarkedCallsDoNotPayForLanes(t *testing.T) {
	for name, r := range map[string]discovery.Static{"without lanes": laned("", "", ""), "beside lanes": laned("", "", "", "x")} {
		cost := func(p Policy) float64 {
			m := open(t, Config{Resolver: r, Spec: Spec{Defaults: p}})
			if err := ping(t.Context(), m, "orders"); err != nil {
				t.Fatal(err)
			}
			return testing.AllocsPerRun(200, func() { _ = ping(t.Context(), m, "orders") })
		}
		if off, on := cost(Policy{}), cost(Policy{Lane: Lane{Mode: On}}); on != off {
			t.Errorf("%s: a call makes %v allocations with lanes, %v without", name, on, off)
		}
	}
}
