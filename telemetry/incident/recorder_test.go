package incident

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

func TestRecorderKeepsWhatCallsMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, Config{Instance: "web-1", Zone: "eu-1", Mesh: "shop"})
		var down atomic.Bool
		m := openMesh(t, zerohop.Config{
			Resolver: discovery.Static{"orders": endpoints(3)}, Hooks: zerohop.JoinHooks(zerohop.Hooks{}, r.Hooks()),
		})
		tr := httpmesh.NewTransport(m, roundTrip(func(req *http.Request) (*http.Response, error) {
			time.Sleep(5 * time.Millisecond)
			if down.Load() || req.URL.Host == "10.0.0.1:80" {
				return nil, errRefused
			}
			return answer(req, 200)
		}))
		const secret = "hunter2"
		get := func() error {
			req, err := http.NewRequestWithContext(t.Context(), "GET", "http://orders/v1?token="+secret, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", secret)
			resp, err := tr.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
			}
			return err
		}
		failed := 0
		for i := range 300 {
			down.Store(i >= 200)
			if err := get(); err != nil {
				failed++
			}
			time.Sleep(20 * time.Millisecond)
		}
		synctest.Wait()
		var raw bytes.Buffer
		if err := r.Dump(&raw); err != nil {
			t.Fatal(err)
		}
		d := dump(t, r)
		if strings.Contains(unzip(t, raw.Bytes()), secret) {
			t.Error("the dump has a secret")
		}
		if p := d.Header.Process; p.Instance != "web-1" || p.Zone != "eu-1" || p.Mesh != "shop" || p.PID == 0 || p.Go == "" {
			t.Errorf("Process = %+v", p)
		}
		s := d.total("orders")
		if s.Calls != 300 || s.Bad != uint64(failed) || failed < 50 {
			t.Errorf("total = %d calls, %d bad, want 300 and %d", s.Calls, s.Bad, failed)
		}
		if s.Retries == 0 || s.Attempts[FailedRefused] == 0 || len(s.Attempts) != 1 {
			t.Errorf("total = %+v, want retries, and attempts that were refused alone", s)
		}
		if got := d.of(KindFailed); len(got) == 0 {
			t.Error("no call that failed")
		}
		if got := d.of(KindAttempt); len(got) == 0 || got[0].Addr != "10.0.0.1:80" || got[0].Cause != string(FailedRefused) || !strings.Contains(got[0].Text, "refused") {
			t.Errorf("first failed attempt = %+v, want that of 10.0.0.1:80", got[:min(1, len(got))])
		}
		if got := d.of(KindRetry); len(got) == 0 || got[0].Number != 1 {
			t.Errorf("retries = %+v", got)
		}
		if got := d.of(KindOpened); len(got) != 1 {
			t.Errorf("%d meshes opened, want 1", len(got))
		}
		if got := d.of(KindDiscovery); len(got) == 0 || got[0].Cause != "published" || got[0].Endpoints != 3 {
			t.Errorf("discovery = %+v, want 3 endpoints published", got)
		}
		if !slices.IsSortedFunc(d.Entries, func(a, b Entry) int { return int(a.At/time.Second - b.At/time.Second) }) {
			t.Error("entries are not sorted")
		}
	})
}

func TestRecorderTellsFailedCallsFromOthers(t *testing.T) {
	canceled := zerohop.CallResult{Err: context.Canceled, Outcome: resilience.Neutral, Detail: resilience.Canceled}
	for name, test := range map[string]struct {
		result        zerohop.CallResult
		bad, canceled uint64
	}{
		"success":  {zerohop.CallResult{Status: 200}, 0, 0},
		"canceled": {canceled, 0, 1},
		"status":   {zerohop.CallResult{Status: 500, Outcome: resilience.Failure}, 1, 0},
		"overload": {zerohop.CallResult{Status: 429, Outcome: resilience.Overload}, 1, 0},
		"refused":  {zerohop.CallResult{Status: -1, Outcome: resilience.Neutral, Err: errBroken}, 1, 0},
		"deadline": {zerohop.CallResult{Status: -1, Outcome: resilience.Neutral, Err: context.DeadlineExceeded, Detail: resilience.Canceled}, 1, 0},
	} {
		r := open(t, Config{})
		r.Hooks().CallDone(t.Context(), zerohop.CallInfo{Service: "orders", Start: time.Now()}, test.result)
		if s := dump(t, r).total("orders"); s.Calls != 1 || s.Bad != test.bad || s.Canceled != test.canceled {
			t.Errorf("%s: %+v, want %d bad, %d canceled", name, s, test.bad, test.canceled)
		}
	}
}

