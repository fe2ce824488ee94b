//go:build unix

package outage

import (
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery/consul"
	"github.com/zerohop/zerohop/internal/consultest"
)

func consulFaults(t *testing.T) map[string]build {
	shared := consultest.Start(t, consultest.Options{})
	// as makes the agent answer for another service than it was asked for.
	as := func(suffix string) fault {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			r.URL.Path += suffix
			next.ServeHTTP(w, r)
		}
	}
	return map[string]build{
		"stopped": func(t *testing.T, service string) *cell {
			c, g := consulCell(t, shared, service)
			c.begin, c.heal = g.door.shut, g.door.reopen
			return c
		},
		"killed": func(t *testing.T, service string) *cell {
			agent := consultest.Start(t, consultest.Options{})
			c, _ := consulCell(t, agent, service)
			c.begin, c.heal, c.mute = agent.Kill, agent.Restart, true // and nothing is registered then
			return c
		},
		"frozen": func(t *testing.T, service string) *cell {
			agent := consultest.Start(t, consultest.Options{})
			c, _ := consulCell(t, agent, service)
			c.begin, c.heal, c.mute = agent.Stop, agent.Cont, true
			return c
		},
		"deaf": func(t *testing.T, service string) *cell {
			c, g := consulCell(t, shared, service)
			c.begin, c.over, c.bound = g.door.deafen, true, unnoticed
			return c
		},
		"garbage": func(t *testing.T, service string) *cell {
			c, g := consulCell(t, shared, service)
			c.begin, c.heal = g.begin(garble(
				"\x00\xff\x17garbage", "<html>no registry</html>", `{"Node":{}}`, `[{"Node":{"Address":"127.0`, `[null]`, `[{}]`,
				`[{"Node":{"Address":"x y"},"Service":{"Address":"","Port":-1}}]`, "",
			)), g.heal
			return c
		},
		"empty": func(t *testing.T, service string) *cell {
			c, g := consulCell(t, shared, service)
			c.begin, c.heal = g.begin(as("-unknown")), g.heal
			c.trust = zerohop.Discovery{EmptyGrace: 2 * lasting} // by default it is believed in the end
			return c
		},
		// By default what is gone for some seconds is not gone.
		"blinking": func(t *testing.T, service string) *cell {
			c, g := consulCell(t, shared, service)
			begun := time.Now()
			c.begin, c.heal = func(t testing.TB) {
				begun = time.Now()
				g.begin(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if time.Since(begun)%(6*time.Second) < 4*time.Second {
						w.Header().Set("X-Consul-Index", "1")
						w.Header().Set("X-Consul-KnownLeader", "true")
						_, _ = w.Write([]byte("[]"))
						return
					}
					next.ServeHTTP(w, r)
				})(t)
			}, g.heal
			return c
		},
		"stale": func(t *testing.T, service string) *cell {
			c, g := consulCell(t, shared, service)
			c.begin, c.heal = func(t testing.TB) {
				registerConsul(t, shared, service+"-old", c.addrs)
				g.begin(as("-old"))(t)
			}, g.heal
			return c
		},
		"throttled": func(t *testing.T, service string) *cell {
			c, g := consulCell(t, shared, service)
			c.begin, c.heal, c.bound = g.begin(throttle(nil)), g.heal, refused
			return c
		},
	}
}

// consulCell returns a cell without a fault, and the gate before the agent.
func consulCell(t *testing.T, agent *consultest.Agent, service string) (*cell, *gate) {
	t.Helper()
	g := newGate(t, &url.URL{Scheme: "http", Host: agent.Addr()}, &http.Transport{}, nil)
	g.Start()
	client, err := consul.NewClient(api.Config{Address: g.door.addr.String()})
	if err != nil {
		t.Fatal(err)
	}
	return &cell{
		resolver: consul.Resolver{Client: client},
		list:     func(t testing.TB, addrs []string) { registerConsul(t, agent, service, addrs) },
		requests: &g.requests,
	}, g
}

// registerConsul makes the agent list exactly the addresses for service.
func registerConsul(t testing.TB, agent *consultest.Agent, service string, addrs []string) {
	t.Helper()
	config := agent.Config("")
	config.Transport = &http.Transport{DisableKeepAlives: true}
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	old, err := client.Agent().ServicesWithFilter(`Service == "` + service + `"`)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		host, text, _ := net.SplitHostPort(addr)
		port, _ := strconv.Atoi(text)
		id := service + "-" + strings.ReplaceAll(addr, ":", "-")
		if err := client.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: id, Name: service, Address: host, Port: port}); err != nil {
			t.Fatal(err)
		}
		delete(old, id)
	}
	for id := range old {
		if err := client.Agent().ServiceDeregister(id); err != nil {
			t.Fatal(err)
		}
	}
}
