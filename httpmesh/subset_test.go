package httpmesh

import (
	"net/http"
	"testing"

	"github.com/zerohop/zerohop"
)

func TestOnlyTheSubsetGetsRequests(t *testing.T) {
	var addrs []string
	for range 40 {
		addrs = append(addrs, addr(serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte(r.Context().Value(http.LocalAddrContextKey).(interface{ String() string }).String()))
		})))
	}
	m := open(t, zerohop.Config{Resolver: source(addrs...), Instance: "a", Spec: zerohop.Spec{
		Defaults: zerohop.Policy{Balance: "weighted-round-robin", Subset: 5},
	}})
	tr := client(t, m)
	seen := map[string]bool{}
	for range 50 {
		resp, err := get(t.Context(), t, tr, "http://orders/")
		seen[read(t, resp, err)] = true
	}
	if len(seen) != 5 {
		t.Errorf("endpoints that got requests = %d, want 5 of 40", len(seen))
	}
}