// A failed call is counted and kept once, whether it is explained or not.
func TestRecorderCountsExplainedCallsOnce(t *testing.T) {
	r := open(t, Config{})
	h := r.Hooks()
	for i := range 2 {
		info := zerohop.CallInfo{Service: "orders", Start: time.Now()}
		result := zerohop.CallResult{Status: -1, Err: errBroken, Outcome: resilience.Failure, Duration: time.Millisecond}
		if i == 0 {
			x := &zerohop.Explanation{CallInfo: info, CallResult: result, Error: "get http://u:p@orders/?k=v", Reason: zerohop.Failed, Flag: zerohop.FlagConnect, N: 1, NR: 1}
			x.Tries[0] = zerohop.Try{Addr: "10.0.0.1:80", Outcome: resilience.Failure, Flag: zerohop.FlagConnect, Error: "refused"}
			x.Tries[0].Choice.Nodes, x.Tries[0].Choice.Removed[loadbalance.OutEjected] = 3, 2
			x.Refusals[0] = zerohop.StageRefusal{Stage: zerohop.StageThrottle}
			h.Explained(t.Context(), x)
		}
		h.CallDone(t.Context(), info, result)
	}
	d := dump(t, r)
	if s := d.total("orders"); s.Calls != 2 || s.Bad != 2 || s.Flags["UF"] != 1 || s.Flags["-"] != 1 {
		t.Errorf("total = %+v, want 2 bad calls, one of them UF", s)
	}
	got := d.of(KindFailed)
	if len(got) != 2 || got[0].Call == nil || got[1].Call != nil {
		t.Fatalf("failed calls = %+v, want 2, the first explained", got)
	}
	c := got[0].Call
	if c.Flag != "UF" || len(c.Tries) != 1 || c.Tries[0].Addr != "10.0.0.1:80" || c.Tries[0].Removed["ejected"] != 2 || c.Refusals[0] != "throttle (observed)" {
		t.Errorf("explanation = %+v", c)
	}
	if want := "get http://***@orders/?***"; got[0].Text != want {
		t.Errorf("text = %q, want %q", got[0].Text, want)
	}
}

func TestRecorderOmitsTexts(t *testing.T) {
	r := open(t, Config{OmitTexts: true})
	call(r.Hooks(), "orders", 0, errBroken)
	r.Hooks().Health("orders", zerohop.HealthEvent{Err: errBroken})
	if s := string(mustJSON(t, dump(t, r).Entries)); strings.Contains(s, "broken") {
		t.Errorf("entries have a text: %s", s)
	}
}

// A flood of failures takes no more than its share, and what happened before it is still there.
func TestRecorderKeepsStatesThroughFloods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, Config{Memory: minMemory})
		h := r.Hooks()
		h.State("orders", zerohop.StateEvent{Kind: zerohop.StateEjected, Addr: "10.0.0.1:80", Cause: "consecutive", Time: time.Now(), Until: time.Now().Add(time.Second)})
		const seconds, rate = 30, 300
		for range seconds {
			for range rate {
				call(h, "orders", time.Millisecond, errBroken)
			}
			time.Sleep(time.Second)
		}
		d := dump(t, r)
		if got := d.of("ejected"); len(got) != 1 || got[0].For != time.Second {
			t.Errorf("ejections = %+v, want one", got)
		}
		if s := d.total("orders"); s.Calls != seconds*rate || s.Bad != seconds*rate {
			t.Errorf("total = %d calls, %d bad, want %d", s.Calls, s.Bad, seconds*rate)
		}
		if got, want := len(d.of(KindFailed)), seconds*keepFailed; got != want {
			t.Errorf("%d failed calls kept, want %d", got, want)
		}
		if d.Header.Traffic.Overwritten != 0 {
			t.Errorf("Traffic = %+v, want nothing overwritten", d.Header.Traffic)
		}
	})
}

