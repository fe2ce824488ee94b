package httpmesh

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

func TestAttemptsTellHowCriticalTheyAre(t *testing.T) {
	busy, ok := answer(503, ""), answer(200, "ok")
	for _, c := range []struct {
		name   string
		call   resilience.Criticality
		policy zerohop.Policy
		header http.Header
		want   string
	}{
		{"by default", 0, zerohop.Policy{}, nil, " "},
		{"critical", resilience.Critical, zerohop.Policy{}, nil, " "},
		{"by the call", resilience.CriticalPlus, zerohop.Policy{}, nil, "critical-plus critical-plus"},
		{"by the policy", 0, zerohop.Policy{Criticality: resilience.SheddablePlus}, nil, "sheddable-plus sheddable-plus"},
		{"caller's", 0, zerohop.Policy{}, http.Header{CriticalityHeader: {"critical-plus"}}, " "},
		{"caller's, spelled otherwise", resilience.SheddablePlus, zerohop.Policy{}, http.Header{"zerohop-CRITICALITY": {"sheddable"}}, "sheddable-plus sheddable-plus"},
		{"off", resilience.SheddablePlus, zerohop.Policy{Propagate: zerohop.Off}, http.Header{CriticalityHeader: {"7"}}, "7 7"},
	} {
		ctx := zerohop.WithCall(t.Context(), zerohop.CallOptions{Criticality: c.call})
		var got []string
		for _, h := range announced(ctx, t, c.policy, "http://orders/", c.header, busy, ok) {
			var values []string
			for k, v := range h {
				if strings.EqualFold(k, CriticalityHeader) {
					values = append(values, v...)
				}
			}
			got = append(got, strings.Join(values, ","))
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s: the servers were told %q, want %q", c.name, got, c.want)
		}
	}
}

// What a request says of itself is passed on by the calls that are made for it, as far as the server believes it.
func TestHandlerKnowsHowCriticalRequestsAre(t *testing.T) {
	for _, c := range []struct {
		header []string
		most   resilience.Criticality
		want   string
	}{
		{nil, 0, ""},
		{[]string{"sheddable"}, 0, "sheddable"},
		{[]string{"sheddable-plus"}, resilience.Sheddable, "sheddable"},
		{[]string{"critical"}, 0, ""},
		{[]string{"critical-plus"}, 0, ""},
		{[]string{"critical-plus"}, resilience.CriticalPlus, "critical-plus"},
		{[]string{"sheddable", "sheddable"}, 0, ""},
		{[]string{"Sheddable"}, 0, ""},
		{[]string{""}, 0, ""},
		{[]string{strings.Repeat("sheddable", 1000)}, 0, ""},
	} {
		var got []string
		below := serve(t, func(w http.ResponseWriter, r *http.Request) { got = r.Header[CriticalityHeader] })
		m := open(t, zerohop.Config{Resolver: source(addr(below))})
		next := client(t, m)
		h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			resp, err := get(r.Context(), t, next, "http://orders/")
			read(t, resp, err)
		}), HandlerOptions{MaxCriticality: c.most})
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		if c.header != nil {
			req.Header[CriticalityHeader] = c.header
		}
		h.ServeHTTP(httptest.NewRecorder(), req)
		if got := strings.Join(got, ","); got != c.want {
			t.Errorf("a request with %.40q, up to %v, makes calls with %q, want %q", c.header, c.most, got, c.want)
		}
	}
}

// Nobody gets above what the server allows, and nonsense says nothing.
func FuzzCriticality(f *testing.F) {
	f.Add("sheddable", "", 1, uint8(0))
	f.Add("critical-plus", "critical-plus", 2, uint8(4))
	f.Add(" critical\x00", "", 1, uint8(3))
	f.Fuzz(func(t *testing.T, one, two string, n int, most uint8) {
		h := http.Header{CriticalityHeader: []string{one, two}[:max(0, min(n, 2))]}
		limit := resilience.Criticality(most % 5)
		got := criticalityOf(h, limit)
		if got > limit.Or(resilience.Critical) {
			t.Errorf("criticality = %v, above %v", got, limit)
		}
		if c, ok := resilience.ParseCriticality(one); got != resilience.Unspecified && (n != 1 || !ok || got > c) {
			t.Errorf("criticality of %q = %v", h[CriticalityHeader], got)
		}
	})
}
