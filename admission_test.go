package zerohop

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

func newAdmission(t *testing.T, p AdmissionPolicy) *Admission {
	t.Helper()
	a, err := NewAdmission(AdmissionConfig{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// arrive makes a request come at the given time that must not wait.
func arrive(t *testing.T, a *Admission, now time.Duration, r Arrival) (*Visit, *AdmissionError) {
	t.Helper()
	v := &Visit{Arrival: r}
	waits, err := a.Enter(now, v, func(time.Duration, *AdmissionError) { t.Error("told though it did not wait") })
	if waits {
		t.Fatalf("%+v waits", r)
	}
	return v, err
}

// teach makes an Admission learn how long an operation takes.
func teach(t *testing.T, a *Admission, now time.Duration, operation string, took time.Duration) time.Duration {
	t.Helper()
	for range 30 {
		v, err := arrive(t, a, now, Arrival{Operation: operation})
		if err != nil {
			t.Fatal(err)
		}
		now += took
		v.LeaveAt(now, resilience.Success)
	}
	return now
}

func TestAdmissionRefusesWhatWouldBeTooLate(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name    string
		policy  AdmissionPolicy
		arrival Arrival
		refused bool
		noTime  bool
	}{
		{"enough", AdmissionPolicy{}, Arrival{Operation: "slow", Left: 150 * ms}, false, false},
		{"too little", AdmissionPolicy{}, Arrival{Operation: "slow", Left: 50 * ms}, true, true},
		{"no deadline", AdmissionPolicy{}, Arrival{Operation: "slow"}, false, false},
		{"another operation", AdmissionPolicy{}, Arrival{Operation: "fast", Left: 50 * ms}, false, false},
		{"an unknown one", AdmissionPolicy{}, Arrival{Operation: "new", Left: 50 * ms}, false, false},
		{"stream", AdmissionPolicy{}, Arrival{Operation: "slow", Left: 50 * ms, Stream: true}, false, false},
		{"off", AdmissionPolicy{Deadline: Off}, Arrival{Operation: "slow", Left: 50 * ms}, false, false},
		{"the attempt has too little", AdmissionPolicy{}, Arrival{Operation: "slow", Left: 500 * ms, AttemptLeft: 50 * ms}, true, false},
		{"the attempt has too little, without a deadline", AdmissionPolicy{}, Arrival{Operation: "slow", AttemptLeft: 50 * ms}, true, false},
		{"the attempt has more than the call", AdmissionPolicy{}, Arrival{Operation: "slow", Left: 50 * ms, AttemptLeft: 500 * ms}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.policy.Mode = On
			a := newAdmission(t, tt.policy)
			now := teach(t, a, time.Second, "fast", 10*ms)
			now = teach(t, a, now, "slow", 100*ms)
			if v, err := arrive(t, a, now, Arrival{Operation: "slow"}); err != nil { // so that the next is no trial
				t.Fatal(err)
			} else {
				v.LeaveAt(now, resilience.Neutral)
			}
			v, err := arrive(t, a, now, tt.arrival)
			if got := err != nil; got != tt.refused || got && (err.NoTime != tt.noTime || err.Final != tt.noTime || err.Admission != resilience.Late || !errors.Is(err, resilience.ErrLimited)) {
				t.Errorf("Enter() = %+v, want refused %v, for no time %v", err, tt.refused, tt.noTime)
			}
			if err == nil {
				v.LeaveAt(now, resilience.Success)
			}
			if s := a.State(); s.InFlight != 0 {
				t.Errorf("%d in flight at rest", s.InFlight)
			}
		})
	}
}

// What was learned in a bad time does not outlive it, though every caller is in more of a hurry than the service was.
func TestAdmissionFindsOutThatTheServiceRecovered(t *testing.T) {
	const ms = time.Millisecond
	a := newAdmission(t, AdmissionPolicy{Mode: On})
	now := teach(t, a, time.Second, "get", 400*ms) // too slow for anybody
	refused, row, begin := 0, 0, now
	for ; row < 10 && now < begin+5*time.Second; now += 5 * ms { // until ten in a row are let in
		v, err := arrive(t, a, now, Arrival{Operation: "get", Left: 200 * ms})
		if err != nil {
			refused, row = refused+1, 0
			continue
		}
		v.LeaveAt(now+20*ms, resilience.Success) // it is as fast as ever
		row++
	}
	if took := now - begin; took > time.Second || refused < 10 {
		t.Errorf("it refused %d and recovered after %v, want some and within 1 s", refused, took)
	}
}

func TestAdmissionLearnsNothingFromStreamsAndFailures(t *testing.T) {
	a := newAdmission(t, AdmissionPolicy{Mode: On})
	now := time.Second
	for range 30 {
		for o, stream := range map[resilience.Outcome]bool{resilience.Success: true, resilience.Failure: false} {
			v, err := arrive(t, a, now, Arrival{Operation: "chat", Stream: stream})
			if err != nil {
				t.Fatal(err)
			}
			now += time.Second / 10
			v.LeaveAt(now, o)
		}
	}
	if o := a.known("chat"); o != nil {
		t.Errorf("an operation is known to take %v", o.expected(now, time.Hour))
	}
}

func TestAdmissionShedsTheLeastCriticalFirst(t *testing.T) {
	a := newAdmission(t, AdmissionPolicy{Mode: On, Algorithm: "fixed", Max: 4, Queue: -1})
	want := map[resilience.Criticality]int{resilience.Sheddable: 3, resilience.SheddablePlus: 4, resilience.Critical: 4, resilience.CriticalPlus: 4}
	for level, want := range want {
		var in []*Visit
		for range 10 {
			v, err := arrive(t, a, 0, Arrival{Criticality: level})
			if err == nil {
				in = append(in, v)
			} else if final := level < resilience.Critical; err.Final != final || err.NoTime || err.Admission != resilience.Full {
				t.Errorf("%v: %+v, want full, and final: %v", level, err, final)
			}
		}
		if len(in) != want {
			t.Errorf("%d of 10 %v requests are let in, want %d", len(in), level, want)
		}
		for _, v := range in {
			v.LeaveAt(1, resilience.Success)
		}
	}
	if got := a.State(); got.NoPlace != 25 || got.NoTime != 0 || got.InFlight != 0 {
		t.Errorf("State() = %+v, want 25 refused for lack of place", got)
	}
	// One that was refused elsewhere before is told not to go on.
	for range 4 {
		arrive(t, a, 0, Arrival{})
	}
	if _, err := arrive(t, a, 0, Arrival{Attempt: 1}); err == nil || !err.Final {
		t.Errorf("a repetition: %+v, want a final refusal", err)
	}
}

func TestAdmissionTellsThoseWhoWait(t *testing.T) {
	const ms = time.Millisecond
	a := newAdmission(t, AdmissionPolicy{Mode: On, Algorithm: "fixed", Max: 1, Queue: 2})
	first, _ := arrive(t, a, 0, Arrival{})
	told := map[string]*AdmissionError{}
	wait := func(name string, r Arrival) *Visit {
		v := &Visit{Arrival: r}
		if waits, err := a.Enter(0, v, func(_ time.Duration, err *AdmissionError) { told[name] = err }); !waits {
			t.Fatalf("%s does not wait: %v", name, err)
		}
		return v
	}
	low := wait("low", Arrival{Criticality: resilience.Sheddable, Left: time.Hour})
	wait("hurried", Arrival{Left: 10 * ms})
	high := wait("high", Arrival{Criticality: resilience.CriticalPlus})
	if err := told["low"]; err == nil || err.Admission != resilience.Evicted || !err.Final {
		t.Errorf("the least critical one was told %v, want that it gives way", err)
	}
	if wake := a.Wake(); wake > 11*ms || wake == 0 {
		t.Errorf("Wake() = %v, want about 10 ms", wake)
	}
	a.Tick(a.Wake())
	if err := told["hurried"]; err == nil || !err.NoTime {
		t.Errorf("the hurried one was told %v, want that its time is up", err)
	}
	first.LeaveAt(20*ms, resilience.Success)
	if err, ok := told["high"]; !ok || err != nil {
		t.Errorf("the most critical one was told %v, %v, want that it is let in", err, ok)
	}
	high.LeaveAt(30*ms, resilience.Success)
	high.LeaveAt(31*ms, resilience.Success)
	low.LeaveAt(31*ms, resilience.Success)
	if s := a.State(); s.InFlight != 0 || s.Queued != 0 {
		t.Errorf("State() = %+v at rest", s)
	}
}

func TestAdmissionObservesAndRefusesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, mode := range []Switch{Inherit, Observe, On, Off} {
			var told []AdmissionRefusal
			a, err := NewAdmission(AdmissionConfig{
				Policy:  AdmissionPolicy{Mode: mode, Algorithm: "fixed", Max: 1, Queue: -1},
				Refused: func(_ context.Context, r AdmissionRefusal) { told = append(told, r) },
			})
			if err != nil {
				t.Fatal(err)
			}
			var in [3]Visit
			refused := 0
			for i := range in {
				in[i].Operation = "get"
				if err := a.Admit(t.Context(), &in[i]); err != nil {
					refused++
				}
			}
			for i := range in {
				in[i].Answered()
				in[i].Leave(resilience.Success)
			}
			wantRefused, wantTold := 0, 2
			switch mode {
			case On:
				wantRefused = 2
			case Off:
				wantTold = 0
			}
			if refused != wantRefused || len(told) != wantTold || a.State().NoPlace != int64(wantTold) || a.State().InFlight != 0 {
				t.Errorf("mode %q: %d refused, %d told, %+v, want %d, %d", mode, refused, len(told), a.State(), wantRefused, wantTold)
			}
			for _, r := range told {
				if r.Enforced != (mode == On) || r.Arrival.Operation != "get" || r.Err.Admission != resilience.Full {
					t.Errorf("mode %q: told %+v", mode, r)
				}
			}
		}
	})
}

func TestAdmissionWaitsNoLongerThanItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(t, AdmissionPolicy{Mode: On, Algorithm: "fixed", Max: 1})
		var first, second, third Visit
		if err := a.Admit(t.Context(), &first); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := a.Admit(ctx, &second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Admit() = %v, want that the context ended", err)
		}
		second.Leave(resilience.Success) // owed nothing
		time.AfterFunc(30*time.Millisecond, func() { first.Leave(resilience.Success) })
		start := time.Now()
		if err := a.Admit(t.Context(), &third); err != nil || time.Since(start) != 30*time.Millisecond {
			t.Errorf("Admit() = %v after %v, want a place after 30ms", err, time.Since(start))
		}
		third.Leave(resilience.Success)
		if s := a.State(); s.InFlight != 0 || s.Queued != 0 {
			t.Errorf("State() = %+v at rest", s)
		}
	})
}

// Names from strangers do not fill the memory.
func TestAdmissionLearnsOfABoundedNumberOfOperations(t *testing.T) {
	a := newAdmission(t, AdmissionPolicy{Mode: On})
	for i := range 3 * maxOperations {
		teach(t, a, time.Duration(i+1)*time.Second, strings.Repeat("x", i), time.Millisecond)
	}
	if got := len(*a.operations.Load()); got != maxOperations {
		t.Errorf("%d operations are kept, want %d", got, maxOperations)
	}
	if a.known("another") != &a.others {
		t.Error("the others do not share what they learn")
	}
}

