package discovery

import "time"

// RefusedError says that a source was reached and refused to answer: it limits us, does not let us in or
// fails itself. Run asks such a source again later than one it could not reach, because asking costs it.
type RefusedError struct {
	// After is how long the source asked us to wait; 0 means that it did not say.
	After time.Duration
	// Denied is set when the source refused for want of permission (a wrong or missing token).
	Denied bool
	// Err is the answer of the source. Never nil.
	Err error
}

// Error returns the text of Err.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *RefusedError) Unwrap() error { return e.Err }
