package zerohop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/healthcheck"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// update puts a spec in force.
func update(t *testing.T, m *Mesh, spec Spec) Change {
	t.Helper()
	c, err := m.Update(spec)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestUpdateChangesWhereCallsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []UpdateEvent
		m := open(t, Config{
			Resolver: discovery.Static{"a": endpoints(1), "b": endpoints(2)},
			Hooks:    Hooks{Update: func(ev UpdateEvent) { events = append(events, ev) }},
		})
		to := func() string {
			target, _, err := m.target(&routing.Request{Service: "Shop"}, new(uint64))
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(target.service.name, " ", target.policy.Retry.Attempts)
		}
		spec := Spec{
			Routes:   []routing.Rule{{Name: "shop", Match: routing.Match{Service: "shop"}, Backends: []routing.Backend{{Service: "A"}}, Policy: "p"}},
			Policies: map[string]Policy{"p": {Retry: Retry{Attempts: 2}}},
		}
		got := []string{to()}
		if c := update(t, m, spec); c.Generation != 2 {
			t.Errorf("generation %d, want 2", c.Generation)
		}
		got = append(got, to())
		next := spec.clone()
		next.Routes[0].Backends[0].Service = "b"
		next.Policies["p"] = Policy{Retry: Retry{Attempts: 4}}
		change := update(t, m, next)
		got = append(got, to())
		want := []FieldChange{{"policies.p.retry.attempts", "2", "4"}, {"routes.shop.backends[0].service", "A", "b"}}
		if diff := cmp.Diff(want, change.Fields); diff != "" {
			t.Errorf("fields (-want +got):\n%s", diff)
		}
		if c := update(t, m, next); len(c.Fields) != 0 || c.Generation != 3 {
			t.Errorf("the same spec: %+v, want no change of generation 3", c)
		}
		bad := next.clone()
		bad.Routes[0].Policy, bad.Defaults.Retry.Attempts = "none", 9
		_, err := m.Update(bad)
		if err == nil || !strings.Contains(err.Error(), `routes[0].policy: there is no policy "none"`) || !strings.Contains(err.Error(), "defaults.retry.attempts: ") {
			t.Errorf("Update() = %v, want both mistakes", err)
		}
		got = append(got, to())
		if want := []string{"Shop 3", "a 2", "b 4", "b 4"}; !slices.Equal(got, want) && !slices.Equal(got, []string{"shop 3", "a 2", "b 4", "b 4"}) {
			t.Errorf("targets %q, want %q", got, want)
		}
		if now, generation := m.Spec(); generation != 3 || len(Diff(now, next)) != 0 {
			t.Errorf("Spec() = %+v, %d, want the last good one, 3", now, generation)
		}
		if len(events) != 3 || events[0].Generation != 2 || events[1].Change.Generation != 3 || events[2].Err == nil || events[2].Generation != 3 {
			t.Errorf("events %+v, want two changes and a refusal", events)
		}
	})
}

func TestCheckChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, Config{Resolver: orders(1), Spec: Spec{Services: map[string]Policy{"orders": {}}}, Hooks: Hooks{Update: func(UpdateEvent) { t.Error("told") }}})
		c, err := m.Check(Spec{Services: map[string]Policy{"other": {}}})
		want := Change{2, []FieldChange{{"services.orders", "{}", ""}, {"services.other", "", "{}"}}, nil}
		if diff := cmp.Diff(want, c); diff != "" || err != nil {
			t.Errorf("Check() = %v (-want +got):\n%s", err, diff)
		}
		if _, err := m.Check(Spec{Policies: map[string]Policy{"": {}}}); err == nil {
			t.Error("Check() = nil for a policy without a name")
		}
		if _, generation := m.Spec(); generation != 1 || m.known()["other"] != nil {
			t.Errorf("generation %d, want 1", generation)
		}
	})
}

