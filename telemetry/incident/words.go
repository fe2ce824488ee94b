package incident

import (
	"fmt"
	"strings"
	"time"
)

// stamp is how times are written.
func stamp(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// Words says what an entry tells of, in a line without its time. It may have names and texts of others: escape it.
func (e *Entry) Words() string {
	var b strings.Builder
	add := func(format string, args ...any) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, format, args...)
	}
	if e.Service != "" {
		b.WriteString(e.Service)
	}
	if e.Route != "" {
		add("route %s", e.Route)
	}
	switch e.Kind {
	case KindSecond:
		s := e.Second
		add("%d calls, %d failed", s.Calls, s.Bad)
	case KindFailed:
		add("call failed")
	case KindAttempt:
		add("attempt %d failed", e.Number+1)
	case KindRefused:
		if add("%s refused", e.Cause); e.Number < 0 {
			add("the call")
		} else {
			add("attempt %d", e.Number+1)
		}
	case KindFellBack:
		add("answered instead by")
		if e.By == "" {
			add("a function")
		}
	case KindDiscovery:
		add("registry: %s, %d endpoints", e.Cause, e.Endpoints)
		if e.Out > 0 {
			add("(%d held)", e.Out)
		}
	case KindUpdated, KindUpdateRefused:
		add("%s, now number %d", strings.ReplaceAll(string(e.Kind), "_", " "), e.Number)
		if len(e.Fields) > 0 {
			add(": %s", strings.Join(e.Fields, "; "))
		}
		if e.Out > 0 {
			add("and %d more", e.Out)
		}
	default:
		add("%s", strings.ReplaceAll(string(e.Kind), "_", " "))
	}
	if e.Addr != "" {
		add("%s", e.Addr)
	}
	if e.Cause != "" && e.Kind != KindRefused && e.Kind != KindDiscovery {
		add("(%s)", e.Cause)
	}
	if e.By != "" {
		if e.Kind == KindFellBack {
			add("%s", e.By)
		} else {
			add("by %s", e.By)
		}
	}
	if e.Status != 0 {
		add("status %d", e.Status)
	}
	if e.For > 0 {
		add("for %v", e.For.Round(time.Millisecond))
	}
	if e.Took > 0 {
		add("after %v", e.Took.Round(10*time.Microsecond))
	}
	if e.Call != nil && e.Call.Flag != "" {
		add("[%s]", e.Call.Flag)
	}
	if e.Text != "" {
		add("- %s", e.Text)
	}
	return b.String()
}
