package console

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
)

// The levels of events.
const (
	levelGood = "good"
	levelInfo = "info"
	levelWarn = "warn"
	levelBad  = "bad"
)

// timeline is what happened last: MaxEvents of it.
type timeline struct {
	mu   sync.Mutex // guards what follows
	list []Event    // the oldest first
	last uint64
}

// repeats is how far back an event may lie for another of its kind to be taken for a repetition, and for how long.
const (
	repeats   = 32
	repeating = time.Minute
)

// add adds an event, which comes with its texts as they are to be shown, and numbers it.
func (t *timeline) add(e *Event, c *Console) {
	if c.ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	e.ID, e.Count = t.last, 1
	e.Time = e.Time.UTC()
	for i := len(t.list) - 1; i >= max(0, len(t.list)-repeats); i-- {
		was := &t.list[i]
		if was.Kind == e.Kind && was.ServiceName == e.ServiceName && was.Addr == e.Addr && was.Cause == e.Cause && was.By == e.By && was.By == "" {
			if e.Time.Sub(was.Time) < repeating {
				e.Count = was.Count + 1
				t.list = slices.Delete(t.list, i, i+1)
			}
			break
		}
	}
	if len(t.list) == MaxEvents {
		t.list = slices.Delete(t.list, 0, 1)
	}
	t.list = append(t.list, *e)
}

// after returns up to limit events with a greater number than id, the latest first, that keep fits.
func (t *timeline) after(id uint64, limit int, keep func(*Event) bool) []Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []Event{}
	for i := len(t.list) - 1; i >= 0 && len(list) < limit && t.list[i].ID > id; i-- {
		if keep == nil || keep(&t.list[i]) {
			list = append(list, t.list[i])
		}
	}
	return list
}

func (t *timeline) latest() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// causes are the causes of ejections in words.
var causes = map[string]string{
	"consecutive": "failures in a row", "failure share": "too large a share of failures", "deviation": "worse than its siblings", "slow": "slower than its siblings",
	"silence": "no answers", "probe failed": "the probe failed", "operator": "by an operator",
}

// stateTexts are the levels and texts of the kinds of state events.
var stateTexts = map[zerohop.StateKind]struct{ level, text string }{
	zerohop.StateEjected:           {levelBad, "ejected"},
	zerohop.StateSpared:            {levelWarn, "would be ejected, were not too many already"},
	zerohop.StateReturned:          {levelGood, "back in service"},
	zerohop.StatePanicBegan:        {levelBad, "so many endpoints are out of service that calls go to all of them"},
	zerohop.StatePanicEnded:        {levelGood, "enough endpoints are in service again"},
	zerohop.StateBreakerOpened:     {levelBad, "the circuit breaker opened"},
	zerohop.StateBreakerHalfOpened: {levelInfo, "the circuit breaker tries a few calls"},
	zerohop.StateBreakerClosed:     {levelGood, "the circuit breaker closed"},
	zerohop.StateSpillBegan:        {levelWarn, "calls leave their zone or priority, which cannot carry them"},
	zerohop.StateSpillEnded:        {levelGood, "calls stay in their zone or priority again"},
	zerohop.StateBudgetEmpty:       {levelWarn, "the retry budget is empty"},
	zerohop.StateBudgetRestored:    {levelGood, "the retry budget pays again"},
	zerohop.StateShedding:          {levelWarn, "the client refuses calls or attempts"},
	zerohop.StateShedEnded:         {levelGood, "the client refuses nothing any more"},
	zerohop.StateOperator:          {levelWarn, "an operator acted"},
	zerohop.StateOperatorEnded:     {levelInfo, "what an operator did has ended"},
}