// stateful is a spec in which all that can be learned is, by the policies of the given services.
func stateful() Spec {
	p := Policy{
		ServiceBreaker: Breaker{Mode: On}, Breaker: Breaker{Mode: On}, Throttle: Throttle{Mode: On}, Limit: Limit{Mode: On},
		RateLimit: RateLimit{Mode: On, Rate: 1000}, EndpointLimit: EndpointLimit{Mode: On}, HealthCheck: HealthCheck{Mode: On},
	}
	return Spec{
		Services: map[string]Policy{"orders": p},
		Routes: []routing.Rule{
			{Name: "split", Match: routing.Match{Service: "shop"}, Policy: "own", Backends: []routing.Backend{
				{Service: "orders", Weight: 1, Select: map[string]string{"v": "1"}}, {Service: "orders", Weight: 1, Select: map[string]string{"v": "2"}},
			}},
			{Match: routing.Match{Service: "orders", Method: "PUT"}},
			{Match: routing.Match{Service: "orders", Method: "POST"}, Policy: "own"},
		},
		Policies: map[string]Policy{"own": {RateLimit: RateLimit{Rate: 10}, Limit: Limit{Max: 5}}},
	}
}

// learnings are the objects that hold what was learned, by name.
func learnings(t *testing.T, m *Mesh) map[string]any {
	t.Helper()
	s := m.known()["orders"]
	all := map[string]any{
		"upstream": s.upstream, "balancer": s.balancer, "budget": s.budget, "throttle": s.throttle, "service breaker": s.breaker.Load(),
		"rate limit": s.direct.rate, "limit": s.direct.flight, "latency": s.direct.learned, "checks": s.checks.Load(),
	}
	for _, n := range s.balancer.Set().Nodes() {
		all["node "+n.Addr()], all["breaker "+n.Addr()] = n, n.Breaker()
	}
	for _, method := range []string{"PUT", "POST"} {
		target, _, err := m.target(&routing.Request{Service: "orders", Method: method}, new(uint64))
		if err != nil {
			t.Fatal(err)
		}
		all[method+" latency"], all[method+" rate limit"], all[method+" limit"] = target.learned, target.rate, target.flight
	}
	g := m.present.Load()
	for i, r := range g.rules {
		for j, target := range g.backends[i] {
			v := r.Backends[j].Select["v"]
			all["split "+v+" latency"], all["split "+v+" rate limit"], all["split "+v+" limit"] = target.learned, target.rate, target.flight
		}
	}
	return all
}

func TestUpdateKeepsWhatIsUnchanged(t *testing.T) {
	breakers := []string{"breaker 10.0.0.1:80", "breaker 10.0.0.2:80"}
	for _, c := range []struct {
		name   string
		change func(*Spec)
		lost   []string // what is renewed
		resets []string
	}{
		{"attempts", func(s *Spec) { set(s, func(p *Policy) { p.Retry.Attempts = 5 }) }, nil, nil},
		{"defaults of others", func(s *Spec) { s.Defaults.Timeout = time.Minute }, nil, nil},
		{"order and weights", func(s *Spec) {
			slices.Reverse(s.Routes)
			b := s.Routes[2].Backends
			slices.Reverse(b)
			b[0].Weight = 9
			s.Routes = slices.Insert(s.Routes, 0, routing.Rule{Match: routing.Match{Service: "new"}})
		}, nil, nil},
		{"balance", func(s *Spec) { set(s, func(p *Policy) { p.Balance = "ring-hash" }) }, nil, nil},
		{"budget", func(s *Spec) { set(s, func(p *Policy) { p.Budget.Tokens = 20 }) }, []string{"budget"}, nil},
		{"throttle", func(s *Spec) { set(s, func(p *Policy) { p.Throttle.K = 3 }) }, []string{"throttle"}, []string{"services.orders.throttle: forgets what was refused"}},
		{"throttle observes", func(s *Spec) { set(s, func(p *Policy) { p.Throttle.Mode = Observe }) }, nil, nil},
		{"service breaker", func(s *Spec) { set(s, func(p *Policy) { p.ServiceBreaker.Ratio = 0.3 }) }, []string{"service breaker"}, []string{"services.orders.serviceBreaker: forgets what was counted"}},
		{"breaker", func(s *Spec) { set(s, func(p *Policy) { p.Breaker.Ratio = 0.3 }) }, breakers, []string{"services.orders.breaker: forgets what was counted; endpoints whose breaker is open keep an open one, if they have one"}},
		{"rate", func(s *Spec) { set(s, func(p *Policy) { p.RateLimit.Rate = 1 }) }, []string{"PUT rate limit", "rate limit"}, []string{"services.orders.rateLimit: begins with a full burst"}},
		{"limit of a route", func(s *Spec) { s.Policies["own"] = Policy{RateLimit: RateLimit{Rate: 10}, Limit: Limit{Max: 6}} },
			[]string{"POST limit", "split 1 limit", "split 2 limit"}, []string{"routes.split.limit: does not count what is in flight", "routes[2].limit: does not count what is in flight"}},
		{"checks", func(s *Spec) { set(s, func(p *Policy) { p.HealthCheck.Interval = time.Second }) }, []string{"checks"},
			[]string{"services.orders.healthCheck: begins anew; endpoints stay as they are until their first check"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				checker := new(doctor)
				m := open(t, Config{Resolver: orders(2), Spec: stateful(), Checkers: map[string]healthcheck.Checker{"tcp": checker}})
				synctest.Wait()
				before := learnings(t, m)
				spec := stateful()
				c.change(&spec)
				change := update(t, m, spec)
				var lost []string
				after := learnings(t, m)
				for name, was := range before {
					if after[name] != was {
						lost = append(lost, name)
					}
				}
				slices.Sort(lost)
				if !slices.Equal(lost, c.lost) {
					t.Errorf("lost %q, want %q", lost, c.lost)
				}
				if !slices.Equal(change.Resets, c.resets) {
					t.Errorf("resets %q, want %q", change.Resets, c.resets)
				}
				if after["split 1 limit"] != after["split 2 limit"] || after["split 1 latency"] == after["split 2 latency"] {
					t.Error("backends of a rule are to share limits and not latencies")
				}
			})
		})
	}
}

