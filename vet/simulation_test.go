//go:build !race

// The race detector finds little in simulations, which run in one goroutine, and makes them take ten times as long.

package vet

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/sim"
)

// scenario returns the graph of a directory of testdata as a simulation. change may alter the policies of the Specs.
func scenario(t *testing.T, dir string, change func(*zerohop.Spec)) sim.Scenario {
	t.Helper()
	g, documents := readGraph(t, filepath.Join("testdata", dir, "graph.yaml"))
	s := sim.Scenario{Services: map[string]sim.Service{}}
	for name, v := range g.Services {
		one := sim.Service{Endpoints: v.Instances, Workers: 10_000, Time: sim.Constant(v.Latency.P50), Bare: !v.Server}
		for _, c := range v.Calls {
			one.Calls = append(one.Calls, sim.Call{Service: c.Service})
		}
		if i := slices.IndexFunc(documents, func(d Document) bool { return d.Name == v.Spec }); i >= 0 {
			one.Mesh.Spec = documents[i].Spec
			if change != nil {
				change(&one.Mesh.Spec)
			}
		}
		s.Services[name] = one
	}
	// The caller neither repeats nor ejects: his only endpoint may fail for long.
	plain := zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Retry: zerohop.Retry{Attempts: 1}, Outlier: zerohop.Outlier{Mode: zerohop.Off}}}}
	for _, e := range g.Entries {
		s.Clients = append(s.Clients, sim.Client{Service: e.Service, Rate: math.Max(e.Rate, 1), Mesh: plain})
	}
	return s
}

// perCall returns the attempts on a service per call of the clients that has ended.
func perCall(r *sim.Result, service string, from, to time.Duration) float64 {
	return float64(r.Services[service].Attempts.Started(from, to)) / float64(r.Started(from, to))
}

func TestChainOf243IsThatOfTheSimulation(t *testing.T) {
	for _, tt := range []struct {
		dir, leaf string
		most      float64
		exact     bool
	}{{"chain-of-243", "s5", 243, true}, {"good-chain-of-servers", "c", 3, false}} {
		g, documents := readGraph(t, filepath.Join("testdata", tt.dir, "graph.yaml"))
		byName := map[string]*Document{}
		for i := range documents {
			byName[documents[i].Name] = &documents[i]
		}
		n, err := newNetwork(g, byName, now)
		if err != nil {
			t.Fatal(err)
		}
		worst := n.worst(n.services[g.Entries[0].Service], path{steps: []string{"start"}, fresh: 1, fanOut: 1})
		if got := worst.attempts(); got != tt.most {
			t.Errorf("%s: %v attempts on the last service, want %v", tt.dir, got, tt.most)
		}
		s := scenario(t, tt.dir, nil)
		s.For = 20 * time.Second
		s.Faults = []sim.Fault{{Service: tt.leaf, Fail: 1}}
		r := sim.Run(t, s)
		got := perCall(r, tt.leaf, 0, 10*time.Second) // those that begin later may not have ended
		t.Logf("%s: %.1f attempts per call", tt.dir, got)
		if got > 1.25*tt.most || tt.exact && got < 0.8*tt.most {
			t.Errorf("%s: the simulation has %.1f attempts per call, want %v", tt.dir, got, tt.most)
		}
	}
}

// meaning changes the policy of b.
func meaning(f func(*zerohop.Policy)) func(*zerohop.Spec) {
	return func(s *zerohop.Spec) {
		p := s.Services["b"]
		f(&p)
		s.Services = map[string]zerohop.Policy{"b": p}
	}
}