func stateEvent(mesh, service string, ev zerohop.StateEvent) *Event {
	t, ok := stateTexts[ev.Kind]
	if !ok {
		t.level, t.text = levelInfo, name(string(ev.Kind))
	}
	e := &Event{
		Time: ev.Time, Until: ev.Until, ServiceName: ServiceName{mesh, name(service)}, Kind: name(string(ev.Kind)), Level: t.level,
		Addr: name(ev.Addr), Zone: name(ev.Zone), Cause: name(ev.Cause), By: name(ev.By), Text: t.text,
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Until = e.Until.UTC()
	switch words := causes[ev.Cause]; {
	case ev.Kind == zerohop.StateOperator || ev.Kind == zerohop.StateOperatorEnded:
		e.Text += ": " + name(ev.Cause)
		if ev.To != "" {
			e.Text += " " + name(string(ev.To))
		}
		if ev.Why != "" {
			e.Text += " (" + text(ev.Why) + ")"
		}
	case words != "":
		e.Text += ": " + words
		if ev.Bound > 0 {
			e.Text += fmt.Sprintf(" (%.3g, bound %.3g)", ev.Value, ev.Bound)
		}
	case ev.Cause != "":
		e.Text += ": " + name(ev.Cause)
	}
	if ev.Endpoints > 0 {
		e.Text += fmt.Sprintf("; %d of %d are out", ev.Out, ev.Endpoints)
	}
	return e
}

// discoveryEvent returns nil for events that nobody needs to see.
func discoveryEvent(mesh, service string, ev discovery.Event) *Event {
	e := &Event{Time: time.Now(), ServiceName: ServiceName{mesh, name(service)}, Kind: "discovery " + ev.Kind.String(), Level: levelInfo}
	switch ev.Kind {
	case discovery.EventConfirmed:
		return nil
	case discovery.EventPublished:
		e.Text = fmt.Sprintf("%d endpoints", ev.Endpoints)
	case discovery.EventWatchFailed:
		e.Level, e.Text = levelWarn, "the source is not heard"
	case discovery.EventEmptyHeld:
		e.Level, e.Text = levelWarn, fmt.Sprintf("the source has no endpoints any more; %d stay until it says so again", ev.Held)
	case discovery.EventRemovalHeld:
		e.Level, e.Text = levelWarn, fmt.Sprintf("the source has lost many endpoints; %d of them stay until it says so again", ev.Held)
	case discovery.EventAnswerRejected:
		e.Level, e.Text = levelBad, "an answer of the source cannot be used"
	case discovery.EventEndpointsDropped:
		d := ev.Dropped
		e.Level, e.Text = levelWarn, fmt.Sprintf("parts of the answer were left out: %d addresses not valid, %d not allowed, %d twice; zone, weight or metadata of %d",
			d.Addr, d.Refused, d.Duplicate, d.Zone+d.Weight+d.Meta)
	case discovery.EventSnapshotUsed:
		e.Level, e.Text = levelWarn, fmt.Sprintf("%d endpoints of the last run are used, until the source is heard", ev.Endpoints)
	case discovery.EventSnapshotRejected:
		e.Level, e.Text = levelWarn, "the endpoints of the last run cannot be used"
	case discovery.EventEnded:
		e.Text = "nobody looks for its endpoints any more"
	default:
		e.Text = ev.Kind.String()
	}
	if ev.Err != nil {
		e.Text += ": " + text(ev.Err.Error())
	}
	return e
}

func healthEvent(mesh, service string, ev zerohop.HealthEvent) *Event {
	e := &Event{
		Time: time.Now(), ServiceName: ServiceName{mesh, name(service)}, Kind: "checks passing", Level: levelGood,
		Addr: name(ev.Endpoint.Addr), Zone: name(ev.Endpoint.Zone), Text: "passes its health checks",
	}
	if !ev.Passing {
		e.Kind, e.Level, e.Text = "checks failing", levelBad, "fails its health checks"
		if ev.Err != nil {
			e.Text += ": " + text(ev.Err.Error())
		}
	}
	return e
}

func updateEvent(mesh string, ev zerohop.UpdateEvent) *Event {
	e := &Event{Time: time.Now(), ServiceName: ServiceName{Mesh: mesh}, Kind: "spec applied", Level: levelInfo}
	if ev.Err != nil {
		e.Kind, e.Level, e.Text = "spec refused", levelBad, "a spec was refused: "+text(ev.Err.Error())
		return e
	}
	e.Text = fmt.Sprintf("generation %d", ev.Generation)
	for i, f := range ev.Change.Fields {
		if i == 3 {
			e.Text += fmt.Sprintf(" and %d more", len(ev.Change.Fields)-i)
			break
		}
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		e.Text += sep + name(f.Path) // values may be secret
	}
	return e
}
