package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/consulapi"
)

var _ discovery.ZoneSource = Resolver{}

func TestZoneOfTheAgent(t *testing.T) {
	for body, want := range map[string]string{
		`{"Meta": {"zone": "a"}, "DebugConfig": {"Locality": {"Zone": "b"}}}`:                "a",
		`{"Meta": {"x": "y"}, "DebugConfig": {"Locality": {"Region": "r", "Zone": "b"}}}`:    "b",
		`{"Meta": null, "Config": {"Datacenter": "dc1"}, "DebugConfig": {"Locality": null}}`: "",
		`{}`: "",
	} {
		c := client(t, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path != "/v1/agent/self" {
				t.Errorf("request of %s", req.URL)
			}
			fmt.Fprint(w, body)
		})
		if got, err := (Resolver{Client: c}).Zone(t.Context()); got != want || err != nil {
			t.Errorf("%s: Zone() = %q, %v, want %q", body, got, err, want)
		}
	}
}

func TestZoneReportsFailures(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, req *http.Request) { w.WriteHeader(http.StatusForbidden) })
	_, err := Resolver{Client: c}.Zone(t.Context())
	if refused, ok := errors.AsType[*discovery.RefusedError](err); !ok || !refused.Denied || !strings.Contains(err.Error(), agentAddr) {
		t.Errorf("Zone() = %v, want a denial that names %s", err, agentAddr)
	}
	silent := client(t, func(w http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := (Resolver{Client: silent}).Zone(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Zone() = %v, want %v", err, context.DeadlineExceeded)
	}
	if _, err := (Resolver{}).Zone(t.Context()); !errors.Is(err, consulapi.ErrNoClient) {
		t.Errorf("Zone() = %v, want %v", err, consulapi.ErrNoClient)
	}
}
