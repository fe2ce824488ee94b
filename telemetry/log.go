package telemetry

import (
	"log/slog"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
)

// Log returns hooks that write what changes around calls to a logger: endpoints that are ejected, breakers that open, budgets that
// are empty, sources that are not heard, specs that are refused, what operators do. nil means slog.Default() at the time. Nothing is
// written for single calls. zerohop.JoinHooks joins them with those of New.
//
// Each record has the attribute "event", a fixed word, and those of "service", "endpoint", "zone", "cause", "to", "until", "by", "why" and
// so on that there are. What goes against calls is of slog.LevelWarn, what ends that of LevelInfo, and an Update that was refused is of
// LevelError. Texts from outside are cut to 256 bytes and have no control characters; URLs in them have no user, password or query.
//
// A logger may block: nobody waits for it. Records pass a queue of 256, from which a goroutine writes that exists only while there
// are some, and so needs nobody to stop it. Of each event of a service 10 records a second are written at most. What is dropped for
// either reason is counted, and told as "dropped" in the next record of that event; what zerohop.StateEvent.Lost counts is "lost_events".
// Mesh.Close tells the rest, and waits for the queue to be written for a second at most.
func Log(l *slog.Logger) zerohop.Hooks {
	q := &logQueue{logger: l}
	return zerohop.Hooks{
		State:     q.state,
		Discovery: q.discovery,
		Health:    q.health,
		Update:    q.update,
		Closed:    func(*zerohop.Mesh) { q.flush() },
	}
}

// stateRecord is how a zerohop.StateKind is told.
type stateRecord struct {
	level   slog.Level
	message string
}

var stateRecords = map[zerohop.StateKind]stateRecord{
	zerohop.StateEjected:           {slog.LevelWarn, "endpoint ejected"},
	zerohop.StateSpared:            {slog.LevelWarn, "endpoint spared: too many are ejected"},
	zerohop.StateReturned:          {slog.LevelInfo, "endpoint back in service"},
	zerohop.StatePanicBegan:        {slog.LevelWarn, "too few endpoints in service: all are picked"},
	zerohop.StatePanicEnded:        {slog.LevelInfo, "enough endpoints in service again"},
	zerohop.StateBreakerOpened:     {slog.LevelWarn, "circuit breaker opened"},
	zerohop.StateBreakerHalfOpened: {slog.LevelInfo, "circuit breaker probes"},
	zerohop.StateBreakerClosed:     {slog.LevelInfo, "circuit breaker closed"},
	zerohop.StateSpillBegan:        {slog.LevelWarn, "calls leave their zone or priority"},
	zerohop.StateSpillEnded:        {slog.LevelInfo, "calls stay in their zone and priority"},
	zerohop.StateBudgetEmpty:       {slog.LevelWarn, "retry budget empty"},
	zerohop.StateBudgetRestored:    {slog.LevelInfo, "retry budget restored"},
	zerohop.StateShedding:          {slog.LevelWarn, "calls are refused"},
	zerohop.StateShedEnded:         {slog.LevelInfo, "calls are not refused any more"},
	zerohop.StateOperator:          {slog.LevelWarn, "operator acted"},
	zerohop.StateOperatorEnded:     {slog.LevelInfo, "action of an operator ended"},
}

func (q *logQueue) state(name string, ev zerohop.StateEvent) {
	r, ok := stateRecords[ev.Kind]
	if !ok {
		r = stateRecord{slog.LevelInfo, "state changed"}
	}
	q.put(what{name, string(ev.Kind), r.level, r.message, ev.Lost}, func() []slog.Attr {
		list := appendText(nil, "endpoint", ev.Addr)
		list = appendText(list, "zone", ev.Zone)
		list = appendText(list, "cause", ev.Cause)
		list = appendText(list, "to", string(ev.To))
		list = appendText(list, "by", ev.By)
		list = appendText(list, "why", ev.Why)
		if !ev.Until.IsZero() {
			list = append(list, slog.Time("until", ev.Until))
		}
		if ev.Value != 0 || ev.Bound != 0 {
			list = append(list, slog.Float64("value", ev.Value), slog.Float64("bound", ev.Bound))
		}
		if ev.Endpoints > 0 {
			list = append(list, slog.Int("out", ev.Out), slog.Int("endpoints", ev.Endpoints))
		}
		return list
	})
}

