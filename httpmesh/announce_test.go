package httpmesh

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zerohop/zerohop"
)

// announced returns the headers of the attempts of a call.
func announced(ctx context.Context, t *testing.T, p zerohop.Policy, url string, header http.Header, fs ...roundTrip) (seen []http.Header) {
	t.Helper()
	m := open(t, zerohop.Config{Resolver: fakes(3), Spec: zerohop.Spec{Defaults: p}})
	defer m.Close()
	for i, f := range fs {
		fs[i] = func(req *http.Request) (*http.Response, error) {
			seen = append(seen, req.Header.Clone())
			return f(req)
		}
	}
	req := request(ctx, t, http.MethodGet, url, nil)
	for k, v := range header {
		req.Header[k] = v
	}
	before := req.Header.Clone()
	resp, err := NewTransport(m, inTurn(fs...)).RoundTrip(req)
	if err == nil {
		read(t, resp, nil)
	}
	if diff := cmp.Diff(before, req.Header); diff != "" {
		t.Errorf("headers of the caller changed (-before +after):\n%s", diff)
	}
	return seen
}

func TestAttemptsTellTheTimeLeft(t *testing.T) {
	for _, c := range []struct {
		name            string
		policy          zerohop.Policy
		caller, attempt time.Duration
		url             string
		said            []string
		want            []string
	}{
		{"none", zerohop.Policy{}, 0, 0, "http://orders/", nil, nil},
		{"caller", zerohop.Policy{}, 1500 * time.Millisecond, 0, "http://orders/", nil, []string{"1500"}},
		{"rounded down", zerohop.Policy{}, 1999 * time.Microsecond, 0, "http://orders/", nil, []string{"1"}},
		{"at least 1", zerohop.Policy{}, time.Microsecond, 0, "http://orders/", nil, []string{"1"}},
		{"call", zerohop.Policy{Timeout: time.Second}, 0, 0, "http://orders/", nil, []string{"1000"}},
		{"attempt", zerohop.Policy{AttemptTimeout: 100 * time.Millisecond}, time.Second, 0, "http://orders/", nil, []string{"1000"}},
		{"attempt of this call", zerohop.Policy{}, 0, 50 * time.Millisecond, "http://orders/", nil, nil},
		{"off", zerohop.Policy{Propagate: zerohop.Off}, time.Second, 0, "http://orders/", []string{"9999"}, []string{"9999"}},
		{"other host", zerohop.Policy{}, time.Second, 0, "http://api.example.com/", nil, nil},
		{"caller said less", zerohop.Policy{}, time.Second, 0, "http://orders/", []string{"20"}, []string{"20"}},
		{"caller said more", zerohop.Policy{}, time.Second, 0, "http://orders/", []string{"2000"}, []string{"1000"}},
		{"caller said nonsense", zerohop.Policy{}, time.Second, 0, "http://orders/", []string{"-5"}, []string{"1000"}},
		{"caller said two things", zerohop.Policy{}, time.Second, 0, "http://orders/", []string{"5", "7"}, []string{"1000"}},
		{"no deadline", zerohop.Policy{}, 0, 0, "http://orders/", []string{"2000"}, []string{"2000"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := zerohop.WithCall(t.Context(), zerohop.CallOptions{AttemptTimeout: c.attempt})
			if c.caller > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.caller)
				defer cancel()
			}
			header := http.Header{}
			if c.said != nil {
				header[TimeoutHeader] = c.said
			}
			seen := announced(ctx, t, c.policy, c.url, header, answer(200, "ok"))
			if diff := cmp.Diff(c.want, seen[0][TimeoutHeader]); diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", c.name, TimeoutHeader, diff)
			}
		})
	}
}

func TestAttemptsTellHowOftenTheCallWasSent(t *testing.T) {
	busy, ok := answer(503, ""), answer(200, "ok")
	for _, c := range []struct {
		name   string
		policy zerohop.Policy
		header http.Header
		fs     []roundTrip
		want   []string
	}{
		{"answers", zerohop.Policy{}, nil, []roundTrip{busy, busy, ok}, []string{"", "1", "2"}},
		{"not sent", zerohop.Policy{}, nil, []roundTrip{fail(errRefused), busy, ok}, []string{"", "", "1"}},
		{"broken", zerohop.Policy{}, nil, []roundTrip{fail(errReset), ok}, []string{"", "1"}},
		{"off", zerohop.Policy{Propagate: zerohop.Off}, nil, []roundTrip{busy, ok}, []string{"", ""}},
		{"caller's", zerohop.Policy{}, http.Header{AttemptHeader: {"7", "8"}}, []roundTrip{busy, ok}, []string{"", "1"}},
		{"caller's, spelled otherwise", zerohop.Policy{}, http.Header{"zerohop-ATTEMPT": {"7"}}, []roundTrip{busy, ok}, []string{"", "1"}},
		{"caller's, off", zerohop.Policy{Propagate: zerohop.Off}, http.Header{AttemptHeader: {"7"}}, []roundTrip{busy, ok}, []string{"7", "7"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var got []string
			for _, h := range announced(t.Context(), t, c.policy, "http://orders/", c.header, c.fs...) {
				got = append(got, strings.Join(h[AttemptHeader], ","))
				for name := range h {
					if len(got) > 1 && name != AttemptHeader && strings.EqualFold(name, AttemptHeader) {
						t.Errorf("%s: attempt has the header in another case: %v", c.name, h)
					}
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s: %s of attempts (-want +got):\n%s", c.name, AttemptHeader, diff)
			}
		})
	}
}

// Whatever the caller's headers are, they stay as they are, and what an attempt adds is there once and makes sense.
func FuzzAnnounce(f *testing.F) {
	f.Add(TimeoutHeader, "20", AttemptHeader, "1", int64(1000), uint8(2))
	f.Add("zerohop-timeout", "99999999999999999999", "ZEROHOP-ATTEMPT", "", int64(-5), uint8(0))
	f.Add("", "\x00", "Zerohop-Timeout ", "é", int64(math.MaxInt64), uint8(1))
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string, left int64, sent uint8) {
		header := http.Header{name1: {value1}, name2: {value2, value1}, "X": nil}
		before := header.Clone()
		h := headers{req: &http.Request{Header: header}}
		d := time.Duration(left)
		h.timeout(d)
		h.set(AttemptHeader, strconv.Itoa(int(sent)))
		if diff := cmp.Diff(before, header); diff != "" {
			t.Errorf("headers of the caller changed:\n%s", diff)
		}
		for name, want := range map[string]int64{TimeoutHeader: max(d.Milliseconds(), 1), AttemptHeader: int64(sent)} {
			var values []string
			for k, v := range h.req.Header {
				if strings.EqualFold(k, name) {
					values = append(values, v...)
				}
			}
			if len(values) != 1 {
				t.Fatalf("%s = %q, want one value", name, values)
			}
			got, err := strconv.ParseInt(values[0], 10, 64)
			if err != nil || got > want || got < want && values[0] != value1 && values[0] != value2 {
				t.Errorf("%s = %q, want %d", name, values[0], want)
			}
		}
		for k := range before {
			if _, ok := h.req.Header[k]; !ok && !strings.EqualFold(k, TimeoutHeader) && !strings.EqualFold(k, AttemptHeader) {
				t.Errorf("header %q is gone", k)
			}
		}
	})
}
