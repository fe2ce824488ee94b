package console

import "time"

// FailuresView are calls that failed, the latest first: GET api/failures, and the event "failures" of the stream. The parameter after
// keeps it to those with a greater number, limit to so many of the latest (50 by default, at most 200). The console keeps MaxFailures of
// them, of each service a few a second at most.
type FailuresView struct {
	Failures []Failure `json:"failures"`
}

// Failure is a call that failed, or was explained because somebody asked.
type Failure struct {
	// ID counts from 1 on.
	ID   uint64    `json:"id"`
	Time time.Time `json:"time"`
	ServiceName
	// Host is what the call named, Route and Lane what it came under, Protocol "http", "grpc" or empty, Method that of it.
	Host     string `json:"host,omitempty"`
	Route    string `json:"route,omitempty"`
	Lane     string `json:"lane,omitempty"`
	Protocol string `json:"protocol,omitempty"`
	Method   string `json:"method,omitempty"`
	// Failed is false for calls that were explained for another reason.
	Failed bool `json:"failed"`
	// Flag is why in Envoy's letters; Reason and Detail are it in words.
	Flag   string `json:"flag,omitempty"`
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Status is the HTTP status or gRPC code, -1 if there was no answer, and Error the error.
	Status int    `json:"status"`
	Error  string `json:"error,omitempty"`
	// Duration is that of the call.
	Duration float64 `json:"duration"`
	// Budget is the level of the retry budget at the end, -1 if there is none, Left the time left until the deadline, 0 if there was none.
	Budget float64 `json:"budget"`
	Left   float64 `json:"left,omitempty"`
	// Text is the whole explanation for people, in lines.
	Text string `json:"text"`
	// Tries are its attempts, Refusals what stages of the client refused.
	Tries    []TryView     `json:"tries"`
	Refusals []RefusalView `json:"refusals,omitempty"`
}

// TryView is an attempt of a call.
type TryView struct {
	// Addr and Zone are those of the endpoint, empty if there was none. Cause is why it was made: "first", "retry", "resend", "backup".
	Addr  string `json:"addr,omitempty"`
	Zone  string `json:"zone,omitempty"`
	Cause string `json:"cause"`
	// Start is when, counted from the start of the call, Latency the time until the answer or the error.
	Start   float64 `json:"start"`
	Latency float64 `json:"latency"`
	Outcome string  `json:"outcome"`
	Status  int     `json:"status"`
	Flag    string  `json:"flag,omitempty"`
	Error   string  `json:"error,omitempty"`
	// Running says that it was given up without an answer.
	Running bool `json:"running,omitempty"`
	// Pick is how the endpoint was picked, in words, Nodes how many there were, Removed why others were out of the question, and
	// Compared those that were looked at.
	Pick     string          `json:"pick"`
	Nodes    int             `json:"nodes"`
	Removed  []RemovedView   `json:"removed,omitempty"`
	Compared []CandidateView `json:"compared,omitempty"`
}

// RemovedView is how many endpoints were out of the question for a reason.
type RemovedView struct {
	Why   string `json:"why"`
	Count int    `json:"count"`
}

// CandidateView is an endpoint that a pick looked at.
type CandidateView struct {
	Addr string `json:"addr"`
	Zone string `json:"zone,omitempty"`
	// Score is what was compared: the least wins.
	Score    float64 `json:"score"`
	Cost     float64 `json:"cost"`
	InFlight int     `json:"inFlight"`
	Removed  string  `json:"removed,omitempty"`
	Picked   bool    `json:"picked,omitempty"`
}

// RefusalView is a refusal by a stage of the client.
type RefusalView struct {
	Stage    string  `json:"stage"`
	Attempt  int     `json:"attempt"`
	Enforced bool    `json:"enforced"`
	After    float64 `json:"after,omitempty"`
}

// EventsView is what happened, the latest first: GET api/events, and the event "events" of the stream. The parameters after and limit (200
// by default, at most 1000) are as for FailuresView.
type EventsView struct {
	Events []Event `json:"events"`
}

// Event is something that happened.
type Event struct {
	// ID counts from 1 on. Events that repeat themselves are one, with the number of the latest and Count how often.
	ID    uint64    `json:"id"`
	Count int       `json:"count"`
	Time  time.Time `json:"time"`
	ServiceName
	// Kind is a zerohop.StateKind, "discovery" followed by a discovery.EventKind, "checks failing", "checks passing", "spec applied",
	// "spec refused", "mesh opened", "mesh closed", "admin" or "admin refused".
	Kind string `json:"kind"`
	// Level is "good", "info", "warn" or "bad".
	Level string `json:"level"`
	Addr  string `json:"addr,omitempty"`
	Zone  string `json:"zone,omitempty"`
	// Cause is why in a few words, By who did it, Text a sentence for people.
	Cause string `json:"cause,omitempty"`
	By    string `json:"by,omitempty"`
	Text  string `json:"text"`
	// Until is when it ends by itself, if that is known.
	Until time.Time `json:"until,omitzero"`
}
