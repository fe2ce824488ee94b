package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// lines are the records that a logger got, as JSON.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) records(t *testing.T) (list []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

func newLog() (zerohop.Hooks, *lines) {
	l := &lines{}
	return Log(slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))), l
}

func TestChangesAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l := newLog()
		until := time.Now().Add(time.Minute)
		h.State("orders", zerohop.StateEvent{
			Kind: zerohop.StateEjected, Addr: "10.0.0.1:80", Zone: "b", Cause: "consecutive", Until: until, Value: 5, Bound: 5, Out: 1, Endpoints: 8,
		})
		h.State("orders", zerohop.StateEvent{
			Kind: zerohop.StateOperator, Cause: "force breaker", To: resilience.BreakerForcedOpen, By: "ann",
			Why: "see https://ann:secret@wiki.example/runbook?token=secret \x1b", Lost: 3,
		})
		h.State("orders", zerohop.StateEvent{Kind: "something new"})
		h.Discovery("orders", discovery.Event{
			Kind: discovery.EventWatchFailed, Endpoints: 8, Held: 2, Lost: until, Wait: time.Second, Dropped: discovery.Dropped{Addr: 1, Meta: 2},
			Err: errors.New("Get https://user:secret@consul.example:8501/v1/health?token=secret#secret: refused\x1b[2J"),
		})
		h.Health("orders", zerohop.HealthEvent{Endpoint: discovery.Endpoint{Addr: "10.0.0.1:80"}, Err: errors.New("503")})
		h.Health("orders", zerohop.HealthEvent{Endpoint: discovery.Endpoint{Addr: "10.0.0.1:80"}, Passing: true})
		h.Update(zerohop.UpdateEvent{Generation: 2, Change: zerohop.Change{
			Fields: []zerohop.FieldChange{{Path: "defaults.retry.attempts", Old: "secret"}}, Resets: []string{"x"},
		}})
		h.Update(zerohop.UpdateEvent{Generation: 2, Err: errors.New("bad")})
		synctest.Wait()
		want := []map[string]any{
			{"level": "WARN", "msg": "zerohop: endpoint ejected", "event": "ejected", "service": "orders", "endpoint": "10.0.0.1:80", "zone": "b",
				"cause": "consecutive", "until": until.Format(time.RFC3339Nano), "value": 5., "bound": 5., "out": 1., "endpoints": 8.},
			{"level": "WARN", "event": "operator", "cause": "force breaker", "to": "forced-open", "by": "ann",
				"why": "see https://wiki.example/runbook \uFFFD", "lost_events": 3.},
			{"level": "INFO", "event": "something new"},
			{"level": "WARN", "event": "discovery_watch_failed", "endpoints": 8., "held": 2., "wait": 1e9, "parts": 3.,
				"error": "Get https://consul.example:8501/v1/health refused\uFFFD[2J"},
			{"level": "WARN", "event": "health_failing", "endpoint": "10.0.0.1:80", "error": "503"},
			{"level": "INFO", "event": "health_passing", "endpoint": "10.0.0.1:80"},
			{"level": "INFO", "event": "spec_applied", "generation": 2., "changes": 1., "resets": 1., "fields": []any{"defaults.retry.attempts"}},
			{"level": "ERROR", "event": "spec_refused", "generation": 2., "error": "bad"},
		}
		got := l.records(t)
		if len(got) != len(want) {
			t.Fatalf("%d records, want %d: %v", len(got), len(want), got)
		}
		for i, w := range want {
			for k, v := range w {
				if g := got[i][k]; fmt.Sprint(g) != fmt.Sprint(v) {
					t.Errorf("record %d: %s = %v, want %v", i, k, g, v)
				}
			}
		}
		if strings.Contains(l.buf.String(), "secret") {
			t.Errorf("there is a secret in %s", l.buf.String())
		}
	})
}

func TestEveryEventHasARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l := newLog()
		for k := discovery.EventPublished; k <= discovery.EventSnapshotRejected; k++ {
			h.Discovery("orders", discovery.Event{Kind: k})
		}
		for k := range stateRecords {
			h.State("orders", zerohop.StateEvent{Kind: k})
		}
		synctest.Wait()
		for _, r := range l.records(t) {
			if r["msg"] == "zerohop: " || r["msg"] == "zerohop: state changed" {
				t.Errorf("event %v has no message", r["event"])
			}
		}
		if got, want := len(l.records(t)), int(discovery.EventSnapshotRejected)+len(stateRecords); got != want {
			t.Errorf("%d records, want %d", got, want)
		}
	})
}

func TestRecordsOfAnEventAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l := newLog()
		flood := func() {
			for range 1000 {
				h.State("orders", zerohop.StateEvent{Kind: zerohop.StateEjected, Lost: 2})
			}
			h.State("stock", zerohop.StateEvent{Kind: zerohop.StateEjected})
			synctest.Wait()
		}
		flood()
		if got, want := len(l.records(t)), perSecond+1; got != want {
			t.Errorf("%d records of a flood, want %d", got, want)
		}
		time.Sleep(time.Second)
		flood()
		list := l.records(t)
		if got, want := len(list), 2*(perSecond+1); got != want {
			t.Fatalf("%d records of two floods, want %d", got, want)
		}
		if got, want := list[perSecond+1]["dropped"], float64(1000-perSecond); got != want {
			t.Errorf("dropped = %v, want %v", got, want)
		}
		if got, want := list[perSecond+1]["lost_events"], float64(2*(1000-perSecond+1)); got != want {
			t.Errorf("events lost = %v, want %v with those of the records that were dropped", got, want)
		}
		h.Closed(nil)
		if got, want := l.records(t)[2*(perSecond+1)]["dropped"], float64(1000-perSecond); got != want {
			t.Errorf("dropped in the end = %v, want %v", got, want)
		}
		h.Closed(nil)
		if got, want := len(l.records(t)), 2*(perSecond+1)+1; got != want {
			t.Errorf("%d records, want %d: what was dropped is told once", got, want)
		}
	})
}

// stuck is a handler that blocks until it is let go, and then panics.
type stuck struct {
	slog.Handler
	free chan struct{}
	n    *int
}

func (s stuck) Enabled(context.Context, slog.Level) bool { return true }

func (s stuck) Handle(context.Context, slog.Record) error {
	<-s.free
	*s.n++
	panic("no")
}

// Calls never wait for a logger, and what it keeps waiting is bounded.
func TestLoggerThatBlocksBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, free := 0, make(chan struct{})
		h := Log(slog.New(stuck{free: free, n: &n}))
		begin := time.Now()
		const events = 10 * maxKeys
		for i := range events {
			h.State(fmt.Sprint("service-", i), zerohop.StateEvent{Kind: zerohop.StateEjected})
		}
		if d := time.Since(begin); d > 0 { // the time of the bubble passes while all wait
			t.Errorf("hooks waited %v for the logger", d)
		}
		h.Closed(nil)
		if got := time.Since(begin); got != closing {
			t.Errorf("Close waited %v for the logger, want %v", got, closing)
		}
		close(free)
		synctest.Wait()
		if n > maxQueued+1 || n < maxQueued {
			t.Errorf("%d records were kept, want %d", n, maxQueued)
		}
		h.State("orders", zerohop.StateEvent{Kind: zerohop.StateEjected})
		synctest.Wait() // goleak sees if anything is left
	})
}

func TestDefaultLoggerIsThatOfTheTime(t *testing.T) {
	h := Log(nil)
	before := slog.Default()
	defer slog.SetDefault(before)
	l := &lines{}
	slog.SetDefault(slog.New(slog.NewJSONHandler(l, nil)))
	h.State("orders", zerohop.StateEvent{Kind: zerohop.StateBudgetEmpty})
	h.Closed(nil)
	if got, want := len(l.records(t)), 1; got != want {
		t.Errorf("%d records, want %d", got, want)
	}
}
