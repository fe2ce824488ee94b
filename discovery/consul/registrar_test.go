package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/consulapi"
	"github.com/zerohop/zerohop/internal/pace"
)

// fakeAgent knows what the registrar needs of an agent.
type fakeAgent struct {
	mu       sync.Mutex // guards all below
	services map[string]*api.AgentServiceRegistration
	changed  chan struct{} // closed when services changes
	status   int           // answers everything, if not 0
	count    map[string]int
	ignore   bool // answers blocking queries at once
}

func newFakeAgent() *fakeAgent {
	return &fakeAgent{services: map[string]*api.AgentServiceRegistration{}, changed: make(chan struct{}), count: map[string]int{}}
}

// change changes the agent and wakes the blocking queries.
func (a *fakeAgent) change(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *fakeAgent) requests(verb string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count[verb]
}

func (a *fakeAgent) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	verb, id, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v1/agent/"), "/")
	if verb == "service" && req.Method == http.MethodPut {
		verb, id, _ = strings.Cut(id, "/")
	}
	a.mu.Lock()
	a.count[verb]++
	status, changed, known := a.status, a.changed, a.services[strings.TrimPrefix(id, "update/service:")]
	ignore := a.ignore
	a.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	switch verb {
	case "register":
		var service api.AgentServiceRegistration
		if err := json.NewDecoder(req.Body).Decode(&service); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		a.change(func() { a.services[service.ID] = &service })
		return
	case "deregister":
		a.change(func() { delete(a.services, id) })
	}
	if known == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if verb == "service" {
		if req.FormValue("hash") != "" && !ignore {
			wait, _ := time.ParseDuration(req.FormValue("wait"))
			select {
			case <-changed:
			case <-time.After(wait):
			case <-req.Context().Done():
			}
		}
		a.mu.Lock()
		known, status = a.services[id], a.status
		a.mu.Unlock()
		if known == nil || status != 0 {
			w.WriteHeader(max(status, http.StatusNotFound))
			return
		}
		fmt.Fprintf(w, `{"ID": %q, "ContentHash": "h"}`, id)
	}
}

var orders = discovery.Instance{Service: "orders", Endpoint: discovery.Endpoint{Addr: "192.0.2.1:80"}}

const ordersID = "orders-192.0.2.1:80"

// registered runs f in a bubble with an instance that is kept registered at a fake agent.
func registered(t *testing.T, inst discovery.Instance, f func(t *testing.T, a *fakeAgent, g discovery.Registration, errs func() int)) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeAgent()
		var mu sync.Mutex
		failures := 0
		r := Registrar{Client: client(t, a.ServeHTTP), OnError: func(error) {
			mu.Lock()
			defer mu.Unlock()
			failures++
		}}
		g, err := r.Register(t.Context(), inst)
		if err != nil {
			t.Fatal(err)
		}
		f(t, a, g, func() int {
			mu.Lock()
			defer mu.Unlock()
			return failures
		})
		if err := g.Close(context.Background()); err != nil {
			t.Errorf("Close() = %v", err)
		}
		if len(a.services) != 0 {
			t.Errorf("registered after Close: %v", a.services)
		}
	})
}

func TestRegistrarRenewsEveryThirdOfTheLease(t *testing.T) {
	registered(t, orders, func(t *testing.T, a *fakeAgent, _ discovery.Registration, errs func() int) {
		const leases = 10
		time.Sleep(leases * defaultTTL)
		if got := a.requests("check"); got < 3*leases || got > 4*leases {
			t.Errorf("%d renewals in %d leases, want 3 in each", got, leases)
		}
		if got := a.requests("register"); got != 1 {
			t.Errorf("registered %d times, want once", got)
		}
		if got := errs(); got != 0 {
			t.Errorf("%d errors, want none", got)
		}
	})
}

