package httpmesh

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Whatever the headers are, nothing panics and no deadline moves back.
func FuzzHeaders(f *testing.F) {
	for _, v := range []string{"", "0", "1", "250", "86400000", "86400001", "9223372036854775807", "18446744073709551617",
		"-1", "+1", " 1", "1 ", "1.5", "1e3", "0x10", "1_0", "٣", "007", "1,2"} {
		f.Add(v, v, v, int64(time.Second))
	}
	f.Fuzz(func(t *testing.T, timeout, attempt, grpc string, outer int64) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(outer))
		defer cancel()
		limit, _ := ctx.Deadline()
		req := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		req.Header = http.Header{TimeoutHeader: {timeout}, AttemptHeader: {attempt}, grpcAttempts: {grpc}}
		ran := false
		h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ran = true
			left, ok := timeLeft(req.Header)
			deadline, _ := r.Context().Deadline()
			if deadline.After(limit) || ok && deadline.After(time.Now().Add(left)) {
				t.Errorf("%q moved the deadline from %v to %v", timeout, limit.Sub(began), deadline.Sub(began))
			}
			if ok && (left <= 0 || left > maxTimeLeft) {
				t.Errorf("%q left %v", timeout, left)
			}
			if a := w.(*reply).inbound.Attempt; a < 0 || a > maxAttempt {
				t.Errorf("%q, %q are attempt %d", attempt, grpc, a)
			}
		}), HandlerOptions{})
		w := httptest.NewRecorder()
		h.ServeHTTP(struct{ http.ResponseWriter }{w}, req)
		if left, ok := timeLeft(req.Header); ran == (ok && left == 0) || ran != (w.Code == 200) {
			t.Errorf("%q: ran = %v, status %d", timeout, ran, w.Code)
		}
	})
}

func TestSentBefore(t *testing.T) {
	for _, tt := range []struct {
		ours, grpc []string
		want       int
	}{
		{nil, nil, 0},
		{[]string{"0"}, nil, 0},
		{[]string{"2"}, nil, 2},
		{nil, []string{"3"}, 3},
		{[]string{"2"}, []string{"3"}, 3},
		{[]string{"4"}, []string{"3"}, 4},
		{[]string{"100000000000000000000"}, nil, 1000},
		{[]string{"-1"}, []string{"x"}, 0},
		{[]string{"1", "1"}, nil, 0},
		{[]string{""}, nil, 0},
	} {
		if got := sentBefore(http.Header{AttemptHeader: tt.ours, grpcAttempts: tt.grpc}); got != tt.want {
			t.Errorf("sentBefore(%q, %q) = %d, want %d", tt.ours, tt.grpc, got, tt.want)
		}
	}
}
