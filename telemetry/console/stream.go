package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"time"
)

// patience is how long a reader may take for what it is sent. Whoever takes longer is cut off: the page comes back by itself.
const patience = 5 * time.Second

// stream sends what changes as server-sent events, until the reader goes, is too slow, or Close.
func (c *Console) stream(w http.ResponseWriter, r *http.Request, mesh, service string, q url.Values) {
	limit, ok := number(q, "limit", endpointsShown, maxEndpointsShown)
	if !ok {
		refuse(w, http.StatusBadRequest, "limit is a number")
		return
	}
	done, ok := c.begin()
	if !ok {
		w.Header().Set("Retry-After", "10")
		refuse(w, http.StatusServiceUnavailable, "too many streams")
		return
	}
	defer done()
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no") // of nginx
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	s := &sender{console: c, to: http.NewResponseController(w), w: w, mesh: mesh, service: service, limit: limit, lines: map[ServiceName]ServiceLine{}}
	defer func() { _ = s.to.SetWriteDeadline(time.Time{}) }() // the connection may have other requests
	for {
		next := c.next()
		if s.send() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-c.ctx.Done():
			return
		case <-next:
		}
	}
}

// begin takes the place of a stream. It reports false if there is none.
func (c *Console) begin() (done func(), ok bool) {
	c.life.Lock()
	defer c.life.Unlock()
	if c.closed {
		return nil, false
	}
	select {
	case c.streams <- struct{}{}:
	default:
		return nil, false
	}
	c.tasks.Add(1)
	return func() { <-c.streams; c.tasks.Done() }, true
}

// sender knows what a stream was sent.
type sender struct {
	console       *Console
	to            *http.ResponseController
	w             http.ResponseWriter
	mesh, service string
	limit         int

	buf     bytes.Buffer
	whole   bool // a summary was sent
	lines   map[ServiceName]ServiceLine
	event   uint64
	failure uint64
}

// send sends what has changed. A summary comes each tick, be it without a line: readers and proxies see that the stream lives.
func (s *sender) send() error {
	c := s.console
	sum := c.summary()
	s.delta(&sum)
	s.put("summary", sum)
	if s.service != "" {
		if v, ok := c.service(s.mesh, s.service, s.limit); ok {
			s.put("service", v)
		}
	}
	if last := c.timeline.latest(); last > s.event || !s.whole {
		s.put("events", EventsView{c.timeline.after(s.event, eventsShown, nil)})
		s.event = last
	}
	if last := c.failures.latest(); last > s.failure || !s.whole {
		s.put("failures", c.failuresView(s.failure, failuresShown, nil))
		s.failure = last
	}
	s.whole = true
	return s.flush()
}

// delta leaves of a summary what the reader does not know yet.
func (s *sender) delta(sum *Summary) {
	there := make(map[ServiceName]bool, len(sum.Services))
	changed := []ServiceLine{}
	for _, l := range sum.Services {
		there[l.ServiceName] = true
		plain := l
		plain.Spark, plain.SparkErrors = nil, nil
		if s.whole && same(s.lines[l.ServiceName], plain) {
			continue
		}
		s.lines[l.ServiceName] = plain
		changed = append(changed, plain)
	}
	for key := range s.lines {
		if !there[key] {
			delete(s.lines, key)
			sum.Gone = append(sum.Gone, key)
		}
	}
	if s.whole {
		sum.Delta, sum.Services = true, changed
	}
}

// same reports whether two lines without sparks are the same.
func same(a, b ServiceLine) bool {
	a.Spark, a.SparkErrors, b.Spark, b.SparkErrors = nil, nil, nil, nil
	return reflect.DeepEqual(a, b)
}

// put adds an event to what is sent next.
func (s *sender) put(kind string, v any) {
	data, err := json.Marshal(v) // which has no line breaks
	if err != nil {
		return
	}
	s.buf.WriteString("event: ")
	s.buf.WriteString(kind)
	s.buf.WriteString("\ndata: ")
	s.buf.Write(data)
	s.buf.WriteString("\n\n")
}

// flush sends what was added.
func (s *sender) flush() error {
	defer s.buf.Reset()
	// A server that knows no deadlines cannot be kept from waiting; there are no more streams than Config.MaxStreams.
	if err := s.to.SetWriteDeadline(time.Now().Add(patience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
		return err
	}
	return s.to.Flush()
}