// An outage of 20 services at 10,000 calls a second stays in the default memory for four minutes.
func TestRecorderCoversMinutesOfAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, Config{Memory: defaultMemory / 4}) // a quarter of it for a quarter of the time
		h := r.Hooks()
		x := &zerohop.Explanation{Error: strings.Repeat("e", 256), Reason: zerohop.Failed, Flag: zerohop.FlagRetries, N: 3}
		for i := range 3 {
			x.Tries[i] = zerohop.Try{Addr: "10.123.123.123:12345", Zone: "eu-central-1a", Error: strings.Repeat("e", 128), Flag: zerohop.FlagConnect, Latency: 123456789}
			x.Tries[i].Choice.Nodes, x.Tries[i].Choice.N = 20, 2
			for j := range 2 {
				x.Tries[i].Choice.Compared[j].Addr, x.Tries[i].Choice.Compared[j].Score = "10.123.123.123:12345", 0.00123
			}
		}
		begin := time.Now()
		for range 70 {
			for i := range 80 { // more than are kept
				x.CallInfo = zerohop.CallInfo{Service: fmt.Sprint("service-", i%20), Protocol: "http", Method: "GET", Start: time.Now()}
				x.CallResult = zerohop.CallResult{Status: -1, Outcome: resilience.Failure, Err: errRefused, Duration: time.Millisecond}
				h.Explained(t.Context(), x)
				h.CallDone(t.Context(), x.CallInfo, x.CallResult)
				h.AttemptDone(t.Context(), x.CallInfo, zerohop.AttemptInfo{}, zerohop.AttemptResult{Outcome: resilience.Failure, Err: errRefused})
			}
			time.Sleep(time.Second)
		}
		d := dump(t, r)
		for _, s := range []RingState{d.Header.Traffic, d.Header.Seconds, d.Header.States} {
			if covered := time.Since(begin) - s.Since; covered < time.Minute {
				t.Errorf("%+v covers %v, want 1m or more", s, covered)
			}
		}
		t.Logf("traffic %+v, seconds %+v", d.Header.Traffic, d.Header.Seconds)
	})
}

func TestRecorderTakesNamesFromAnybody(t *testing.T) {
	r := open(t, Config{Memory: minMemory})
	h := r.Hooks()
	for i := range 5000 {
		call(h, fmt.Sprint("service-", i), 0, nil)
	}
	call(h, "\x1b[2J<script>", 0, nil)
	call(h, strings.Repeat("x", 1000), 0, nil)
	if n := len(*r.series.Load()); n > r.maxSeries {
		t.Errorf("%d series, want at most %d", n, r.maxSeries)
	}
	d := dump(t, r)
	if got, want := d.total(other).Calls, uint64(5002-r.maxSeries); got != want {
		t.Errorf("%d calls to others, want %d", got, want)
	}
}