func TestRegistrarRegistersAgain(t *testing.T) {
	called := orders
	called.Check.HTTP = "http://192.0.2.1/"
	for name, inst := range map[string]discovery.Instance{"lease": orders, "called": called} {
		t.Run(name, func(t *testing.T) {
			registered(t, inst, func(t *testing.T, a *fakeAgent, _ discovery.Registration, errs func() int) {
				time.Sleep(5 * time.Minute)
				if got := errs(); got != 0 {
					t.Errorf("%d errors while nothing happened, want none", got)
				}
				a.change(func() { clear(a.services) }) // somebody else took it out
				time.Sleep(pace.Interval)
				synctest.Wait()
				if got := a.requests("register"); got != 2 {
					t.Errorf("registered %d times, want again at once", got)
				}

				a.change(func() { clear(a.services); a.status = http.StatusInternalServerError })
				before := a.requests("check") + a.requests("service")
				const outage = 100 * time.Second
				time.Sleep(outage)
				if got := a.requests("check") + a.requests("service") - before; got > 110 {
					t.Errorf("%d requests in an outage of %v, want one a second at most", got, outage)
				}
				if errs() == 0 {
					t.Error("the outage was not reported")
				}
				a.change(func() { a.status = 0 })
				time.Sleep(2 * time.Second)
				synctest.Wait()
				a.mu.Lock()
				defer a.mu.Unlock()
				if a.services[ordersID] == nil {
					t.Fatal("not registered 2 s after the outage")
				}
				if got, want := a.services[ordersID].Check.Status, api.HealthPassing; got != want {
					t.Errorf("status is %q after the outage, want %q", got, want)
				}
			})
		})
	}
}

func TestRegistrarKeepsItsPaceIfTheAgentNeverWaits(t *testing.T) {
	registered(t, orders, func(t *testing.T, a *fakeAgent, _ discovery.Registration, _ func() int) {
		a.change(func() { a.ignore = true })
		time.Sleep(time.Minute)
		if got := a.requests("service"); got > 65 {
			t.Errorf("%d requests in a minute, want one a second", got)
		}
	})
}

func TestRegistrarAsksSeldomWhileDenied(t *testing.T) {
	registered(t, orders, func(t *testing.T, a *fakeAgent, _ discovery.Registration, errs func() int) {
		a.change(func() { a.status = http.StatusForbidden })
		time.Sleep(10 * time.Minute)
		// 15 s is the mean of the pause; twice the expected number is beyond chance.
		if got := errs(); got < 20 || got > 80 {
			t.Errorf("%d attempts in 10 min, want about 45", got)
		}
		a.change(func() { a.status = 0 })
	})
}

func TestRegisterReturnsRefusals(t *testing.T) {
	a := newFakeAgent()
	a.status = http.StatusForbidden
	_, err := Registrar{Client: client(t, a.ServeHTTP)}.Register(t.Context(), orders)
	refused, ok := errors.AsType[*discovery.RefusedError](err)
	if !ok || !refused.Denied || !strings.Contains(err.Error(), agentAddr) {
		t.Errorf("Register() = %v, want a denial that names %s", err, agentAddr)
	}
}

func TestCloseReportsErrorsAndTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeAgent()
		g, err := Registrar{Client: client(t, a.ServeHTTP)}.Register(t.Context(), orders)
		if err != nil {
			t.Fatal(err)
		}
		a.change(func() { a.status = http.StatusInternalServerError })
		if err := g.Close(t.Context()); err == nil || !strings.Contains(err.Error(), agentAddr) {
			t.Errorf("Close() = %v, want an error that names %s", err, agentAddr)
		}
		a.change(func() { a.status = 0 })
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := g.Close(t.Context()); err != nil {
					t.Errorf("Close() = %v", err)
				}
			})
		}
		wg.Wait()
		if got := a.requests("deregister"); got != 2 {
			t.Errorf("%d requests to deregister, want one that failed and one that did not", got)
		}
	})
}

