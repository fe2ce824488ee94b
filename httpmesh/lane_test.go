package httpmesh

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/zerohop/zerohop"
)

func TestRequestsCarryTheirLane(t *testing.T) {
	for _, tt := range []struct {
		name   string
		lane   string
		header http.Header
		hook   string // baggage that Hooks.Propagate sets
		want   []string
	}{
		{"none", "", nil, "", nil},
		{"none, but other baggage", "", http.Header{"Baggage": {"a=1", "=malformed"}}, "", []string{"a=1", "=malformed"}},
		{"alone", "x", nil, "", []string{"zerohop-lane=x"}},
		{"with others", "x", http.Header{"Baggage": {"a=1;p", "b=2"}}, "", []string{"a=1;p,b=2,zerohop-lane=x"}},
		{"however it is spelled", "x", http.Header{"baggage": {"a=1"}}, "", []string{"a=1,zerohop-lane=x"}},
		{"beside what hooks set", "x", nil, "a=1,zerohop-lane=y", []string{"a=1,zerohop-lane=x"}},
		{"there already", "x", http.Header{"Baggage": {"a=1", "zerohop-lane=x;p=1"}}, "", []string{"a=1", "zerohop-lane=x;p=1"}},
		{"no room", "x", http.Header{"Baggage": {strings.Repeat("a=b,", 63) + "a=b"}}, "", []string{strings.Repeat("a=b,", 63) + "a=b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			cfg := zerohop.Config{Resolver: fakes(1)}
			if tt.hook != "" {
				cfg.Hooks.Propagate = hookOf(tt.hook)
			}
			tr := NewTransport(open(t, cfg), roundTrip(func(req *http.Request) (*http.Response, error) {
				got = req.Header["Baggage"]
				//lint:ignore SA1008 it must not be there
				if len(req.Header["baggage"]) > 0 {
					t.Errorf("the header is there twice: %v", req.Header)
				}
				return answer(200, "")(req)
			}))
			ctx := t.Context()
			if tt.lane != "" {
				ctx = zerohop.WithLane(ctx, tt.lane)
			}
			req := request(ctx, t, http.MethodGet, "http://orders/", nil)
			if tt.header != nil {
				req.Header = tt.header
			}
			before := req.Header.Clone()
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if strings.Join(got, "|") != strings.Join(tt.want, "|") {
				t.Errorf("baggage = %q, want %q", got, tt.want)
			}
			for k, v := range before {
				if strings.Join(req.Header[k], "|") != strings.Join(v, "|") {
					t.Errorf("the request of the caller has changed: %v", req.Header)
				}
			}
		})
	}
}

func hookOf(baggage string) func(ctx context.Context, set func(key, value string)) {
	return func(_ context.Context, set func(key, value string)) { set("baggage", baggage) }
}

func TestHandlerKnowsTheLaneOfARequest(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ignore  bool
		baggage []string
		lane    string
		left    []string // of the baggage
	}{
		{"none", false, nil, "", nil},
		{"one", false, []string{"a=1,zerohop-lane=x"}, "x", []string{"a=1,zerohop-lane=x"}},
		{"malformed", false, []string{"zerohop-lane=a b,%"}, "", []string{"zerohop-lane=a b,%"}},
		{"ignored", true, []string{"a=1", "zerohop-lane=x,b=2"}, "", []string{"a=1,b=2"}},
		{"ignored, and nothing else", true, []string{"zerohop-lane=x"}, "", nil},
		{"nothing to ignore", true, []string{"a=1", "b=2"}, "", []string{"a=1", "b=2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			called := false
			h := NewHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				called = true
				if got := zerohop.LaneOf(r.Context()); got != tt.lane {
					t.Errorf("lane = %q, want %q", got, tt.lane)
				}
				if got := r.Header["Baggage"]; strings.Join(got, "|") != strings.Join(tt.left, "|") {
					t.Errorf("baggage = %q, want %q", got, tt.left)
				}
				if got := zerohop.LaneOf(zerohop.WithLane(r.Context(), "y")); got != "y" {
					t.Errorf("lane = %q after WithLane, want y", got)
				}
			}), HandlerOptions{IgnoreLane: tt.ignore})
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			if tt.baggage != nil {
				r.Header["Baggage"] = tt.baggage
			}
			h.ServeHTTP(httptest.NewRecorder(), r)
			if !called {
				t.Fatal("the handler was not called")
			}
			if got := r.Header["Baggage"]; strings.Join(got, "|") != strings.Join(tt.baggage, "|") {
				t.Errorf("the request of the server has baggage %q, want %q", got, tt.baggage)
			}
		})
	}
}

// A gateway that ignores lanes hands none on, although it copies all headers that it got before the Handler saw them.
func TestIgnoredLanesAreNotHandedOn(t *testing.T) {
	var got []string
	tr := NewTransport(open(t, zerohop.Config{Resolver: fakes(1)}), roundTrip(func(req *http.Request) (*http.Response, error) {
		got = req.Header["Baggage"]
		return answer(200, "")(req)
	}))
	copied := http.Header{"Baggage": {"a=1,zerohop-lane=x"}}
	h := NewHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		req := request(r.Context(), t, http.MethodGet, "http://orders/", nil)
		req.Header = copied
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}), HandlerOptions{IgnoreLane: true})
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if len(got) != 1 || got[0] != "a=1" {
		t.Errorf("baggage = %q, want a=1", got)
	}
}
