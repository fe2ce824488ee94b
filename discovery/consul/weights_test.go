package consul

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/zerohop/zerohop/discovery"
)

// Weights that make no sense are replaced, and answers that are no JSON because of them rejected, with an event that says why.
func TestWeightsWithoutSenseAreTold(t *testing.T) {
	last := discovery.Endpoint{Addr: "192.0.2.1:80", Weight: 7}
	for _, c := range []struct {
		weight string
		want   uint32
		kind   discovery.EventKind
		err    string // "" if not to be looked at
	}{
		{"65535", 65535, discovery.EventPublished, ""},
		{"0", 1, discovery.EventPublished, ""},
		{"-1", 1, discovery.EventEndpointsDropped, "discovery: weight 4294967295 of 192.0.2.1:80 is above 1000000"},
		{"-9223372036854775808", 1, discovery.EventEndpointsDropped, "discovery: weight 2147483648 of 192.0.2.1:80 is above 1000000"},
		{"1000000000000000000", 1e6, discovery.EventEndpointsDropped, "discovery: weight 2147483647 of 192.0.2.1:80 is above 1000000"},
		{"4294967296", 1e6, discovery.EventEndpointsDropped, "discovery: weight 2147483647 of 192.0.2.1:80 is above 1000000"},
		{"1e300", 7, discovery.EventWatchFailed, ""},
		{"0.5", 7, discovery.EventWatchFailed, ""},
		{"NaN", 7, discovery.EventWatchFailed, ""},
		{"Infinity", 7, discovery.EventWatchFailed, ""},
		{`"5"`, 7, discovery.EventWatchFailed, ""},
	} {
		t.Run(c.weight, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				bad := make(chan struct{})
				client := client(t, func(w http.ResponseWriter, req *http.Request) {
					weight := "7"
					switch asked++; asked {
					case 1:
					case 2:
						<-bad
						weight = c.weight
					default:
						<-req.Context().Done()
						return
					}
					respond(w, fmt.Sprint(asked), fmt.Sprintf(`[{"Service": {"Address": "192.0.2.1", "Port": 80, "Weights": {"Passing": %s, "Warning": 1}}}]`, weight))
				})
				ctx, cancel := context.WithCancel(t.Context())
				var set []discovery.Endpoint
				var events []discovery.Event
				done := make(chan struct{})
				go func() {
					defer close(done)
					_ = discovery.Run(ctx, Resolver{Client: client}, "orders", discovery.RunOptions{
						Observe: func(e discovery.Event) { events = append(events, e) },
					}, func(s []discovery.Endpoint) { set = s })
				}()
				synctest.Wait()
				if diff := cmp.Diff([]discovery.Endpoint{last}, set); diff != "" {
					t.Fatalf("first set (-want +got):\n%s", diff)
				}
				events = nil
				close(bad)
				synctest.Wait()
				cancel()
				<-done
				want := last
				want.Weight = c.want
				if diff := cmp.Diff([]discovery.Endpoint{want}, set); diff != "" {
					t.Errorf("set (-want +got):\n%s", diff)
				}
				if len(events) == 0 || events[0].Kind != c.kind {
					t.Fatalf("events = %+v, want one that says %q first", events, c.kind)
				}
				e := events[0]
				if told := e.Dropped.Weight == 1; told != (c.kind == discovery.EventEndpointsDropped) {
					t.Errorf("event = %+v, want the weight counted only if it is replaced", e)
				}
				if c.kind != discovery.EventPublished && e.Err == nil || c.err != "" && e.Err.Error() != c.err {
					t.Errorf("reason = %v, want %q", e.Err, c.err)
				}
			})
		})
	}
}
