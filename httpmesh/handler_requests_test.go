package httpmesh

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestHandlerCountsRequestsAndThoseThatFail(t *testing.T) {
	h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic(http.ErrAbortHandler)
		case "/half":
			_, _ = w.Write([]byte("half"))
			panic(http.ErrAbortHandler)
		case "/silent":
		case "/404":
			w.WriteHeader(http.StatusNotFound)
		case "/429":
			w.WriteHeader(http.StatusTooManyRequests)
		case "/500":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusInternalServerError)
			w.WriteHeader(http.StatusInternalServerError)
		}
	}), HandlerOptions{})
	var all, failed int64
	for _, tt := range []struct {
		path        string
		header      http.Header
		counts, bad int64
	}{
		{"/silent", nil, 1, 0},
		{"/404", nil, 1, 0},
		{"/429", nil, 1, 1},
		{"/500", nil, 1, 1},
		{"/panic", nil, 1, 1},
		{"/half", nil, 1, 0},
		{"/silent", http.Header{TimeoutHeader: {"0"}}, 1, 1},
		{LoadPath, http.Header{WantLoadHeader: {"1"}}, 0, 0},
	} {
		r := httptest.NewRequest(http.MethodGet, tt.path, nil)
		for k, v := range tt.header {
			r.Header[k] = v
		}
		func() {
			defer func() { _ = recover() }()
			h.ServeHTTP(httptest.NewRecorder(), r)
		}()
		all, failed = all+tt.counts, failed+tt.bad
		if a, f := h.Requests(); a != all || f != failed {
			t.Errorf("after %s: Requests() = %d, %d, want %d, %d", tt.path, a, f, all, failed)
		}
	}
	if n := h.InFlight(); n != 0 {
		t.Errorf("%d in flight, want 0", n)
	}
}