func TestBudgetsThatGrantNothingGrantNothing(t *testing.T) {
	run := func(change func(*zerohop.Spec)) float64 {
		s := scenario(t, "budget-recovery", change)
		s.For = 30 * time.Second
		s.Faults = []sim.Fault{{Service: "b", Fail: 0.05}}
		a := s.Services["a"]
		a.Endpoints = 2
		s.Services["a"] = a
		return sim.Run(t, s).Services["a"].Calls.Amplification(0, 0)
	}
	never := run(meaning(func(p *zerohop.Policy) { p.Budget = zerohop.Budget{Kind: "grpc", Tokens: 2} }))
	least := run(meaning(func(p *zerohop.Policy) { p.Budget = zerohop.Budget{Kind: "grpc", Tokens: 4} }))
	if never != 1 || least <= 1.01 {
		t.Errorf("%.3f attempts per call with 2 tokens and %.3f with 4, want 1 and more", never, least)
	}
}

func TestBudgetsThatRecoverSlowlyDo(t *testing.T) {
	const down, end = 130 * time.Second, 230 * time.Second
	run := func(change func(*zerohop.Spec)) float64 {
		s := scenario(t, "budget-recovery", change)
		s.For = end
		s.Faults = []sim.Fault{{Service: "b", For: down, Fail: 1}, {Service: "b", At: down, Fail: 0.02}}
		return sim.Run(t, s).Services["a"].Calls.Amplification(down+20*time.Second, end)
	}
	slow := run(nil)
	usual := run(meaning(func(p *zerohop.Policy) { p.Budget = zerohop.Budget{} }))
	if slow > 1.0001 || usual < 1.01 {
		t.Errorf("after an outage %.4f attempts per call, and %.4f with the budget by default, want none and some repeated", slow, usual)
	}
}

func TestBreakersThatNeverTripDoNot(t *testing.T) {
	run := func(min uint32) int {
		s := scenario(t, "breaker", meaning(func(p *zerohop.Policy) {
			p.Breaker.Mode = zerohop.Off
			p.ServiceBreaker.MinRequests = min
			p.Retry.Attempts = 1
		}))
		refused := 0
		a := s.Services["a"]
		a.Mesh.Hooks.Refused = func(_ context.Context, _ zerohop.CallInfo, r zerohop.Refusal) {
			if r.Stage == zerohop.StageBreaker && r.Enforced {
				refused++
			}
		}
		s.Services["a"] = a
		s.For = 40 * time.Second
		s.Faults = []sim.Fault{{Service: "b", Fail: 1}}
		sim.Run(t, s)
		return refused
	}
	if got := run(200); got != 0 {
		t.Errorf("the breaker that never trips refuses %d attempts", got)
	}
	if got := run(50); got == 0 { // as the finding advises
		t.Error("the breaker refuses nothing with minRequests as the finding has it")
	}
}

func TestEjectionCapOfNoneEjectsNone(t *testing.T) {
	run := func(share float64) float64 {
		s := scenario(t, "ejection-cap", meaning(func(p *zerohop.Policy) {
			p.Outlier.MaxEjected, p.Balance = share, "random"
		}))
		s.For = 10 * time.Second
		a := s.Services["a"]
		a.Endpoints = 1
		s.Services["a"] = a
		s.Faults = []sim.Fault{{Service: "b", Endpoints: []int{3}, Fail: 1}}
		return sim.Run(t, s).Services["b"].Share(3, 2*time.Second, 0)
	}
	if got := run(0.1); got < 0.08 {
		t.Errorf("with 0.1 of 9 the bad endpoint gets %.3f of the attempts, want a ninth", got)
	}
	if got := run(0.12); got > 0.02 { // as the finding advises
		t.Errorf("with the share that the finding has the bad endpoint gets %.3f of the attempts, want next to none", got)
	}
}

func TestLimitsRefuseTheShareThatTheFindingHas(t *testing.T) {
	s := scenario(t, "rate-limit", nil)
	s.For = 20 * time.Second
	if got := sim.Run(t, s).Success(5*time.Second, 0); math.Abs(got-0.5) > 0.03 {
		t.Errorf("%.3f of the calls succeed at twice the limit, want half", got)
	}
}
