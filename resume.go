package zerohop

import "github.com/zerohop/zerohop/resilience"

// Open is called by Exchange.Attempt to say that the attempt has begun and that its answer, which is still to come, may
// lead to a further attempt: streams begin long before they are answered, and their caller has to be let go on meanwhile.
// The verdict of Exchange.Attempt is not looked at then. The attempt is returned by Call.Run or Call.Resume, and the
// transport owes the call a Resume. Policy.AttemptTimeout ends here. Backups cannot be left open.
func (a *Attempt) Open() { a.opened = true }

// Resume goes on with a call whose attempt a was left open, now that there is an answer or none will come. It does what
// Run does after an attempt: it may pause and make further attempts, and returns one whose answer is the caller's and
// that is owed a call of End, or one that is open again, or an *Error with which the call is over. It must not be
// called again before it has returned.
func (c *Call) Resume(a *Attempt, v resilience.Verdict) (next *Attempt, err error) {
	a.opened, a.resumed = false, true
	return c.drive(c.mesh().now(), a, v)
}

// Opened reports whether the attempt is open, so that it is owed a call of Call.Resume.
func (a *Attempt) Opened() bool { return a.opened }
