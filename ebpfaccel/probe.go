package ebpfaccel

import (
	"errors"
	"strings"
)

// ErrNotSupported says that connections of this process cannot be accelerated.
var ErrNotSupported = errors.New("ebpfaccel: not supported")

// A NotSupportedError says why connections cannot be accelerated. errors.Is takes it for [ErrNotSupported].
type NotSupportedError struct {
	Reasons []string // what is missing, at least one
}

func (e *NotSupportedError) Error() string { return "ebpfaccel: " + strings.Join(e.Reasons, "; ") }

func (e *NotSupportedError) Is(target error) bool { return target == ErrNotSupported }

// Probe returns nil if sockets of this process can be marked for acceleration, and otherwise a [*NotSupportedError] with the
// reasons. It needs no privileges. That the other end opts in too it cannot know.
func Probe() error {
	if reasons := probe(); len(reasons) > 0 {
		return &NotSupportedError{Reasons: reasons}
	}
	return nil
}
