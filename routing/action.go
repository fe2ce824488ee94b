package routing

import "time"

// Limits on what a rule does with calls.
const (
	maxMirrors  = 8
	maxChanges  = 64      // of headers
	maxResponse = 1 << 16 // bytes of a fixed body
	maxMirrored = 1 << 20 // bytes of a mirrored body
	maxDelay    = time.Minute
	maxCopies   = 10_000 // in flight
	maxCopyTime = time.Hour
	maxFaults   = 100_000 // calls held up
	maxCode     = 16      // the last that gRPC has
)

// Rewrite changes requests on their way to the service and responses on their way back. The order is path, host, query, headers.
type Rewrite struct {
	// Path changes the path. It is not for gRPC, where the path names the method.
	Path PathRewrite `json:"path,omitzero" yaml:"path,omitempty"`
	// Host is the name that the server is told (Host, :authority), not where the request goes. Empty leaves it.
	Host string `json:"host,omitempty" yaml:"host,omitempty"`
	// Query changes the parameters in the query of the URL.
	Query Headers `json:"query,omitzero" yaml:"query,omitempty"`
	// Request changes the headers of the request, or the metadata of the RPC.
	Request Headers `json:"request,omitzero" yaml:"request,omitempty"`
	// Response changes the headers of the response.
	Response Headers `json:"response,omitzero" yaml:"response,omitempty"`
}

// PathRewrite changes a path: at most one of Full, Prefix and Regex is set. A call whose path is ambiguous, or would become so,
// fails.
type PathRewrite struct {
	// Full takes the place of the whole path.
	Full string `json:"full,omitempty" yaml:"full,omitempty"`
	// Prefix takes the place of the prefix that matched, by whole segments: "/" or the empty string takes it away. All matches of
	// the rule must have a Path.Prefix. nil leaves the path.
	Prefix *string `json:"prefix,omitempty" yaml:"prefix,omitempty"`
	// Regex is a regular expression of package regexp. What it fits, wherever in the decoded path, becomes Replacement, in
	// which $1 or ${name} stand for submatches. A path that it does not fit stays.
	Regex string `json:"regex,omitempty" yaml:"regex,omitempty"`
	// Replacement belongs to Regex.
	Replacement string `json:"replacement,omitempty" yaml:"replacement,omitempty"`
}

// Headers changes headers, metadata or parameters: first Remove, then Set, then Add. Names of headers that belong to a
// connection, Host, Content-Length and those that zerohop itself speaks by are refused, and so are control characters in values.
type Headers struct {
	// Set replaces all values of a name.
	Set map[string]string `json:"set,omitempty" yaml:"set,omitempty"`
	// Add adds a value to those there are.
	Add map[string]string `json:"add,omitempty" yaml:"add,omitempty"`
	// Remove takes names away.
	Remove []string `json:"remove,omitempty" yaml:"remove,omitempty"`
}

// Mirror is a service that gets a copy of calls. A copy is sent once, without retries, beside the call, which never waits for it. It
// is in the lane of the call, so that what is done for it stays there, too.
type Mirror struct {
	// Service is the logical service that gets the copies. Required.
	Service string `json:"service,omitempty" yaml:"service,omitempty"`
	// Select keeps the copies to the endpoints that have this metadata. Empty means any.
	Select map[string]string `json:"select,omitempty" yaml:"select,omitempty"`
	// Percent is how many of the calls are copied, from 0 to 100. nil means all.
	Percent *float64 `json:"percent,omitempty" yaml:"percent,omitempty"`
	// MaxBody is the size in bytes of the largest body that is copied; calls with a larger one are not mirrored. 0 means 64 KiB,
	// the most is 1 MiB.
	MaxBody int `json:"maxBody,omitempty" yaml:"maxBody,omitempty"`
	// MaxInFlight is how many copies may be under way at once; beyond that calls are not mirrored. 0 means 64.
	MaxInFlight int `json:"maxInFlight,omitempty" yaml:"maxInFlight,omitempty"`
	// Timeout bounds a copy. 0 means 15 s.
	Timeout time.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
	// Credentials says that copies keep what the caller proves itself with: Authorization and Cookie.
	Credentials bool `json:"credentials,omitempty" yaml:"credentials,omitempty"`
}

// Fault makes calls slow or fail, before anything is sent. Calls that are delayed have less of their time left.
type Fault struct {
	// Delay is how long calls are held up. 0 means not at all, the most is a minute.
	Delay time.Duration `json:"delay,omitempty" yaml:"delay,omitempty"`
	// DelayPercent is how many of the calls are held up, from 0 to 100. nil means all.
	DelayPercent *float64 `json:"delayPercent,omitempty" yaml:"delayPercent,omitempty"`
	// Abort is the HTTP status that calls fail with; RPCs fail with the gRPC code that Envoy and gRPC make of it, and calls by
	// Do with an error that has it. 0 means that they do not fail.
	Abort int `json:"abort,omitempty" yaml:"abort,omitempty"`
	// AbortCode is the gRPC code that RPCs fail with instead. 0 means the one that belongs to Abort.
	AbortCode uint32 `json:"abortCode,omitempty" yaml:"abortCode,omitempty"`
	// AbortPercent is how many of the calls fail, from 0 to 100, independently of DelayPercent. nil means all.
	AbortPercent *float64 `json:"abortPercent,omitempty" yaml:"abortPercent,omitempty"`
	// ByHeader lets calls ask for faults themselves by the headers Zerohop-Fault-Delay (milliseconds), Zerohop-Fault-Abort (HTTP
	// status) and Zerohop-Fault-Code (gRPC code). Then the fields above are the most that they get: a delay is at most Delay,
	// and percentages are of the calls that ask. Where Delay or Abort is 0, what the header says holds.
	ByHeader bool `json:"byHeader,omitempty" yaml:"byHeader,omitempty"`
	// MaxActive is how many calls of the rule may be held up at once; others are not. 0 means 100.
	MaxActive int `json:"maxActive,omitempty" yaml:"maxActive,omitempty"`
}

// Response is a fixed answer.
type Response struct {
	// Status is the HTTP status. 0 means 200.
	Status int `json:"status,omitempty" yaml:"status,omitempty"`
	// Code is the gRPC code that RPCs end with. 0 means the one that belongs to Status, which must not be that of a success: RPCs
	// have no fixed replies.
	Code uint32 `json:"code,omitempty" yaml:"code,omitempty"`
	// Headers are those of the response.
	Headers map[string]string `json:"headers,omitempty" yaml:"headers,omitempty"`
	// Body is the body of the response, at most 64 KiB; for RPCs it is the message of the status.
	Body string `json:"body,omitempty" yaml:"body,omitempty"`
}