func TestRecorderIsSafeForConcurrentUse(t *testing.T) {
	r := open(t, Config{Memory: minMemory})
	h := r.Hooks()
	const goroutines, calls = 8, 300
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := r.Dump(io.Discard); err != nil {
					t.Error(err)
				}
			}
		}
	})
	var calling sync.WaitGroup
	for g := range goroutines {
		calling.Go(func() {
			for i := range calls {
				info := zerohop.CallInfo{Service: fmt.Sprint("s", i%3), Start: time.Now().Add(time.Duration(i) * time.Millisecond)}
				res := zerohop.CallResult{Duration: time.Millisecond}
				if i%10 == g {
					res.Err, res.Outcome = errBroken, resilience.Failure
					h.AttemptDone(t.Context(), info, zerohop.AttemptInfo{Number: 1}, zerohop.AttemptResult{Outcome: resilience.Failure, Err: errBroken})
					h.Refused(t.Context(), info, zerohop.Refusal{Stage: zerohop.StageLimit})
					h.FellBack(t.Context(), info, "other", errBroken)
				}
				h.CallDone(t.Context(), info, res)
				h.Discovery("s", discovery.Event{Kind: discovery.EventPublished})
				h.Update(zerohop.UpdateEvent{Generation: 2})
				r.Note("a note")
			}
		})
	}
	calling.Wait()
	close(stop)
	wg.Wait()
	d := dump(t, r)
	var all uint64
	for i := range 3 {
		all += d.total(fmt.Sprint("s", i)).Calls
	}
	if all != goroutines*calls {
		t.Errorf("%d calls, want %d: none is lost or counted twice", all, goroutines*calls)
	}
}

func TestNewNamesMistakes(t *testing.T) {
	for want, cfg := range map[string]Config{
		"Memory is 5":                         {Memory: 5},
		"MaxFiles":                            {MaxFiles: -1},
		"SLOs[0].Objective":                   {SLOs: []SLO{{Objective: 1}}},
		"SLOs[1].Latency is 2s":               {SLOs: []SLO{{Objective: .9, Latency: time.Second}, {Objective: .9, Latency: 2 * time.Second}}},
		"SLOs[0].Burns[0]":                    {SLOs: []SLO{{Objective: .9, Burns: []Burn{{time.Second, time.Minute, 1}}}}},
		"Latency of the SLO for all services": {SLOs: []SLO{{Objective: .9, Latency: time.Second}, {Service: "a", Objective: .9, Latency: 2 * time.Second}}},
		"65 SLOs":                             {SLOs: slices.Repeat([]SLO{{Objective: .9}}, 65)},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New(%+v) = %v, want %q", cfg, err, want)
		}
	}
	if _, err := New(Config{Memory: 5, MaxFiles: -1}); err == nil || !strings.Contains(err.Error(), "MaxFiles") {
		t.Errorf("New() = %v, want all mistakes", err)
	}
}

func TestSuccessfulCallsAllocateNothing(t *testing.T) {
	r := open(t, Config{SLOs: []SLO{{Service: "orders", Objective: .999, Latency: time.Second}}})
	h := r.Hooks()
	ctx, info := t.Context(), zerohop.CallInfo{Service: "orders", Start: time.Now()}
	h.CallDone(ctx, info, zerohop.CallResult{Duration: time.Millisecond})
	if n := testing.AllocsPerRun(1000, func() {
		h.AttemptDone(ctx, info, zerohop.AttemptInfo{}, zerohop.AttemptResult{})
		h.CallDone(ctx, info, zerohop.CallResult{Duration: time.Millisecond})
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestFailuresAreToldApart(t *testing.T) {
	for want, err := range map[Failure]error{
		FailedRefused: errRefused, FailedReset: errReset, FailedTimeout: context.DeadlineExceeded, FailedClosed: io.ErrUnexpectedEOF,
		FailedOther: errBroken, FailedTLS: errors.New("x509: certificate has expired"), FailedConnect: errors.New("error while dialing: no route"),
	} {
		if got := failureOf(&zerohop.AttemptResult{Err: fmt.Errorf("wrapped: %w", err), Outcome: resilience.Failure}); got != want {
			t.Errorf("failureOf(%v) = %q, want %q", err, got, want)
		}
	}
	if got := failureOf(&zerohop.AttemptResult{Status: 500, Outcome: resilience.Failure}); got != FailedStatus {
		t.Errorf("failureOf(500) = %q", got)
	}
}

func TestRemovalsHaveWords(t *testing.T) {
	for i, words := range removals {
		if words == "" && loadbalance.Removal(i) != loadbalance.NotRemoved {
			t.Errorf("removal %d has no words", i)
		}
	}
}
