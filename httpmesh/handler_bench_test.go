package httpmesh

import (
	"net/http"
	"testing"

	"github.com/zerohop/zerohop"
)

// discard is an http.ResponseWriter that has what that of HTTP/1 has, and costs nothing.
type discard struct {
	http.ResponseWriter // nil
	http.Hijacker       // nil
	header              http.Header
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) Flush()                      {}

// BenchmarkHandler is what the server half costs a request, over a handler that does next to nothing.
func BenchmarkHandler(b *testing.B) {
	body := []byte("ok")
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(body) })
	for _, bm := range []struct {
		name   string
		header http.Header
		o      HandlerOptions
	}{
		{"plain", http.Header{}, HandlerOptions{}},
		{"deadline", http.Header{TimeoutHeader: {"250"}}, HandlerOptions{}},
		{"load", http.Header{}, HandlerOptions{Load: func() LoadReport { return LoadReport{CPU: 0.7, Requests: 1234} }}},
		{"asked", http.Header{WantLoadHeader: {"1"}}, HandlerOptions{}},
		{"sheddable", http.Header{CriticalityHeader: {"sheddable"}}, HandlerOptions{}},
		{"admission", http.Header{}, HandlerOptions{Admission: admission(b, zerohop.AdmissionPolicy{Mode: zerohop.On})}},
		{"admission and deadline", http.Header{TimeoutHeader: {"250"}}, HandlerOptions{Admission: admission(b, zerohop.AdmissionPolicy{Mode: zerohop.On})}},
		{"admission observes", http.Header{}, HandlerOptions{Admission: admission(b, zerohop.AdmissionPolicy{})}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			h := NewHandler(next, bm.o)
			w := &discard{header: http.Header{}}
			req, err := http.NewRequestWithContext(b.Context(), "GET", "/", nil)
			if err != nil {
				b.Fatal(err)
			}
			req.Header = bm.header
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, req)
			}
		})
	}
}

func TestHandlerCostsFourAllocations(t *testing.T) {
	h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}), HandlerOptions{})
	w := &discard{header: http.Header{}}
	req := request(t.Context(), t, "GET", "/", nil)
	if got := testing.AllocsPerRun(100, func() { h.ServeHTTP(w, req) }); got > 4 {
		t.Errorf("ServeHTTP() makes %v allocations, want at most 4", got)
	}
	h.o.Admission = admission(t, zerohop.AdmissionPolicy{Mode: zerohop.On})
	if got := testing.AllocsPerRun(100, func() { h.ServeHTTP(w, req) }); got > 4 {
		t.Errorf("with an Admission ServeHTTP() makes %v allocations, want at most 4", got)
	}
}
