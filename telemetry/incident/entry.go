package incident

import (
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// Kind is what an Entry tells of. Those of state events are the words of zerohop.StateKind.
type Kind string

const (
	// KindSecond sums up the calls of a second.
	KindSecond Kind = "second"
	// KindFailed is a call that failed. Most of those that fail within a second are only counted.
	KindFailed Kind = "failed"
	// KindAttempt is an attempt that failed. Most of those that fail within a second are only counted.
	KindAttempt Kind = "attempt_failed"
	// KindRetry and KindBackup are attempts after the first that did not fail.
	KindRetry  Kind = "retry"
	KindBackup Kind = "backup"
	// KindRefused is a refusal by a stage of the client: Entry.Cause is the stage.
	KindRefused Kind = "refused"
	// KindFellBack is a call that something else answered: Entry.By.
	KindFellBack Kind = "fell_back"
	// KindDiscovery is what happened to the endpoint set of a service: Entry.Cause has the words of discovery.EventKind.
	KindDiscovery Kind = "discovery"
	// KindHealthFailing and KindHealthPassing are changes of what active health checks say of an endpoint.
	KindHealthFailing Kind = "health_failing"
	KindHealthPassing Kind = "health_passing"
	// KindUpdated and KindUpdateRefused are updates of the spec: Entry.Fields has what changed.
	KindUpdated       Kind = "spec_updated"
	KindUpdateRefused Kind = "spec_refused"
	// KindOpened and KindClosed are the beginning and the end of a mesh.
	KindOpened Kind = "mesh_opened"
	KindClosed Kind = "mesh_closed"
	// KindNote is what the program has said by Recorder.Note.
	KindNote Kind = "note"
	// KindBreach is an objective that was missed.
	KindBreach Kind = "slo_breached"
)

// Bounds of what an Entry has. Longer texts are cut.
const (
	maxName   = 128 // bytes
	maxText   = 160
	maxFields = 8
)

// Entry is one line of a dump: something that happened, or the sum of a second. Fields that its Kind has no use for are zero.
// Names and texts in it may come from registries, servers and callers: escape them.
type Entry struct {
	// Seq numbers the entries of a process in the order in which they were recorded. It is 0 for sums of seconds.
	Seq uint64 `json:"seq,omitempty"`
	// At is when it happened, counted from Header.Start by a clock that nobody sets. A second begins then.
	At   time.Duration `json:"at"`
	Kind Kind          `json:"kind"`
	// Service, Route, Addr and Zone say what it is about.
	Service string `json:"service,omitempty"`
	Route   string `json:"route,omitempty"`
	Addr    string `json:"addr,omitempty"`
	Zone    string `json:"zone,omitempty"`
	// Cause is why, in fixed words; see Kind, zerohop.StateEvent and, for attempts that failed, Failure.
	Cause string `json:"cause,omitempty"`
	// Text is that of an error, cut and without what looks like a secret.
	Text string `json:"text,omitempty"`
	// By is who did it or what answered.
	By string `json:"by,omitempty"`
	// For is how long it is to last, 0 if that is not known.
	For time.Duration `json:"for,omitempty"`
	// Value is what was found, and Bound what it was held against.
	Value float64 `json:"value,omitempty"`
	Bound float64 `json:"bound,omitempty"`
	// Out is how many of the Endpoints are out of service.
	Out       int `json:"out,omitempty"`
	Endpoints int `json:"endpoints,omitempty"`
	// Number is that of an attempt, from 0, or of a Spec.
	Number int64 `json:"number,omitempty"`
	// Status is that of an answer, 0 if there was none: over gRPC the code.
	Status int `json:"status,omitempty"`
	// Took is the latency of an attempt.
	Took time.Duration `json:"took,omitempty"`
	// Fields are those of a Spec that changed, with their old and new values.
	Fields []string `json:"fields,omitempty"`
	// Call is the explanation of a call that failed, nil if there is none.
	Call *Call `json:"call,omitempty"`
	// Second is the sum of a second.
	Second *Second `json:"second,omitempty"`
}

// Call is what a dump keeps of a zerohop.Explanation.
type Call struct {
	Protocol string `json:"protocol,omitempty"`
	Method   string `json:"method,omitempty"`
	// Flag is why it failed in Envoy's vocabulary, Reason and Detail the same in words.
	Flag   string `json:"flag,omitempty"`
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Took is how long it took, and Left the time that was left until its deadline, 0 if it had none.
	Took time.Duration `json:"took"`
	Left time.Duration `json:"left,omitempty"`
	// Budget is the level of the retry budget, from 0 to 1; -1 if there is none.
	Budget float64 `json:"budget"`
	// Spec is the number of the spec, and Rule the position of the route in it, -1 if none.
	Spec int64 `json:"spec,omitempty"`
	Rule int   `json:"rule"`
	// Tries are its attempts, at most resilience.MaxAttempts.
	Tries []Try `json:"tries,omitempty"`
	// Refusals are the stages of the client that refused something, at most zerohop.MaxExplainedRefusals.
	Refusals []string `json:"refusals,omitempty"`
}

// Try is an attempt of a Call.
type Try struct {
	Addr string `json:"addr,omitempty"`
	Zone string `json:"zone,omitempty"`
	// Cause says why it was made: "first", "retry", "resend" or "backup".
	Cause string `json:"cause"`
	// Start counts from the start of the call.
	Start   time.Duration `json:"start"`
	Took    time.Duration `json:"took"`
	Outcome string        `json:"outcome"`
	Status  int           `json:"status,omitempty"`
	Flag    string        `json:"flag,omitempty"`
	Running bool          `json:"running,omitempty"`
	Text    string        `json:"text,omitempty"`
	// Nodes is how many endpoints there were, and Removed how many of them were out of the question, by reason.
	Nodes   int            `json:"nodes,omitempty"`
	Removed map[string]int `json:"removed,omitempty"`
	// Panicking says that ejections were ignored.
	Panicking bool `json:"panicking,omitempty"`
	// Compared are the addresses that the balancer compared with their scores, as "10.0.0.1:80=0.003".
	Compared []string `json:"compared,omitempty"`
}

// Second is the sum of the calls to a service by a route within a second.
type Second struct {
	// Calls ended in it, Bad of them with a failure, and Canceled by their callers. Slow are those that succeeded, but took longer than
	// an SLO allows.
	Calls    uint64 `json:"calls"`
	Bad      uint64 `json:"bad,omitempty"`
	Canceled uint64 `json:"canceled,omitempty"`
	Slow     uint64 `json:"slow,omitempty"`
	// Retries, Backups, Refused and FellBack are numbers of the entries of these kinds, kept or not.
	Retries  uint64 `json:"retries,omitempty"`
	Backups  uint64 `json:"backups,omitempty"`
	Refused  uint64 `json:"refused,omitempty"`
	FellBack uint64 `json:"fell_back,omitempty"`
	// Flags counts the calls that failed by zerohop.Flag; "-" are those without.
	Flags map[string]uint64 `json:"flags,omitempty"`
	// Attempts counts the attempts that failed, by Failure.
	Attempts map[Failure]uint64 `json:"attempts,omitempty"`
	// Addrs counts the attempts that failed by endpoint: the first 16 of them in the second.
	Addrs map[string]uint64 `json:"addrs,omitempty"`
	// Latency counts the calls by how long they took: each pair is the position of a bucket in Bounds and a number, in the order of
	// positions.
	Latency [][2]uint64 `json:"latency,omitempty"`
}

// bad reports whether a call failed as those see it who made it. Calls that their callers gave up did not.
func bad(r *zerohop.CallResult) bool {
	return r.Outcome == resilience.Failure || r.Outcome == resilience.Overload || r.Err != nil && !gaveUp(r)
}
