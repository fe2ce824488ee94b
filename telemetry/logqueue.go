package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// maxQueued is how many records wait for a logger: what 25 services may have to tell in a second. With ten times as many, a
	// logger that blocks would have the process keep some MiB of what nobody reads.
	maxQueued = 256
	// perSecond is how many records of one event of a service are written in a second. Ten tell what happens; a fleet that is
	// ejected and comes back is told of by their number.
	perSecond = 10
	// maxKeys is how many events of services are told apart for that.
	maxKeys = 1000
)

// logQueue writes records to a logger that may block.
type logQueue struct {
	logger *slog.Logger // nil: the default one

	mu      sync.Mutex // guards what follows
	waiting []slog.Record
	idle    chan struct{} // closed once all is written; nil while nothing writes
	rates   map[logKey]*logRate
}

// logKey is what records are limited by.
type logKey struct{ service, event string }

// logRate limits the records of one key.
type logRate struct {
	second  time.Time // when the present one began
	n       int       // records in it
	dropped int       // records that were not written and not told of yet
	lost    int       // events that nobody has told of, likewise
}

// what is told of in a record.
type what struct {
	service, event string
	level          slog.Level
	message        string
	lost           int // events before this one that were not told
}

// put has a record written, if there is place for it. attrs is called then, in the goroutine of the caller.
func (q *logQueue) put(w what, attrs func() []slog.Attr) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.rate(logKey{w.service, w.event})
	r.lost += w.lost
	if now.Sub(r.second) >= time.Second {
		r.second, r.n = now, 0
	}
	if r.n >= perSecond || len(q.waiting) >= maxQueued {
		r.dropped++
		return
	}
	r.n++
	list := append(appendText([]slog.Attr{slog.String("event", w.event)}, "service", w.service), attrs()...)
	q.add(now, w.level, w.message, r.settle(list))
}

// settle appends what is yet to be told of records that were not written.
func (r *logRate) settle(list []slog.Attr) []slog.Attr {
	if r.dropped > 0 {
		list = append(list, slog.Int("dropped", r.dropped))
	}
	if r.lost > 0 {
		list = append(list, slog.Int("lost_events", r.lost))
	}
	r.dropped, r.lost = 0, 0
	return list
}

// rate returns that of a key. q.mu is held.
func (q *logQueue) rate(k logKey) *logRate {
	r := q.rates[k]
	if r == nil && len(q.rates) >= maxKeys {
		k = logKey{event: k.event} // of all other services
		r = q.rates[k]
	}
	if r == nil {
		if q.rates == nil {
			q.rates = map[logKey]*logRate{}
		}
		r = &logRate{}
		q.rates[k] = r
	}
	return r
}

// add appends a record, and begins to write unless that is under way. q.mu is held.
func (q *logQueue) add(now time.Time, level slog.Level, message string, list []slog.Attr) {
	r := slog.NewRecord(now, level, "zerohop: "+message, 0)
	r.AddAttrs(list...)
	q.waiting = append(q.waiting, r)
	if q.idle == nil {
		q.idle = make(chan struct{})
		go q.write(q.idle) // ends once the queue is empty
	}
}

// write writes what waits.
func (q *logQueue) write(idle chan struct{}) {
	defer close(idle)
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.waiting, q.idle = nil, nil
			q.mu.Unlock()
			return
		}
		r := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		q.handle(r)
	}
}

// handle hands a record to the logger. A logger that panics loses the record and nothing else.
func (q *logQueue) handle(r slog.Record) {
	defer func() { _ = recover() }()
	l := q.logger
	if l == nil {
		l = slog.Default()
	}
	ctx := context.Background() // changes are of no call
	if h := l.Handler(); h.Enabled(ctx, r.Level) {
		_ = h.Handle(ctx, r) // there is nobody to tell
	}
}

// flush tells what was dropped and waits until all is written, or for too long.
func (q *logQueue) flush() {
	q.mu.Lock()
	for k, r := range q.rates {
		if r.dropped > 0 && len(q.waiting) < maxQueued {
			list := appendText([]slog.Attr{slog.String("event", k.event)}, "service", k.service)
			q.add(time.Now(), slog.LevelWarn, "records dropped", r.settle(list))
		}
	}
	idle := q.idle
	q.mu.Unlock()
	if idle == nil {
		return
	}
	timer := time.NewTimer(closing)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
}