func TestAdmissionPolicyIsValidated(t *testing.T) {
	_, err := NewAdmission(AdmissionConfig{Policy: AdmissionPolicy{Mode: "maybe", Deadline: Observe, Algorithm: "vegas", Max: -1, Min: -2, Timeout: -1}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`mode: must be "on", "off" or "observe", got "maybe"`, `deadline: must be "on" or "off", got "observe"`,
		`algorithm: must be "fixed", "aimd" or "gradient", got "vegas"`, "max: must be", "min: must be", "timeout: must not",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestAdmissionCostsNoAllocation(t *testing.T) {
	a := newAdmission(t, AdmissionPolicy{Mode: On})
	teach(t, a, time.Second, "get", time.Millisecond)
	ctx, v := t.Context(), new(Visit)
	got := testing.AllocsPerRun(100, func() {
		*v = Visit{Arrival: Arrival{Operation: "get", Left: time.Hour}}
		if err := a.Admit(ctx, v); err != nil {
			t.Fatal(err)
		}
		v.Leave(resilience.Success)
	})
	if got > 0 {
		t.Errorf("a visit costs %v allocations, want none", got)
	}
}

func BenchmarkAdmission(b *testing.B) {
	for _, mode := range []Switch{Off, Observe, On} {
		b.Run(string(mode), func(b *testing.B) {
			a, err := NewAdmission(AdmissionConfig{Policy: AdmissionPolicy{Mode: mode}})
			if err != nil {
				b.Fatal(err)
			}
			ctx, v := b.Context(), new(Visit)
			b.ReportAllocs()
			for b.Loop() {
				*v = Visit{Arrival: Arrival{Operation: "get", Left: time.Hour}}
				if err := a.Admit(ctx, v); err != nil {
					b.Fatal(err)
				}
				v.Leave(resilience.Success)
			}
		})
	}
}
