package zerohop

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/healthcheck"
)

// remoteSource is a source that others can write to.
type remoteSource struct{ discovery.Static }

func (remoteSource) Remote() bool { return true }

func TestCallsSayThatAllAddressesAreRefused(t *testing.T) {
	services := discovery.Static{"orders": {{Addr: "127.0.0.1:80"}, {Addr: "localhost:80"}}}
	m := open(t, Config{Resolver: remoteSource{services}})
	err := ping(t.Context(), m, "orders")
	var refused *discovery.AddressError
	if e := failure(t, err); e.Reason != NoEndpoints || e.Sent || !errors.As(err, &refused) {
		t.Errorf("call = %v, want %q with an *AddressError", err, NoEndpoints)
	}
	if want := "AllowLoopback in the address policy (zerohop.Config.Addresses)"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %q does not name %q", err, want)
	}
	for name, cfg := range map[string]Config{
		"allowed":              {Resolver: remoteSource{services}, Addresses: discovery.AddressPolicy{AllowLoopback: true}},
		"source is not remote": {Resolver: services},
	} {
		if err := ping(t.Context(), open(t, cfg), "orders"); err != nil {
			t.Errorf("%s: call = %v", name, err)
		}
	}
}

func TestDialControlIsForRemoteSources(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want bool
	}{
		{Config{Resolver: discovery.Static{}}, false},
		{Config{Resolver: remoteSource{}}, true},
		{Config{Resolver: discovery.Static{}, Addresses: discovery.AddressPolicy{Everywhere: true}}, true},
	} {
		control := open(t, tt.cfg).DialControl()
		if got := control != nil; got != tt.want {
			t.Errorf("%T: DialControl() = %v, want one: %v", tt.cfg.Resolver, got, tt.want)
		}
		if control != nil && (control(t.Context(), "tcp4", "127.0.0.1:80", nil) == nil || control(t.Context(), "tcp4", "10.0.0.1:80", nil) != nil) {
			t.Error("DialControl() does not do what the policy says")
		}
	}
}

func TestNewRejectsAddressPolicies(t *testing.T) {
	_, err := New(Config{Resolver: orders(1), Addresses: discovery.AddressPolicy{Only: []netip.Prefix{{}}}})
	if err == nil || !strings.Contains(err.Error(), "addresses: only[0]:") {
		t.Errorf("New() = %v, want an error that names the field", err)
	}
}

func TestHealthChecksGoToAllowedPortsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checked []string
		var events []HealthEvent
		m := open(t, Config{
			Resolver:  remoteSource{discovery.Static{"orders": {{Addr: "10.0.0.1:80", Meta: map[string]string{"check": "22"}}, {Addr: "10.0.0.2:80"}}}},
			Addresses: discovery.AddressPolicy{Ports: []discovery.PortRange{{First: 80}}},
			Spec:      Spec{Services: map[string]Policy{"orders": {HealthCheck: HealthCheck{Mode: On, Protocol: "own", PortMeta: "check", Spread: -1}}}},
			Checkers: map[string]healthcheck.Checker{"own": healthcheck.CheckerFunc(func(_ context.Context, p healthcheck.Probe) error {
				checked = append(checked, p.Addr)
				return nil
			})},
			Hooks: Hooks{Health: func(_ string, e HealthEvent) { events = append(events, e) }},
		})
		time.Sleep(5 * time.Second)
		m.Close()
		if len(checked) != 1 || checked[0] != "10.0.0.2:80" {
			t.Errorf("checked %q, want only the endpoint whose port is allowed", checked)
		}
		var refused *discovery.AddressError
		if len(events) == 0 || events[0].Passing || !errors.As(events[0].Err, &refused) {
			t.Errorf("events = %+v, want a check that was refused", events)
		}
	})
}
