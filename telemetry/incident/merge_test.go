package incident

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

// skew makes a dump that of a process whose clock is ahead.
func (d *Dump) skew(by time.Duration) {
	d.Header.Start, d.Header.Wall = d.Header.Start.Add(by), d.Header.Wall.Add(by)
}

// Two processes call the same servers over HTTP; the clock of one of them is wrong.
func TestMergeOrdersWhatTwoMeshesSaw(t *testing.T) {
	const skew = 37 * time.Second
	var down atomic.Bool
	var addrs []discovery.Endpoint
	for range 2 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if down.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}))
		defer s.Close()
		addrs = append(addrs, discovery.Endpoint{Addr: s.Listener.Addr().String()})
	}
	var recs [2]*Recorder
	var clients [2]*http.Client
	for i := range recs {
		recs[i] = open(t, Config{Instance: []string{"web-1", "web-2"}[i], Memory: minMemory})
		m := openMesh(t, zerohop.Config{Resolver: discovery.Static{"orders": addrs}, Hooks: recs[i].Hooks()})
		base := &http.Transport{}
		defer base.CloseIdleConnections()
		clients[i] = &http.Client{Transport: httpmesh.NewTransport(m, base)}
	}
	get := func() {
		for _, c := range clients {
			resp, err := c.Get("http://orders/")
			if err == nil {
				resp.Body.Close()
			}
		}
	}
	for range 20 {
		get()
	}
	recs[0].Note("first")
	recs[1].Note("second")
	down.Store(true)
	for range 20 {
		get()
	}
	recs[0].Note("third")
	recs[1].Note("fourth")
	one, two := dump(t, recs[0]), dump(t, recs[1])
	two.skew(skew)
	tl := Merge([]*Dump{one, two}, nil)
	if got := tl.Sources[1].Offset + skew; got.Abs() > time.Second {
		t.Errorf("clock corrected by %v, want about %v", tl.Sources[1].Offset, -skew)
	}
	if tl.Sources[1].Marks < enoughKeys {
		t.Errorf("source = %+v, want marks", tl.Sources[1])
	}
	given := Merge([]*Dump{one, two}, map[string]time.Duration{"web-2": -skew})
	var notes []string
	for _, e := range given.Events {
		if e.Kind == KindNote {
			notes = append(notes, e.Text)
		}
	}
	if got := strings.Join(notes, " "); got != "first second third fourth" {
		t.Errorf("notes in the order %q", got)
	}
	calls := uint64(0)
	for _, e := range tl.Events {
		if e.Second != nil {
			calls += e.Second.Calls
		}
	}
	if calls != 80 {
		t.Errorf("%d calls in the timeline, want 80", calls)
	}
}

// Under a clock of its own the order is exact.
func TestMergeEstimatesClocks(t *testing.T) {
	for _, skew := range []time.Duration{-5 * time.Hour, -300 * time.Millisecond, 0, 90 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			a, b := open(t, Config{Instance: "a"}), open(t, Config{Instance: "b"})
			both := []*Recorder{a, b}
			for i := range 5 {
				for _, r := range both {
					r.Hooks().Discovery("orders", discovery.Event{Kind: discovery.EventPublished, Endpoints: 3 + i})
					time.Sleep(time.Millisecond)
				}
				time.Sleep(time.Minute)
			}
			a.Note("cause")
			time.Sleep(100 * time.Millisecond)
			b.Note("effect")
			one, two := dump(t, a), dump(t, b)
			two.skew(skew)
			tl := Merge([]*Dump{one, two}, nil)
			last := tl.Events[len(tl.Events)-2:]
			if last[0].Text != "cause" || last[1].Text != "effect" || (tl.Sources[1].Offset+skew).Abs() > 10*time.Millisecond {
				t.Errorf("skew %v: corrected by %v, order %q, %q", skew, tl.Sources[1].Offset, last[0].Text, last[1].Text)
			}
		})
	}
}

func TestMergeLeavesClocksAloneThatNothingTellsOf(t *testing.T) {
	a, b := open(t, Config{Instance: "a"}), open(t, Config{Instance: "b"})
	a.Note("x")
	b.Note("y")
	tl := Merge([]*Dump{dump(t, a), dump(t, b)}, nil)
	if s := tl.Sources[1]; s.Offset != 0 || s.Doubt == "" {
		t.Errorf("source = %+v, want a doubt", s)
	}
}

func TestMergeTakesDumpsOfOneProcessTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, Config{Instance: "web-1"})
		h := r.Hooks()
		var dumps []*Dump
		for range 3 {
			call(h, "orders", 0, nil)
			call(h, "orders", 0, errBroken)
			dumps = append(dumps, dump(t, r)) // amid a second
			call(h, "orders", 0, nil)
			time.Sleep(time.Second)
		}
		dumps = append(dumps, dump(t, r))
		tl := Merge(dumps, nil)
		var calls uint64
		failed := 0
		for _, e := range tl.Events {
			if e.Second != nil {
				calls += e.Second.Calls
			}
			if e.Kind == KindFailed {
				failed++
			}
		}
		if len(tl.Sources) != 1 || calls != 9 || failed != 3 {
			t.Errorf("%d processes, %d calls, %d failed, want 1, 9 and 3", len(tl.Sources), calls, failed)
		}
	})
}

func TestAnalyseFindsNothingInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, Config{})
		for i := range 600 {
			call(r.Hooks(), "orders", 0, nil)
			if i%100 == 0 {
				call(r.Hooks(), "orders", 0, errBroken)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if f := Analyse(Merge([]*Dump{dump(t, r)}, nil), Scope{}); len(f) != 0 {
			t.Errorf("findings = %+v, want none", f)
		}
	})
}
