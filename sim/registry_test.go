package sim

import (
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
)

// What a registry does wrong comes to the supervision that production has, and clients never lose what they knew for it
// unless it insists.
func TestRegistryFaultsComeToClients(t *testing.T) {
	const begins, ends = 10 * time.Second, 20 * time.Second
	const leaves, returns = 12 * time.Second, 18 * time.Second
	for _, tt := range []struct {
		fault  Registry
		event  discovery.EventKind // what clients are told of it, 0 if nothing
		knows  bool                // that an endpoint has left meanwhile
		unsure bool                // whether there are endpoints at all
	}{
		{"", 0, true, false},
		{RegistryBroken, discovery.EventWatchFailed, false, false},
		{RegistryUnknown, discovery.EventEmptyHeld, false, true},
		{RegistryEmpty, discovery.EventEmptyHeld, false, true},
		{RegistryPartial, discovery.EventRemovalHeld, true, false},
		{RegistryLost, 0, false, false},
		{RegistryStale, 0, false, false},
		{RegistryGarbage, discovery.EventEndpointsDropped, true, false},
		{RegistryRestarted, discovery.EventWatchFailed, true, false},
		{RegistryLate, 0, true, false},
	} {
		t.Run("registry "+string(tt.fault), func(t *testing.T) {
			told := map[discovery.EventKind]int{}
			mesh := zerohop.Config{Hooks: zerohop.Hooks{Discovery: func(_ string, ev discovery.Event) { told[ev.Kind]++ }}}
			s := Scenario{
				Services: map[string]Service{"s": {Endpoints: 4, Workers: 10, Time: Constant(10 * time.Millisecond)}},
				Clients:  []Client{{Service: "s", Rate: 200, Timeout: time.Second, Mesh: mesh}},
				Faults:   []Fault{{Service: "s", Endpoints: []int{0}, At: leaves, For: returns - leaves, Leave: true}},
				For:      30 * time.Second,
			}
			if tt.fault != "" {
				s.Faults = append(s.Faults, Fault{Service: "s", At: begins, For: ends - begins, Registry: tt.fault})
			}
			r := Run(t, s)
			if tt.event != 0 && told[tt.event] == 0 {
				t.Errorf("clients are told %v, want %q among it", told, tt.event)
			}
			if told[discovery.EventWatchFailed] > 0 != (tt.fault == RegistryBroken || tt.fault == RegistryUnknown || tt.fault == RegistryRestarted) {
				t.Errorf("%d watches have ended", told[discovery.EventWatchFailed])
			}
			if got := r.Services["s"].Endpoints[0].Started(leaves+2*time.Second, returns); got == 0 != (tt.knows || tt.unsure && got == 0) {
				t.Errorf("the endpoint that has left gets %d calls", got)
			}
			// An empty answer is not believed for five seconds.
			r.Check(t, Bounds{To: begins + 5*time.Second, Success: 1})
			if got := r.Success(begins+7*time.Second, ends); (got < 1) != tt.unsure {
				t.Errorf("success = %.3f long after the fault has begun", got)
			}
			r.Check(t, Bounds{From: ends + 2*time.Second, Success: 1})
			if got := r.Services["s"].Share(0, ends+2*time.Second, 0); got < 0.05 {
				t.Errorf("the endpoint that has returned gets %.3f of the calls", got)
			}
		})
	}
}

// Most endpoints may also leave for good: clients believe it in the end.
func TestMostEndpointsLeave(t *testing.T) {
	const leave = 10 * time.Second
	r := Run(t, Scenario{
		Services: map[string]Service{"s": {Endpoints: 10, Workers: 10, Time: Constant(10 * time.Millisecond)}},
		Clients:  []Client{{Service: "s", Rate: 200, Timeout: time.Second}},
		Faults:   []Fault{{Service: "s", Endpoints: []int{0, 1, 2, 3, 4, 5, 6}, At: leave, Leave: true}},
		For:      30 * time.Second,
	})
	gone := r.Services["s"].Endpoints[0]
	if gone.Started(leave, leave+grace) == 0 {
		t.Error("the loss of most endpoints is believed at once")
	}
	if got := gone.Started(leave+grace+converge, 0); got > 0 {
		t.Errorf("an endpoint that has left gets %d calls", got)
	}
	r.Check(t, Bounds{Success: 1})
}
