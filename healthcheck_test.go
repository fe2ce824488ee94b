package zerohop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/healthcheck"
	"github.com/zerohop/zerohop/loadbalance"
)

var errUnwell = errors.New("unwell")

// doctor is a Checker that fails some addresses.
type doctor struct {
	mu     sync.Mutex // guards what follows
	unwell map[string]bool
	seen   []healthcheck.Probe
}

func (d *doctor) Check(_ context.Context, p healthcheck.Probe) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, p)
	if d.unwell[p.Endpoint.Addr] {
		return errUnwell
	}
	return nil
}

func (d *doctor) find(addr string, unwell bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unwell == nil {
		d.unwell = map[string]bool{}
	}
	d.unwell[addr] = unwell
}

// checks returns how many were made, and forgets them.
func (d *doctor) checks() []healthcheck.Probe {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := d.seen
	d.seen = nil
	return seen
}

// checked is a configuration with health checks.
func checked(d *doctor, r discovery.Resolver, h HealthCheck) Config {
	h.Mode, h.Protocol = On, "doctor"
	return Config{
		Resolver: r, Checkers: map[string]healthcheck.Checker{"doctor": d},
		Spec: Spec{Services: map[string]Policy{"orders": {Balance: "random", HealthCheck: h}}},
	}
}

func TestEndpointThatFailsItsChecksGetsNoCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doctor
		cfg := checked(&d, orders(3), HealthCheck{})
		var events []string
		cfg.Hooks.Health = func(service string, ev HealthEvent) {
			events = append(events, fmt.Sprintf("%s %s %v %v", service, ev.Endpoint.Addr, ev.Passing, ev.Err))
		}
		m := open(t, cfg)
		bad := endpoints(1)[0].Addr
		works := func(string) bool { return false }
		visits(t, m, 11*time.Second, works)
		d.find(bad, true)
		visits(t, m, 16*time.Second, works)
		by, _, failed := visits(t, m, time.Minute, works)
		if by[bad] != 0 || failed != 0 || len(by) != 2 {
			t.Errorf("calls while the checks of %s fail = %v, failed %d, want none on it and none failed", bad, by, failed)
		}
		if n, _ := m.service("orders"); !slices.ContainsFunc(n.balancer.Set().Nodes(), (*loadbalance.Node).FailsChecks) {
			t.Error("no node fails its checks")
		}
		d.find(bad, false)
		visits(t, m, 15*time.Second, works) // two checks and the slow start
		if by, all, _ := visits(t, m, 10*time.Second, works); by[bad] < all/4 {
			t.Errorf("calls on %s when its checks pass again = %d of %d, want a third", bad, by[bad], all)
		}
		want := []string{"orders " + bad + " false unwell", "orders " + bad + " true <nil>"}
		if !slices.Equal(events, want) {
			t.Errorf("events = %q, want %q", events, want)
		}
	})
}

func TestChecksAreOffByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doctor
		m := open(t, Config{Resolver: orders(3), Checkers: map[string]healthcheck.Checker{"tcp": &d}})
		visits(t, m, 30*time.Second, func(string) bool { return false })
		if got := len(d.checks()); got != 0 {
			t.Errorf("checks = %d, want none", got)
		}
	})
}

func TestChecksOfALastEndpointDoNotTakeItAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doctor
		for _, ep := range endpoints(3) {
			d.find(ep.Addr, true)
		}
		m := open(t, checked(&d, orders(3), HealthCheck{}))
		visits(t, m, 30*time.Second, func(string) bool { return false })
		by, _, failed := visits(t, m, 10*time.Second, func(string) bool { return false })
		if len(by) != 3 || failed != 0 {
			t.Errorf("calls while all checks fail = %v, failed %d, want some on all and none failed", by, failed)
		}
	})
}

func TestNewEndpointProvesItself(t *testing.T) {
	for _, unproven := range []Switch{Off, On} {
		synctest.Test(t, func(t *testing.T) {
			var src discoverytest.Memory
			var d doctor
			src.Set("orders", endpoints(3)...)
			m := open(t, checked(&d, &src, HealthCheck{Unproven: unproven, Spread: 5 * time.Second}))
			works := func(string) bool { return false }
			visits(t, m, 20*time.Second, works)
			src.Set("orders", endpoints(4)...)
			synctest.Wait()
			d.checks()
			last := endpoints(4)[3].Addr
			d.find(last, true)
			got := 0
			for !slices.ContainsFunc(d.checks(), func(p healthcheck.Probe) bool { return p.Endpoint.Addr == last }) {
				by, _, _ := visits(t, m, 100*time.Millisecond, works)
				got += by[last]
			}
			if (got == 0) != (unproven == On) {
				t.Errorf("unproven %s: calls on a new endpoint before its first check = %d", unproven, got)
			}
			if by, _, _ := visits(t, m, time.Second, works); by[last] != 0 {
				t.Errorf("unproven %s: calls on a new endpoint that failed its first check = %d, want none", unproven, by[last])
			}
		})
	}
}

func TestPassedCheckEndsAnEjectionIfToldSo(t *testing.T) {
	for _, end := range []Switch{Off, On} {
		synctest.Test(t, func(t *testing.T) {
			var d doctor
			cfg := checked(&d, orders(4), HealthCheck{EndEjection: end, Interval: 500 * time.Millisecond})
			cfg.Spec.Services["orders"] = Policy{Balance: "random", HealthCheck: cfg.Spec.Services["orders"].HealthCheck, Outlier: Outlier{Ejection: time.Hour, MaxEjection: time.Hour}}
			m := open(t, cfg)
			bad := endpoints(1)[0].Addr
			broken := func(addr string) bool { return addr == bad }
			visits(t, m, time.Second, broken)
			by, _, _ := visits(t, m, 10*time.Second, broken)
			if (by[bad] == 0) != (end == Off) {
				t.Errorf("endEjection %s: calls on an endpoint that fails them and passes its checks = %d", end, by[bad])
			}
		})
	}
}

func TestServiceThatNobodyCallsIsCheckedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doctor
		m := open(t, checked(&d, orders(10), HealthCheck{Jitter: -1}))
		time.Sleep(2 * time.Minute)
		d.checks()
		time.Sleep(time.Minute)
		if got := len(d.checks()); got != 10 {
			t.Errorf("checks of 10 endpoints in a minute without calls = %d, want one each", got)
		}
		time.Sleep(30 * time.Second) // the next are due in half a minute
		d.checks()
		visits(t, m, 10*time.Second, func(string) bool { return false })
		if got := len(d.checks()); got < 10 {
			t.Errorf("checks of 10 endpoints in 10 s with calls = %d, want one each at least", got)
		}
		visits(t, m, 60*time.Second, func(string) bool { return false })
		if got := len(d.checks()); got != 60 {
			t.Errorf("checks of 10 endpoints in a minute with calls = %d, want six each", got)
		}
		time.Sleep(3 * time.Minute)
		d.checks()
		stop, err := m.Subscribe("orders", func(Endpoints) {})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		time.Sleep(2 * time.Minute)
		d.checks()
		time.Sleep(time.Minute)
		if got := len(d.checks()); got != 60 {
			t.Errorf("checks of 10 endpoints in a minute with a connection of gRPC = %d, want six each", got)
		}
	})
}

func TestChecksGoWhereThePolicySays(t *testing.T) {
	eps := []discovery.Endpoint{
		{Addr: "10.0.0.1:80"},
		{Addr: "10.0.0.2:80", Meta: map[string]string{"health-port": "9002"}},
		{Addr: "10.0.0.3:80", Meta: map[string]string{"health-port": "http"}},
		{Addr: "[2001:db8::4]:80", Meta: map[string]string{"health-port": "0"}},
		{Addr: "[2001:db8::5]:80"},
	}
	for _, c := range []struct {
		policy HealthCheck
		want   []string
		failed int
	}{
		{HealthCheck{}, []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "[2001:db8::4]:80", "[2001:db8::5]:80"}, 0},
		{HealthCheck{Port: 81}, []string{"10.0.0.1:81", "10.0.0.2:81", "10.0.0.3:81", "[2001:db8::4]:81", "[2001:db8::5]:81"}, 0},
		{HealthCheck{PortMeta: "health-port"}, []string{"10.0.0.1:80", "10.0.0.2:9002", "[2001:db8::5]:80"}, 2},
		{HealthCheck{Port: 81, PortMeta: "health-port"}, []string{"10.0.0.1:81", "10.0.0.2:9002", "[2001:db8::5]:81"}, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			var d doctor
			c.policy.Path, c.policy.Host, c.policy.GRPCService, c.policy.Statuses = "/health?full=1", "inside", "shop.Orders", "204"
			cfg := checked(&d, discovery.Static{"orders": eps}, c.policy)
			failed := 0
			cfg.Hooks.Health = func(_ string, ev HealthEvent) {
				failed++
				if !strings.Contains(ev.Err.Error(), "health-port") {
					t.Errorf("a port that is none makes %v, want an error that names the metadata", ev.Err)
				}
			}
			open(t, cfg)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			var got []string
			for _, p := range d.checks() {
				got = append(got, p.Addr)
				if p.Service != "orders" || p.Protocol != "doctor" || p.Path != "/health?full=1" || p.Host != "inside" ||
					p.GRPCService != "shop.Orders" || !p.Statuses.Contain(204) || p.Statuses.Contain(200) {
					t.Errorf("probe = %+v, want what the policy says", p)
				}
			}
			if slices.Sort(got); !slices.Equal(got, c.want) || failed != c.failed {
				t.Errorf("%+v: checked at %v, failed %d, want %v, %d", c.policy, got, failed, c.want, c.failed)
			}
		})
	}
}

// A service that gave way to others is checked no more.
func TestChecksEndWithTheirService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doctor
		m := open(t, Config{
			Resolver: resolverFunc(func(ctx context.Context, _ string, update func([]discovery.Endpoint)) error {
				update(endpoints(1))
				<-ctx.Done()
				return ctx.Err()
			}),
			Checkers: map[string]healthcheck.Checker{"doctor": &d},
			Spec:     Spec{Defaults: Policy{HealthCheck: HealthCheck{Mode: On, Protocol: "doctor", Jitter: -1}}},
		})
		_ = ping(t.Context(), m, "first")
		time.Sleep(2 * time.Second)
		for i := range maxDynamicServices {
			if err := ping(t.Context(), m, fmt.Sprint("service-", i)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		d.checks()
		time.Sleep(10 * time.Second)
		seen := d.checks()
		if slices.ContainsFunc(seen, func(p healthcheck.Probe) bool { return p.Service == "first" }) || len(seen) != maxDynamicServices {
			t.Errorf("checks = %d, of the service that is forgotten, too, want %d of the others", len(seen), maxDynamicServices)
		}
		m.Close()
		if d.checks(); len(d.checks()) != 0 {
			t.Error("checks after Close")
		}
	})
}