var discoveryRecords = map[discovery.EventKind]stateRecord{
	discovery.EventPublished:        {slog.LevelInfo, "endpoints changed"},
	discovery.EventWatchFailed:      {slog.LevelWarn, "source of endpoints not heard"},
	discovery.EventEmptyHeld:        {slog.LevelWarn, "source lists no endpoints: the last ones are kept"},
	discovery.EventAnswerRejected:   {slog.LevelWarn, "answer of the source rejected"},
	discovery.EventEndpointsDropped: {slog.LevelWarn, "parts of the answer of the source dropped"},
	discovery.EventRemovalHeld:      {slog.LevelWarn, "source lacks many endpoints: they are kept"},
	discovery.EventConfirmed:        {slog.LevelInfo, "source confirms its endpoints"},
	discovery.EventEnded:            {slog.LevelDebug, "source of endpoints left"},
	discovery.EventSnapshotUsed:     {slog.LevelWarn, "endpoints taken from the snapshot"},
	discovery.EventSnapshotRejected: {slog.LevelWarn, "snapshot of endpoints rejected"},
}

func (q *logQueue) discovery(name string, ev discovery.Event) {
	r := discoveryRecords[ev.Kind]
	q.put(what{name, "discovery_" + word(ev.Kind.String()), r.level, r.message, 0}, func() []slog.Attr {
		list := []slog.Attr{slog.Int("endpoints", ev.Endpoints)}
		if ev.Held > 0 {
			list = append(list, slog.Int("held", ev.Held))
		}
		if !ev.Lost.IsZero() {
			list = append(list, slog.Time("lost", ev.Lost))
		}
		if ev.Wait > 0 {
			list = append(list, slog.Duration("wait", ev.Wait))
		}
		if d := ev.Dropped; d != (discovery.Dropped{}) {
			list = append(list, slog.Int("parts", d.Addr+d.Refused+d.Duplicate+d.Zone+d.Weight+d.Meta))
		}
		return appendText(list, "error", textOfError(ev.Err))
	})
}

func (q *logQueue) health(name string, ev zerohop.HealthEvent) {
	event, r := "health_failing", stateRecord{slog.LevelWarn, "endpoint fails its checks"}
	if ev.Passing {
		event, r = "health_passing", stateRecord{slog.LevelInfo, "endpoint passes its checks"}
	}
	q.put(what{name, event, r.level, r.message, 0}, func() []slog.Attr {
		list := appendText(nil, "endpoint", ev.Endpoint.Addr)
		list = appendText(list, "zone", ev.Endpoint.Zone)
		return appendText(list, "error", textOfError(ev.Err))
	})
}

// maxPaths is how many fields are named that an update changes.
const maxPaths = 10

func (q *logQueue) update(ev zerohop.UpdateEvent) {
	number := slog.Uint64("generation", ev.Generation)
	if ev.Err != nil {
		q.put(what{"", "spec_refused", slog.LevelError, "spec refused", 0}, func() []slog.Attr {
			return appendText([]slog.Attr{number}, "error", textOfError(ev.Err))
		})
		return
	}
	q.put(what{"", "spec_applied", slog.LevelInfo, "spec applied", 0}, func() []slog.Attr {
		fields := ev.Change.Fields
		paths := make([]string, 0, maxPaths)
		for i := range fields[:min(len(fields), maxPaths)] {
			paths = append(paths, printable(fields[i].Path)) // not the values
		}
		return []slog.Attr{number, slog.Int("changes", len(fields)), slog.Any("fields", paths), slog.Int("resets", len(ev.Change.Resets))}
	})
}

// appendText appends a text unless it is empty, fit to be reported.
func appendText(list []slog.Attr, key, text string) []slog.Attr {
	if text == "" {
		return list
	}
	return append(list, slog.String(key, redacted(text)))
}

// closing is how long the end of a mesh waits for a logger.
const closing = time.Second
