package sim

import (
	"testing"
	"time"
)

// A client that goes on after a while finds answers, and timers that have fired: no call may fail for these.
func TestAnswersWinAgainstTimersAfterAPause(t *testing.T) {
	const begins, ends = 10 * time.Second, 25 * time.Second
	s := one(Service{Workers: 10, Time: Constant(10 * time.Millisecond)}, 200, time.Second, Fault{At: begins, For: ends - begins, Pause: true})
	r := Run(t, s)
	if got := r.Started(begins+time.Second, ends); got != 0 {
		t.Errorf("a client that is stopped makes %d calls", got)
	}
	r.Check(t, Bounds{Success: 1, Amplification: 1})
	if got := r.Quantile(1, ends, ends+time.Second); got < 10*time.Second {
		t.Errorf("the longest call took %v, want one from before the pause", got)
	}
}

func TestTimersAreLate(t *testing.T) {
	service := Service{Workers: 100, Time: Constant(150 * time.Millisecond)}
	if got := Run(t, one(service, 100, 100*time.Millisecond)).Success(0, 0); got != 0 {
		t.Errorf("success of calls that have too little time = %.3f, want 0", got)
	}
	got := Run(t, one(service, 100, 100*time.Millisecond, Fault{Late: 300 * time.Millisecond})).Success(time.Second, 0)
	if got < 0.75 || got > 0.9 { // 250 of 300 ms are late enough
		t.Errorf("success with timers up to 300 ms late = %.3f, want 0.83", got)
	}
}

func TestCallersWhoLeaveDoNotCount(t *testing.T) {
	s := one(Service{Workers: 100, Time: Constant(100 * time.Millisecond)}, 100, time.Second)
	s.Clients[0].Patience = Mix(Constant(50*time.Millisecond), 0.5, Constant(time.Second))
	r := Run(t, s)
	sum, _ := r.total(0, 0)
	if part := float64(sum.good) / float64(sum.started); sum.failed != 0 || part < 0.45 || part > 0.55 {
		t.Errorf("%d good and %d failed of %d calls, want half and none", sum.good, sum.failed, sum.started)
	}
}

// What hangs does not make calls either.
func TestHungEndpointMakesNoCalls(t *testing.T) {
	const begins, ends = 10 * time.Second, 20 * time.Second
	s := one(Service{Workers: 10, Calls: []Call{{Service: "back"}}}, 100, 0, Fault{At: begins, For: ends - begins, Hang: true})
	s.Services["back"] = Service{Workers: 100, Time: Constant(100 * time.Millisecond)}
	r := Run(t, s)
	if got := r.Services["s"].Calls.Started(begins+time.Second, ends); got != 0 {
		t.Errorf("%d calls begin meanwhile", got)
	}
	r.Check(t, Bounds{Success: 1})
}
