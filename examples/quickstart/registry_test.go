package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
)

func TestRegistryConformance(t *testing.T) {
	r := newRegistry(time.Hour)
	defer r.close()
	discoverytest.Test(t, discoverytest.Source{
		Resolver: r,
		Set: func(_ testing.TB, service string, set []discovery.Endpoint) {
			want := map[string]bool{}
			for _, e := range set {
				want[e.Addr] = true
				r.put(service, e.Addr, e.Addr)
			}
			old, _ := r.endpoints(service)
			for name := range old {
				if !want[name] {
					r.remove(service, name, 0)
				}
			}
		},
	})
}

func TestLeaseRunsOutUnlessRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(time.Second)
		for range 3 {
			r.put("greeter", "a", "127.0.0.1:1")
			time.Sleep(900 * time.Millisecond)
		}
		if set, _ := r.endpoints("greeter"); len(set) != 1 {
			t.Errorf("after renewals: %v, want one instance", set)
		}
		time.Sleep(101 * time.Millisecond)
		if set, _ := r.endpoints("greeter"); len(set) != 0 {
			t.Errorf("after the lease: %v, want none", set)
		}
	})
}

func TestInstanceThatMovedIsListedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(time.Second)
		r.put("greeter", "a", "127.0.0.1:1")
		time.Sleep(900 * time.Millisecond)
		r.put("greeter", "a", "127.0.0.1:2")
		time.Sleep(900 * time.Millisecond)
		set, _ := r.endpoints("greeter")
		if got, want := set["a"].Addr, "127.0.0.1:2"; got != want || len(set) != 1 {
			t.Errorf("endpoints = %v, want a at %s only", set, want)
		}
		r.close()
	})
}

func TestRegistrationLastsUntilItsContextEnds(t *testing.T) {
	r := newRegistry(time.Minute)
	defer r.close()
	server := httptest.NewServer(r)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- register(ctx, server.URL, "greeter", "a", "127.0.0.1:1") }()
	if err := r.await(t.Context(), "greeter", 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("register = %v", err)
	}
	if set, _ := r.endpoints("greeter"); len(set) != 0 {
		t.Errorf("endpoints = %v, want none", set)
	}
	if err := register(ctx, server.URL, "greeter", "a", "nowhere"); err == nil {
		t.Error("register without a port = nil, want an error")
	}
	if err := r.await(ctx, "greeter", 1); err == nil {
		t.Error("await = nil, want the end of its context")
	}
}

func TestRegistryRejectsOtherRequests(t *testing.T) {
	r := newRegistry(time.Minute)
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{http.MethodPut, "/greeter/a", "127.0.0.1", http.StatusBadRequest},
		{http.MethodPut, "/greeter/a", strings.Repeat("1", 2000) + ":1", http.StatusBadRequest},
		{http.MethodPut, "/greeter", "127.0.0.1:1", http.StatusNotFound},
		{http.MethodPost, "/greeter/a", "127.0.0.1:1", http.StatusMethodNotAllowed},
	} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		if got := w.Code; got != c.want {
			t.Errorf("%s %s = %d, want %d", c.method, c.path, got, c.want)
		}
	}
	if set, _ := r.endpoints("greeter"); len(set) != 0 {
		t.Errorf("endpoints = %v, want none", set)
	}
}
