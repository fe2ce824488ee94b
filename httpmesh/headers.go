package httpmesh

// The headers that zerohop speaks between its clients and its servers. They go to services only, never to other hosts,
// and not where Policy.Propagate is off.
const (
	// TimeoutHeader of a request is the time left to its caller, in whole milliseconds: "Zerohop-Timeout: 250".
	TimeoutHeader = "Zerohop-Timeout"
	// AttemptHeader of a request is how often the call was sent before. A first attempt has none.
	AttemptHeader = "Zerohop-Attempt"
	// NoRetryHeader of a response, if not empty, asks the caller not to repeat the call: below, it was repeated
	// already.
	NoRetryHeader = "Zerohop-No-Retry"
)