func TestDefinitionOfInstances(t *testing.T) {
	inst := discovery.Instance{
		ID: "a", Service: "orders", Tags: []string{"x"},
		Endpoint: discovery.Endpoint{
			Addr: "[2001:db8::1]:80", Weight: 100_000, Zone: "z", Priority: 4, Meta: map[string]string{"version": "2"},
		},
		Check: discovery.Check{GRPC: "192.0.2.1:81/orders"},
	}
	got, err := definition(inst, discovery.Advertising{})
	if err != nil {
		t.Fatal(err)
	}
	want := &api.AgentServiceRegistration{
		ID: "a", Name: "orders", Address: "2001:db8::1", Port: 80, Tags: []string{"x"},
		Meta:    map[string]string{"version": "2", "zone": "z", "zerohop-priority": "4", "weight": "100000"},
		Weights: &api.AgentWeights{Passing: maxWeight, Warning: 1},
		Check: &api.AgentServiceCheck{
			CheckID: "service:a", GRPC: "192.0.2.1:81/orders", Interval: "10s", Timeout: "2s", DeregisterCriticalServiceAfter: "10m0s",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("definition (-want +got):\n%s", diff)
	}
	if len(inst.Endpoint.Meta) != 1 {
		t.Errorf("the metadata of the caller was changed: %v", inst.Endpoint.Meta)
	}
}

func TestRegisterNamesTheWrongField(t *testing.T) {
	a := newFakeAgent()
	c := client(t, a.ServeHTTP)
	for name, test := range map[string]struct {
		change func(*discovery.Instance)
		want   string
	}{
		"no service":       {func(i *discovery.Instance) { i.Service = "" }, "Instance.Service"},
		"slash in service": {func(i *discovery.Instance) { i.Service = "a/b" }, "Instance.Service"},
		"slash in ID":      {func(i *discovery.Instance) { i.ID = "a/b" }, "Instance.ID"},
		"no port":          {func(i *discovery.Instance) { i.Endpoint.Addr = "192.0.2.1" }, "Instance.Endpoint.Addr"},
		"port 0":           {func(i *discovery.Instance) { i.Endpoint.Addr = "192.0.2.1:0" }, "Instance.Endpoint.Addr"},
		"port name":        {func(i *discovery.Instance) { i.Endpoint.Addr = "192.0.2.1:http" }, "Instance.Endpoint.Addr"},
		"loopback":         {func(i *discovery.Instance) { i.Endpoint.Addr = "127.0.0.1:80" }, "Instance.Endpoint.Addr"},
		"two calls":        {func(i *discovery.Instance) { i.Check.HTTP, i.Check.GRPC = "http://a", "a:1" }, "Instance.Check"},
		"call and lease":   {func(i *discovery.Instance) { i.Check.HTTP, i.Check.TTL = "http://a", time.Minute }, "Instance.Check"},
		"short lease":      {func(i *discovery.Instance) { i.Check.TTL = time.Second }, "Instance.Check.TTL"},
		"negative timeout": {func(i *discovery.Instance) { i.Check.Timeout = -1 }, "Instance.Check"},
	} {
		inst := orders
		test.change(&inst)
		if _, err := (Registrar{Client: c}).Register(t.Context(), inst); !errors.Is(err, discovery.ErrInvalidInstance) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Register() = %v, want %v that names %s", name, err, discovery.ErrInvalidInstance, test.want)
		}
	}
	_, err := Registrar{Client: c}.Register(t.Context(), discovery.Instance{
		ID: "a/b", Endpoint: discovery.Endpoint{Addr: "x"}, Check: discovery.Check{TTL: 1, Timeout: -1},
	})
	for _, want := range []string{"Instance.Service", "Instance.ID", "Instance.Endpoint.Addr", "Instance.Check.TTL", "Timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Register() = %v, want an error that also names %s", err, want)
		}
	}
	if _, err := (Registrar{}).Register(t.Context(), orders); !errors.Is(err, consulapi.ErrNoClient) || !errors.Is(err, discovery.ErrInvalidInstance) {
		t.Errorf("Register() without a client = %v, want %v as %v", err, consulapi.ErrNoClient, discovery.ErrInvalidInstance)
	}
	if n := a.requests("register"); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestRegistrarMakesListenersReachable(t *testing.T) {
	inst := orders
	inst.Endpoint.Addr = "[::]:8080"
	got, err := definition(inst, discovery.Advertising{Addr: "2001:db8::1"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Address != "2001:db8::1" || got.Port != 8080 || got.ID != "orders-[2001:db8::1]:8080" {
		t.Errorf("registered %s at %s port %d, want the advertised address", got.ID, got.Address, got.Port)
	}
}
