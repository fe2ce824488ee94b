package httpmesh

import (
	"fmt"
	"io"
	"os"
	"time"
)

// lively is the body of an answer whose Reads may only take so long.
type lively struct {
	io.ReadCloser
	limit time.Duration
	body  *body         // that ends when one takes longer
	alarm *time.Timer   // of the present Read; nil before the first
	fired chan struct{} // gets one when the alarm has done its work
}

func (l *lively) Read(p []byte) (int, error) {
	if l.alarm == nil {
		l.fired = make(chan struct{}, 1)
		l.alarm = time.AfterFunc(l.limit, l.expire)
	} else {
		l.alarm.Reset(l.limit)
	}
	n, err := l.ReadCloser.Read(p)
	if l.alarm.Stop() {
		return n, err
	}
	if <-l.fired; err == io.EOF || l.body.closed.Load() {
		return n, err
	}
	return n, readTimeoutError(l.limit)
}

// expire ends a Read that takes too long: by the context of the attempt, or else by closing what it reads.
func (l *lively) expire() {
	l.body.end(readTimeoutError(l.limit), false)
	l.Close()
	l.fired <- struct{}{}
}

// readTimeoutError says that a body was silent for too long. It is a net.Error.
type readTimeoutError time.Duration

func (e readTimeoutError) Error() string {
	return fmt.Sprintf("httpmesh: the body of the response paused for longer than %v", time.Duration(e))
}

// Timeout returns true.
func (readTimeoutError) Timeout() bool { return true }

// Temporary returns true, as for all timeouts of a connection.
func (readTimeoutError) Temporary() bool { return true }

// Unwrap makes the error an os.ErrDeadlineExceeded, as that of a connection would be.
func (readTimeoutError) Unwrap() error { return os.ErrDeadlineExceeded }
