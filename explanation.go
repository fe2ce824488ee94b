package zerohop

import (
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// Explanation is the record of all decisions about one call: where it was routed and why, which endpoints were candidates and what
// removed the others, what was compared, what became of each attempt, and why the call ended. It is of a fixed size, is made once the
// call is over, and is not changed any more.
type Explanation struct {
	// CallInfo and CallResult are what hooks were told, but for Err: that is nil, as it may hold on to anything. Error has its text.
	CallInfo
	CallResult
	// Error is the text of what made the call fail, cut to 256 bytes: that of the last attempt, or of what prevented one. It may come
	// from a server: escape it. It is valid UTF-8, like all texts in here that are not the caller's own.
	Error string
	// Reason is why the call failed, empty if there was an answer.
	Reason Reason
	// Flag is the same in Envoy's vocabulary.
	Flag Flag
	// Generation is the number of the Spec that the call was made under.
	Generation uint64
	// Match is the position of the match within the rule (CallInfo.Rule) that the call was routed by; -1 if none.
	Match int16
	// Random is the random word by which percentages and weights of routes were decided, 0 if none was drawn.
	Random uint64
	// Sampled says that the call is explained because it was its turn or somebody asked; else it is because it failed.
	Sampled bool
	// Budget is the level of the retry budget at the end, from 0 to 1; -1 if there is none. Left is the time left until the
	// deadline then, 0 if there was none.
	Budget float64
	Left   time.Duration
	// Tries are the attempts in the order in which they began; N is how many.
	Tries [resilience.MaxAttempts]Try
	N     int8
	// Refusals by stages of the client, in order; NR is how many of them are kept.
	Refusals [MaxExplainedRefusals]StageRefusal
	NR       int8
}

// MaxExplainedRefusals is how many refusals an Explanation keeps: the last ones.
const MaxExplainedRefusals = 4

// StageRefusal is a refusal by a stage of the client: see Refusal.
type StageRefusal struct {
	Stage    Stage
	Attempt  int8
	Enforced bool
	// After is when to come again, 0 if not known.
	After time.Duration
}

// Try is one attempt of an explained call.
type Try struct {
	// Addr and Zone are those of the endpoint, empty if there was none.
	Addr, Zone string
	// Network is over what the endpoint was reached.
	Network Network
	// Cause says why the attempt was made.
	Cause resilience.Cause
	// Start is when it began, counted from the start of the call, and Latency the time until its answer or its error.
	Start, Latency time.Duration
	// Outcome is its class and Status its HTTP status or gRPC code, -1 if there was no answer.
	Outcome resilience.Outcome
	Status  int
	// Retry says that the failure was worth repeating, Unsent that the endpoint had provably not begun, and After the pause that
	// it asked for.
	Retry, Unsent bool
	After         time.Duration
	// Running says that it had no answer when the call ended; it was given up.
	Running bool
	// Error is the text of its error, cut to 128 bytes. It may come from a server: escape it.
	Error string
	// Flag is what became of it in Envoy's vocabulary, empty if it succeeded.
	Flag Flag
	// Budget is the level of the retry budget before it, -1 if there is none, and Left the time left until the deadline, 0 if none.
	Budget float64
	Left   time.Duration
	// Choice is how its endpoint was picked. It is complete for calls that were sampled. For others it is what the pick left behind,
	// and Late says that the endpoints were looked at when the attempt failed.
	Choice loadbalance.Choice
	Late   bool
}
