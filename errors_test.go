package zerohop

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

func TestErrorSaysWhatHappened(t *testing.T) {
	cause := errors.New("refused")
	e := &Error{
		Service: "orders", Reason: Failed, Detail: resilience.Exhausted, Err: cause,
		Attempts: []AttemptRecord{{}, {Addr: "a:1", Duration: time.Millisecond}, {Addr: "b:1", Duration: 2 * time.Millisecond}},
	}
	if got, want := e.Error(), "zerohop: orders: failed (attempts exhausted) after a:1 in 1ms, b:1 in 2ms: refused"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	e.Detail = resilience.Answered // not that anybody has answered
	if got, want := e.Error(), "zerohop: orders: failed after a:1 in 1ms, b:1 in 2ms: refused"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if e.Timeout() {
		t.Error("Timeout() of a refused connection")
	}
	e.Err = fmt.Errorf("slow: %w", timeoutError(time.Second))
	if !e.Timeout() {
		t.Error("no Timeout() of an attempt timeout")
	}
	if got, want := timeoutError(time.Second).Error(), "zerohop: attempt took longer than 1s"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}
