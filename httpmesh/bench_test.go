package httpmesh

import (
	"net/http"
	"testing"

	"github.com/zerohop/zerohop"
)

// BenchmarkRoundTrip is what the whole pipeline costs over a base transport that does nothing.
func BenchmarkRoundTrip(b *testing.B) {
	var base nop
	mesh := func(b *testing.B, p zerohop.Policy) http.RoundTripper {
		return NewTransport(open(b, zerohop.Config{Resolver: fakes(3), Spec: zerohop.Spec{Defaults: p}}), base)
	}
	for _, c := range []struct {
		name string
		rt   func(b *testing.B) http.RoundTripper
	}{
		{"base", func(*testing.B) http.RoundTripper { return base }},
		{"zerohop", func(b *testing.B) http.RoundTripper { return mesh(b, zerohop.Policy{}) }},
		{"zerohop+breaker", func(b *testing.B) http.RoundTripper {
			return mesh(b, zerohop.Policy{Breaker: zerohop.Breaker{Mode: zerohop.On}})
		}},
	} {
		run := func(b *testing.B, rt http.RoundTripper, req *http.Request) {
			resp, err := rt.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
		}
		b.Run(c.name+"/serial", func(b *testing.B) {
			rt, req := c.rt(b), request(b.Context(), b, http.MethodGet, "http://orders/v1/orders/42", nil)
			b.ReportAllocs()
			for b.Loop() {
				run(b, rt, req)
			}
		})
		b.Run(c.name+"/parallel", func(b *testing.B) {
			rt := c.rt(b)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				req := request(b.Context(), b, http.MethodGet, "http://orders/v1/orders/42", nil)
				for pb.Next() {
					run(b, rt, req)
				}
			})
		})
	}
}

// nop answers without a body to read.
type nop struct{}

type nopBody struct{}

func (nopBody) Read([]byte) (int, error) { return 0, http.ErrBodyReadAfterClose }
func (nopBody) Close() error             { return nil }

func (nop) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: nopBody{}, Request: req}, nil
}

// The response of the base, the request of the attempt, its context (two) and the trace in it (two), and what the call keeps.
func TestCallThatSucceedsAllocatesLittle(t *testing.T) {
	rt := NewTransport(open(t, zerohop.Config{Resolver: fakes(3)}), nop{})
	req := request(t.Context(), t, http.MethodGet, "http://orders/v1/orders/42", nil)
	got := testing.AllocsPerRun(1000, func() {
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	})
	if want := 7.0; got > want {
		t.Errorf("RoundTrip made %v allocations, want %v", got, want)
	}
}
