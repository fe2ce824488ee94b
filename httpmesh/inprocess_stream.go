package httpmesh

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"sync"
	"time"
)

// streamLimit is how much one side may write ahead of the other, as much as HTTP/2 lets a server by default. A tenth would make
// writers of large bodies wait for a processor more often; ten times more would hold what nobody may ever read.
const streamLimit = 64 << 10

// stream is a pipe with a buffer. One side writes and the other reads.
type stream struct {
	mu     sync.Mutex // guards what follows
	change sync.Cond  // of anything
	data   []byte     // not read yet, from off on
	off    int
	ended  error // what the reader gets after the data; nil while there may be more
	broken error // what the reader gets at once
	gone   error // what the writer gets
	reads  deadline
	writes deadline
}

func (s *stream) init() { s.change.L = &s.mu }

func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.broken != nil:
			return 0, s.broken
		case s.reads.passed:
			return 0, os.ErrDeadlineExceeded
		case s.off < len(s.data):
			n := copy(p, s.data[s.off:])
			if s.off += n; s.off == len(s.data) {
				s.data, s.off = s.data[:0], 0
				if s.ended != nil { // the next Read would say so
					return n, s.ended
				}
			}
			s.change.Broadcast()
			return n, nil
		case s.ended != nil:
			return 0, s.ended
		case len(p) == 0:
			return 0, nil
		}
		s.change.Wait()
	}
}

func (s *stream) Write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.gone != nil:
			return n, s.gone
		case s.writes.passed:
			return n, os.ErrDeadlineExceeded
		case len(p) == 0:
			return n, nil
		}
		if room := streamLimit - (len(s.data) - s.off); room > 0 {
			if s.off > 0 && len(s.data)+min(room, len(p)) > cap(s.data) {
				s.data = s.data[:copy(s.data, s.data[s.off:])]
				s.off = 0
			}
			k := min(room, len(p))
			s.data = append(s.data, p[:k]...)
			n, p = n+k, p[k:]
			s.change.Broadcast()
			continue
		}
		s.change.Wait()
	}
}

// end says that no more is written, and with what the reader comes to the end.
func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.ended = err
	}
	if s.gone == nil {
		s.gone = errGone
	}
	s.change.Broadcast()
}

// breakOff ends both sides at once, with an error for each, unless the reader has come to the end.
func (s *stream) breakOff(reader, writer error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = reader
	}
	if s.gone == nil {
		s.gone = writer
	}
	s.data, s.off = nil, 0
	s.change.Broadcast()
}

// refused returns what the writer gets, nil if it may write.
func (s *stream) refused() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone == nil && s.writes.passed {
		return os.ErrDeadlineExceeded
	}
	return s.gone
}

// stop ends the timers.
func (s *stream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads.stop()
	s.writes.stop()
}

// deadline is one of the two of a stream.
type deadline struct {
	timer  *time.Timer
	passed bool
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// set sets a deadline of the stream, which must be its own. The zero time means none.
func (s *stream) set(d *deadline, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	wait := time.Until(at)
	d.passed = !at.IsZero() && wait <= 0
	if !at.IsZero() && wait > 0 {
		var timer *time.Timer
		timer = time.AfterFunc(wait, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if d.timer == timer {
				d.passed = true
				s.change.Broadcast()
			}
		})
		d.timer = timer
	}
	s.change.Broadcast()
}

// parcel is the body of a request as the handler reads it. The caller's own is read by a goroutine, as it may block for ever
// while the handler has to learn that the caller has gone away; and not before the handler asks for it.
type parcel struct {
	stream
	errand   *errand
	length   int64       // as the caller has said, -1 if that is not known
	trailer  http.Header // of the handler's request, which reads it without a lock; nil if none was announced
	expected bool        // the caller waits for 100 Continue
	begun    bool        // guarded by the lock of the stream
	come     http.Header // trailers that the handler has not read up to, guarded by that lock, too
	closing  sync.Once
}

func (u *parcel) Read(p []byte) (int, error) {
	if u.begin() {
		if t := u.errand.trace; u.expected && t != nil && t.Got100Continue != nil {
			t.Got100Continue()
		}
		go u.pump() // until the body ends, or release closes it
	}
	n, err := u.stream.Read(p)
	if err == io.EOF {
		maps.Copy(u.trailer, u.trailers())
	}
	return n, err
}

// trailers returns those that have come, once.
func (u *parcel) trailers() (come http.Header) {
	u.mu.Lock()
	defer u.mu.Unlock()
	come, u.come = u.come, nil
	return come
}

// begin reports whether the caller's body is to be read from now on.
func (u *parcel) begin() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.begun || u.broken != nil {
		return false
	}
	u.begun = true
	return true
}

// Close has the rest not sent.
func (u *parcel) Close() error {
	u.breakOff(http.ErrBodyReadAfterClose, errGone)
	return nil
}

// release closes the caller's body.
func (u *parcel) release() { u.closing.Do(func() { u.errand.out.Body.Close() }) }

// pump sends the caller's body.
func (u *parcel) pump() {
	defer u.release()
	out, length := u.errand.out, u.length
	buf := make([]byte, 16<<10)
	var sent int64
	for {
		n, err := out.Body.Read(buf)
		if excess := sent + int64(n) - length; length >= 0 && excess > 0 {
			u.send(buf[:int64(n)-excess])
			u.end(io.EOF)
			u.errand.spoil(fmt.Errorf("httpmesh: ContentLength=%d with a longer Body", length), false)
			return
		}
		if sent += int64(n); !u.send(buf[:n]) {
			return
		}
		if sent == length && u.trailer == nil { // the handler has all of it; whether there is more is between the caller and us
			u.finish()
		}
		switch {
		case err == io.EOF && length >= 0 && sent < length:
			u.errand.spoil(fmt.Errorf("httpmesh: ContentLength=%d with Body length %d", length, sent), true)
			return
		case err == io.EOF:
			u.finish()
			return
		case err != nil:
			u.errand.spoil(err, sent != length)
			return
		}
	}
}

// send reports whether the handler wants more.
func (u *parcel) send(p []byte) bool {
	_, err := u.Write(p)
	return err == nil
}

// finish says that the body is complete, with its trailers.
func (u *parcel) finish() {
	if u.trailer != nil {
		come := carried(u.errand.out.Trailer, notForHandlers)
		u.mu.Lock()
		u.come = come
		u.mu.Unlock()
	}
	u.end(io.EOF)
}

// spoil takes note that the caller's body is not what the request says: the call fails unless it has been answered. cut says
// that the handler has not got all of it.
func (v *errand) spoil(err error, cut bool) {
	if cut {
		v.abort(err)
		return
	}
	v.answer(nil, err)
}
