package zerohop

import (
	"context"
	"slices"
	"testing"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// headers is an exchange, as far as keys go.
type headers map[string]string

func (h headers) Key(s *HashSource) string { return h[s.Header] }

func TestHashIsThatOfTheFirstKeyFound(t *testing.T) {
	sources := []HashSource{{Header: "a"}, {Header: "b"}}
	for _, c := range []struct {
		given string
		x     any
		want  string
	}{
		{"", headers{"a": "1", "b": "2"}, "1"},
		{"", headers{"b": "2"}, "2"},
		{"0", headers{"a": "1"}, "0"},
		{"0", nil, "0"},
		{"", headers{"c": "3"}, ""},
		{"", headers{"a": ""}, ""},
		{"", struct{}{}, ""},
	} {
		var want uint64
		if c.want != "" {
			want = loadbalance.HashKey(c.want)
		}
		if got := hashOf(c.given, sources, c.x); got != want {
			t.Errorf("hash with key %q of %v = %x, want that of %q", c.given, c.x, got, c.want)
		}
	}
	x := any(headers{"b": "user"})
	if got := testing.AllocsPerRun(100, func() { hashOf("", sources, x) }); got != 0 {
		t.Errorf("to look for a key takes %v allocations, want 0", got)
	}
}

// Routes have keys of their own, and algorithms that do not hash get none: they would only deny endpoints their slow start.
func TestKeysGoToTheAlgorithmsThatLookAtThem(t *testing.T) {
	var got []loadbalance.Info
	see := func(nodes []*loadbalance.Node) loadbalance.Picker { return &seeing{nodes, &got} }
	m := open(t, Config{
		Resolver:  discovery.Static{"orders": endpoints(1), "users": endpoints(1), "plain": endpoints(1)},
		Balancers: map[string]loadbalance.Builder{"own": see},
		Spec: Spec{
			Services: map[string]Policy{"orders": {Balance: "own", Hash: []HashSource{{Header: "a"}}}, "users": {Balance: "own"}},
			Policies: map[string]Policy{"b": {Hash: []HashSource{{Header: "b"}}}},
			Routes:   []routing.Rule{{Match: routing.Match{Service: "orders", Path: routing.Path{Prefix: "/b"}}, Policy: "b"}},
		},
	})
	hash := loadbalance.HashKey
	for _, c := range []struct {
		service, path, given string
		want                 uint64
	}{
		{"orders", "/", "", hash("1")},
		{"orders", "/b", "", hash("2")},
		{"orders", "/b", "given", hash("given")},
		{"users", "/", "", 0},
		{"users", "/", "given", hash("given")},
	} {
		got = got[:0]
		ctx := t.Context()
		if c.given != "" {
			ctx = WithCall(ctx, CallOptions{HashKey: c.given})
		}
		x := &keyed{headers: headers{"a": "1", "b": "2"}}
		r := &Request{Request: routing.Request{Service: c.service, Path: c.path}}
		a, err := x.call.Run(ctx, m, r, x)
		if err != nil {
			t.Fatal(err)
		}
		a.End(a.Verdict().Outcome, nil)
		if len(got) != 1 || got[0].Hash != c.want {
			t.Errorf("%s%s with key %q: picks = %+v, want hash %x", c.service, c.path, c.given, got, c.want)
		}
	}
	x := &keyed{headers: headers{"a": "1"}}
	a, err := x.call.Run(WithCall(t.Context(), CallOptions{HashKey: "given"}), m, &Request{Request: routing.Request{Service: "plain"}}, x)
	if err != nil {
		t.Fatal(err)
	}
	a.End(a.Verdict().Outcome, nil)
	if x.call.hash != 0 {
		t.Error("a call has a hash although nobody looks at it")
	}
}

// Transports that pick for themselves find the same keys.
func TestSubscribersFindKeys(t *testing.T) {
	m := open(t, Config{Resolver: orders(1), Spec: Spec{Services: map[string]Policy{
		"orders": {Balance: "maglev", Hash: []HashSource{{Header: "a"}}},
		"users":  {},
	}}})
	for service, want := range map[string][]uint64{
		"orders": {loadbalance.HashKey("1"), loadbalance.HashKey("given"), 0},
		"users":  {0, 0, 0},
	} {
		var eps Endpoints
		stop, err := m.Subscribe(service, func(e Endpoints) { eps = e })
		if err != nil {
			t.Fatal(err)
		}
		stop()
		given := WithCall(t.Context(), CallOptions{HashKey: "given"})
		got := []uint64{eps.Hash(t.Context(), headers{"a": "1"}), eps.Hash(given, headers{"a": "1"}), eps.Hash(t.Context(), headers{})}
		if !slices.Equal(got, want) {
			t.Errorf("hashes of %s = %x, want %x", service, got, want)
		}
	}
}

type seeing struct {
	nodes []*loadbalance.Node
	seen  *[]loadbalance.Info
}

func (s *seeing) Pick(in loadbalance.Info) *loadbalance.Node {
	*s.seen = append(*s.seen, in)
	return s.nodes[0]
}

// keyed is a call that succeeds.
type keyed struct {
	headers
	call Call
}

func (x *keyed) Attempt(context.Context, *Attempt) resilience.Verdict {
	return resilience.Verdict{Outcome: resilience.Success}
}

func (x *keyed) Release(*Attempt) {}
