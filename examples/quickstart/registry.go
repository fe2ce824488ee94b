package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// registry is a service registry like any other, only small: instances register with PUT /service/instance and their
// address as the body, do so again before their lease runs out, and leave with DELETE. It is also the
// discovery.Resolver that finds them.
type registry struct {
	lease time.Duration

	mu       sync.Mutex
	services map[string]map[string]*entry // by service and instance
	changed  chan struct{}                // closed at the next change
}

type entry struct {
	addr    string
	renewed time.Time
	expiry  *time.Timer
}

func newRegistry(lease time.Duration) *registry {
	return &registry{lease: lease, services: map[string]map[string]*entry{}, changed: make(chan struct{})}
}

// ServeHTTP answers a registration with the lease.
func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	service, instance, ok := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	switch {
	case !ok:
		http.NotFound(w, req)
	case req.Method == http.MethodPut:
		addr, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1<<10))
		if _, _, invalid := net.SplitHostPort(string(addr)); err != nil || invalid != nil {
			http.Error(w, "the body must be host:port", http.StatusBadRequest)
			return
		}
		r.put(service, instance, string(addr))
		_, _ = fmt.Fprint(w, r.lease)
	case req.Method == http.MethodDelete:
		r.remove(service, instance, 0)
		_, _ = fmt.Fprint(w, r.lease)
	default:
		http.Error(w, "want PUT or DELETE", http.StatusMethodNotAllowed)
	}
}

func (r *registry) put(service, instance, addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.services[service][instance]; e != nil && e.addr == addr {
		e.renewed = time.Now()
		e.expiry.Reset(r.lease)
		return
	}
	if r.services[service] == nil {
		r.services[service] = map[string]*entry{}
	}
	if old := r.services[service][instance]; old != nil {
		old.expiry.Stop()
	}
	r.services[service][instance] = &entry{
		addr: addr, renewed: time.Now(),
		expiry: time.AfterFunc(r.lease, func() { r.remove(service, instance, r.lease) }),
	}
	r.change()
}

// remove takes an instance out, unless it was renewed less than idle ago.
func (r *registry) remove(service, instance string, idle time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.services[service][instance]; e != nil && time.Since(e.renewed) >= idle {
		e.expiry.Stop()
		delete(r.services[service], instance)
		r.change()
	}
}

func (r *registry) change() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// endpoints returns the instances of a service by name, and a channel that is closed at the next change.
func (r *registry) endpoints(service string) (map[string]discovery.Endpoint, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	set := make(map[string]discovery.Endpoint)
	for name, e := range r.services[service] {
		set[name] = discovery.Endpoint{Addr: e.addr}
	}
	return set, r.changed
}

// Watch implements discovery.Resolver.
func (r *registry) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	for {
		byName, changed := r.endpoints(service)
		set := make([]discovery.Endpoint, 0, len(byName))
		for _, e := range byName {
			set = append(set, e)
		}
		update(set)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// await waits until a service has n instances.
func (r *registry) await(ctx context.Context, service string, n int) error {
	for {
		set, changed := r.endpoints(service)
		if len(set) == n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d instances of %s registered: %w", len(set), n, service, context.Cause(ctx))
		}
	}
}

// close stops the leases.
func (r *registry) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, instances := range r.services {
		for _, e := range instances {
			e.expiry.Stop()
		}
	}
}

// register keeps an instance in the registry until ctx ends, and then takes it out. It returns an error if the first
// registration fails. It is the other side: backends run it.
func register(ctx context.Context, registry, service, instance, addr string) error {
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	url := registry + "/" + service + "/" + instance
	lease, err := ask(client, http.MethodPut, url, addr)
	if err != nil {
		return fmt.Errorf("register %s: %w", service, err)
	}
	for {
		select {
		case <-time.After(lease / 4):
			_, _ = ask(client, http.MethodPut, url, addr) // a lease survives the loss of two
		case <-ctx.Done():
			_, _ = ask(client, http.MethodDelete, url, "") // it would run out anyway
			return nil
		}
	}
}

// ask makes a request of a registry and returns the lease that it answers with.
func ask(client *http.Client, method, url, body string) (time.Duration, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return time.ParseDuration(string(answer))
}