// set changes the policy of orders.
func set(s *Spec, f func(*Policy)) {
	p := s.Services["orders"]
	f(&p)
	s.Services["orders"] = p
}

func TestUpdateKeepsLevelsAndStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := Spec{Services: map[string]Policy{"orders": {ServiceBreaker: Breaker{Mode: On}, Outlier: Outlier{Ejection: time.Hour, MaxEjection: time.Hour, Jitter: -1}}}}
		m := open(t, Config{Resolver: orders(3), Spec: spec})
		synctest.Wait()
		s := m.known()["orders"]
		bad := s.balancer.Set().Nodes()[0]
		for range 5 {
			pick, err := s.balancer.Pick(loadbalance.Info{Now: time.Now(), Node: loadbalance.NodeKey(bad.Addr())})
			if err != nil {
				t.Fatal(err)
			}
			pick.Done(loadbalance.Report{Now: time.Now(), Outcome: resilience.Failure, Latency: time.Second})
		}
		if !bad.Ejected() {
			t.Fatal("the endpoint is not ejected")
		}
		for range 3 {
			_, _ = Do(WithCall(t.Context(), CallOptions{Idempotent: On}), m, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 0, errors.New("broken") })
		}
		if err := m.ForceBreaker("orders", resilience.BreakerDisabled); err != nil {
			t.Fatal(err)
		}
		level := s.budget.Level()
		if level > 0.7 {
			t.Fatalf("budget at %v, want less", level)
		}
		set(&spec, func(p *Policy) {
			p.Balance, p.Outlier.Consecutive, p.Budget.Tokens, p.ServiceBreaker.Ratio, p.Subset = "least-request", 7, 100, 0.1, 40
		})
		update(t, m, spec)
		now := m.known()["orders"]
		if got := now.budget.Level(); got < level-0.02 || got > level+0.02 {
			t.Errorf("budget at %v, want %v as before", got, level)
		}
		if _, known := bad.Cost(time.Now()); !bad.Ejected() || !known || !slices.Contains(now.balancer.Set().Nodes(), bad) {
			t.Error("the endpoint is in service, or its latency is not known, want it as it was")
		}
		if got, _ := m.BreakerState("orders"); got != resilience.BreakerDisabled {
			t.Errorf("breaker %v, want it disabled", got)
		}
		set(&spec, func(p *Policy) { p.Outlier.Mode = Off })
		if update(t, m, spec); bad.Ejected() {
			t.Error("ejected where nothing is")
		}
	})
}

func TestUpdateLetsCallsOfRemovedServicesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan string, 10)
		resolver := resolverFunc(func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
			if !strings.HasPrefix(service, "silent") {
				update(endpoints(2))
			}
			<-ctx.Done()
			ended <- service
			return ctx.Err()
		})
		m := open(t, Config{Resolver: resolver, StartTimeout: time.Hour, Spec: Spec{Services: map[string]Policy{
			"api.example.com": {Idempotent: On, Backup: Backup{Mode: Off}, Retry: Retry{Base: 10 * time.Second, Max: 10 * time.Second}}, "silent.example.com": {}, "label": {},
		}}})
		synctest.Wait()
		done, waits := make(chan error, 1), make(chan error, 1)
		go func() {
			first := true
			_, err := Do(t.Context(), m, "api.example.com", func(context.Context, *loadbalance.Node) (int, error) {
				time.Sleep(3 * time.Second)
				if first {
					first = false
					return 0, errors.New("broken")
				}
				return 1, nil
			})
			done <- err
		}()
		go func() { waits <- ping(t.Context(), m, "silent.example.com") }()
		if err := ping(t.Context(), m, "label"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		old := m.known()["api.example.com"].balancer
		update(t, m, Spec{})
		if m.IsService("api.example.com") || !m.IsService("label") {
			t.Error("a host is a service, or a label is none")
		}
		synctest.Wait()
		if got := len(ended); got != 2 { // the watches, at once
			t.Errorf("%d watches ended, want 2", got)
		}
		if err := <-waits; !errors.Is(err, ErrNoRoute) {
			t.Errorf("the call that waits: %v, want ErrNoRoute", err)
		}
		if err := <-done; err != nil {
			t.Errorf("the call under way: %v", err)
		}
		time.Sleep(5 * time.Second)
		if got := len(old.Set().Nodes()); got != 0 {
			t.Errorf("%d endpoints of a forgotten service, want none", got)
		}
		if _, ok := m.known()["label"]; !ok {
			t.Error("a service that is called was forgotten")
		}
		time.Sleep(forgetAfter)
		update(t, m, Spec{Services: map[string]Policy{"label": {}}})
		update(t, m, Spec{})
		if _, ok := m.known()["label"]; ok {
			t.Error("a service that nobody calls goes on")
		}
	})
}

func TestUpdateHasLimits(t *testing.T) {
	m := open(t, Config{Resolver: orders(1)})
	many := func(n int) Spec {
		s := Spec{Services: map[string]Policy{}}
		for i := range n {
			s.Services[fmt.Sprint("s", i)] = Policy{}
		}
		return s
	}
	policies := Spec{Policies: map[string]Policy{}}
	for i := range 1001 {
		policies.Policies[fmt.Sprint("p", i)] = Policy{}
	}
	fallen := many(9999)
	fallen.Services["x"] = Policy{Fallback: Substitute{Service: "y"}}
	fallen.Services["s0"] = Policy{Fallback: Substitute{Service: "z"}}
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{many(10_001), "services: 10001 services, at most 10000 are allowed"},
		{policies, "policies: 1001 policies, at most 1000 are allowed"},
		{Spec{Routes: make([]routing.Rule, 1001)}, "routes: 1001 routes, at most 1000 are allowed"},
		{fallen, "services: 10003 are named in all"},
		{Spec{Policies: map[string]Policy{"p": {Select: Select{Match: map[string]string{"k": strings.Repeat("x", 9<<20)}}}}}, "spec: 9437186 bytes of text, at most 8388608 are allowed"},
	} {
		if _, err := m.Update(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Update() = %v, want %q", err, c.want)
		}
		if err := c.spec.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Validate() = %.100v, want %q", err, c.want)
		}
	}
}

func TestUpdateAfterClose(t *testing.T) {
	m := open(t, Config{Resolver: orders(1)})
	m.Close()
	if _, err := m.Update(Spec{Services: map[string]Policy{"a": {}}}); !errors.Is(err, ErrClosed) {
		t.Errorf("Update() = %v, want ErrClosed", err)
	}
}
