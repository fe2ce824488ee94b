package console

import "time"

// The views are the JSON that the page and machines read. Durations are in milliseconds, shares and levels between 0 and 1, rates per
// second, times in RFC 3339. Names, addresses and texts are made visible: what is no printable character is written as \u{202e}, a
// byte that is no UTF-8 as \x{ff}, and a backslash as two. They are told apart by that spelling, and parameters of requests have
// it, too. HTML needs them escaped as any text. -1 stands for what there is none of where 0 would mean something. Lists are never null.
//
// The stream (GET api/stream, text/event-stream) sends events named "summary", "service", "events" and "failures" with the view of that name as
// data, each whole at first. Then there is a summary each tick, of the lines that have changed (see Summary.Delta), and new events and
// failures if there are any. "service" comes each tick for the service of the parameters service and mesh, if there
// is one, and events and failures are those of all services nevertheless. A page that looks at another service opens another stream.

// Summary is all services in a line each: GET api/summary, and the event "summary" of the stream.
type Summary struct {
	// Time is when it was read.
	Time time.Time `json:"time"`
	// Name is Config.Name.
	Name string `json:"name"`
	// Tick is the time between two points of a Spark or a History.
	Tick float64 `json:"tick"`
	// Point is the number of the last tick: a reader of the stream knows by it how many points there are to add.
	Point uint64 `json:"point"`
	// Delta says that Services has only what has changed since the last summary of the stream, without Spark, and Gone those
	// that are there no more; else Services are all there are.
	Delta bool          `json:"delta,omitempty"`
	Gone  []ServiceName `json:"gone,omitempty"`
	// Admin is Config.AdminPath, where operators may act; empty if they may not.
	Admin string `json:"admin,omitempty"`
	// Meshes are those that are open, in the order in which they were opened.
	Meshes []MeshLine `json:"meshes"`
	// Services are sorted by mesh and name.
	Services []ServiceLine `json:"services"`
	// Event and Failure are the numbers of the last ones there are, 0 if none.
	Event   uint64 `json:"event"`
	Failure uint64 `json:"failure"`
	// Uncounted is how many calls and attempts had no place in the counts because there are too many services or endpoints.
	Uncounted uint64 `json:"uncounted,omitempty"`
}

// MeshLine is a mesh.
type MeshLine struct {
	// Mesh tells it apart, and Name is for people: two may have the same.
	Mesh string `json:"mesh"`
	Name string `json:"name"`
	// Instance and Zone are those of the process, as far as they are known.
	Instance string `json:"instance,omitempty"`
	Zone     string `json:"zone,omitempty"`
	// Generation is the number of the Spec in force.
	Generation uint64 `json:"generation"`
	// Opened is when the console learned of the mesh.
	Opened time.Time `json:"opened"`
}

// ServiceName tells a service apart.
type ServiceName struct {
	Mesh    string `json:"mesh"`
	Service string `json:"service"`
}

// Status is how a service or an endpoint is, in one word.
type Status string

const (
	// StatusOK: nothing speaks against it.
	StatusOK Status = "ok"
	// StatusIdle services were not asked for so far.
	StatusIdle Status = "idle"
	// StatusDegraded services work with some of their endpoints out, with an operator's hand on them, with a source that is not
	// heard, or fail more than 1 of 100 calls; degraded endpoints are so for the source, or failed a moment ago.
	StatusDegraded Status = "degraded"
	// StatusDown services have no endpoint in service, an open breaker, or fail half of their calls or more.
	StatusDown Status = "down"
	// StatusEjected, StatusFailing, StatusBreaker and StatusUnhealthy endpoints are out of service: ejected, by their active health
	// checks, by their circuit breaker or by what the source says.
	StatusEjected   Status = "ejected"
	StatusFailing   Status = "failing checks"
	StatusBreaker   Status = "breaker open"
	StatusUnhealthy Status = "unhealthy"
	// StatusOut and StatusDraining endpoints were taken out by an operator.
	StatusOut      Status = "taken out"
	StatusDraining Status = "draining"
)

// Traffic is what went somewhere within a window.
type Traffic struct {
	// Rate is per second, and Errors the share of them that failed.
	Rate   float64 `json:"rate"`
	Errors float64 `json:"errors"`
	// P50 and P99 are quantiles of the latency, at most an eighth too long; 0 if nothing succeeded or failed.
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// ServiceLine is a service in a line.
type ServiceLine struct {
	ServiceName
	Status Status `json:"status"`
	// Balance is the algorithm.
	Balance string `json:"balance"`
	// Now and Minute are the calls of the last 10 s and of the last 60 s.
	Now    Traffic `json:"now"`
	Minute Traffic `json:"minute"`
	// Calls and Failures are those since the mesh was opened.
	Calls    uint64 `json:"calls"`
	Failures uint64 `json:"failures"`
	// Attempts, Retries and Backups are the rates of the last 10 s: Attempts are all of them. Refused is that of calls and attempts
	// that the client refused.
	Attempts float64 `json:"attempts"`
	Retries  float64 `json:"retries"`
	Backups  float64 `json:"backups"`
	Refused  float64 `json:"refused"`
	// InFlight is how many attempts are under way.
	InFlight int `json:"inFlight"`
	// Endpoints are those in use, Out how many of them are out of service, LeftOut how many this client leaves to others.
	Endpoints int `json:"endpoints"`
	Out       int `json:"out"`
	LeftOut   int `json:"leftOut,omitempty"`
	// Panicking says that so many are out that it does not count.
	Panicking bool `json:"panicking,omitempty"`
	// Budget is the level of the retry budget, -1 if there is none.
	Budget float64 `json:"budget"`
	// RetriesPaused is how much longer an operator has retries paused, 0 if none has.
	RetriesPaused float64 `json:"retriesPaused,omitempty"`
	// Breaker is the state of the breaker of the service, empty if there is none; ProbeIn is when it lets a call through, and Forced
	// how much longer an operator has set it.
	Breaker string  `json:"breaker,omitempty"`
	ProbeIn float64 `json:"probeIn,omitempty"`
	Forced  float64 `json:"forced,omitempty"`
	// Throttle is the share of attempts that throttling refuses, -1 if there is none.
	Throttle float64 `json:"throttle"`
	// SourceAge is how long the source has not been heard, 0 while it is.
	SourceAge float64 `json:"sourceAge"`
	// Spark is the rate of calls in each tick, the latest last, and SparkErrors that of failures.
	Spark       []float64 `json:"spark,omitempty"`
	SparkErrors []float64 `json:"sparkErrors,omitempty"`
}

// ServiceView is a service with its endpoints: GET api/service?service=..., and the event "service" of the stream. If several meshes
// have it and no parameter mesh says which, it is the first.
type ServiceView struct {
	Time time.Time   `json:"time"`
	Line ServiceLine `json:"line"`
	// Named says that the spec names it; else calls did.
	Named     bool          `json:"named"`
	Discovery DiscoveryView `json:"discovery"`
	// Limit is that of calls in flight, nil if there is none.
	Limit *LimitView `json:"limit,omitempty"`
	// History is that of its calls.
	History History `json:"history"`
	// Zones sums up the endpoints by zone, sorted by name.
	Zones []ZoneView `json:"zones"`
	// Endpoints are sorted by address. Of more than the parameter limit (200 by default, at most 1000) those out of service and
	// then those with the most traffic are there; Total is how many there are.
	Endpoints []EndpointView `json:"endpoints"`
	Total     int            `json:"total"`
}

// DiscoveryView is what is known of the source of a service.
type DiscoveryView struct {
	// Known is set once the source has answered.
	Known bool `json:"known"`
	// Endpoints is how many there are, Held how many of them the source does not list any more.
	Endpoints int `json:"endpoints"`
	Held      int `json:"held,omitempty"`
	// Changed is how long ago they last changed, -1 if never.
	Changed float64 `json:"changed"`
	// Age is how long the source has not been heard, 0 while it is, and Error why.
	Age   float64 `json:"age"`
	Error string  `json:"error,omitempty"`
}

// LimitView is a limit of calls in flight.
type LimitView struct {
	Limit    int     `json:"limit"`
	InFlight int     `json:"inFlight"`
	Queued   int     `json:"queued"`
	Wait     float64 `json:"wait"`
}

// ZoneView is the part of a service in a zone.
type ZoneView struct {
	Zone      string `json:"zone"`
	Endpoints int    `json:"endpoints"`
	Out       int    `json:"out"`
	// Rate is that of attempts within the last 10 s.
	Rate float64 `json:"rate"`
}

// History is what was counted in each tick, the latest last: at most 60 of them.
type History struct {
	Rate   []float64 `json:"rate"`
	Errors []float64 `json:"errors"` // failures per second
	P50    []float64 `json:"p50"`    // 0 where nothing was counted
	P99    []float64 `json:"p99"`
}

// EndpointView is an endpoint.
type EndpointView struct {
	Addr string `json:"addr"`
	Zone string `json:"zone,omitempty"`
	// Priority is its level, 0 the first.
	Priority uint8 `json:"priority"`
	// Weight is that of the source, 0 counts as 1; SlowStart is the part of it that it gets while it is new, 1 afterwards.
	Weight    uint32  `json:"weight"`
	SlowStart float64 `json:"slowStart"`
	// Status is how it is, Why the reason in words where there is one, and Health what the source says.
	Status Status `json:"status"`
	Why    string `json:"why,omitempty"`
	Health string `json:"health"`
	// ProbeIn is when it is tried again: the end of the ejection or the pause of the breaker. BackIn is when an operator's time is up.
	ProbeIn float64 `json:"probeIn,omitempty"`
	BackIn  float64 `json:"backIn,omitempty"`
	// Breaker is the state of its circuit breaker, empty if there is none.
	Breaker string `json:"breaker,omitempty"`
	// InFlight is its load, and Limit the most that it may be, 0 if that is not limited.
	InFlight int `json:"inFlight"`
	Limit    int `json:"limit,omitempty"`
	// Cost is the latency that picks go by, 0 if none is known.
	Cost float64 `json:"cost"`
	// Picks is how many attempts went there since it was in the set.
	Picks uint64 `json:"picks"`
	// Share is the part of the traffic that it is meant to get, and Got what it got of the attempts of the last 10 s.
	Share float64 `json:"share"`
	Got   float64 `json:"got"`
	// Now are the attempts of the last 10 s; the quantiles are those of the last 30 to 60 s.
	Now Traffic `json:"now"`
	// History is that of its attempts, empty if it has had none.
	History History `json:"history"`
	// Socket is its Unix socket, nil if it has none that calls may use.
	Socket *SocketView `json:"socket,omitempty"`
	// Meta is its metadata, sorted. Values under names that sound secret are "[redacted]".
	Meta []Pair `json:"meta,omitempty"`
}

// SocketView is the Unix socket of an endpoint on the same host.
type SocketView struct {
	// State is "used" if the last connection went there, "failing" if it could not, and "unused" if there was none yet.
	State string `json:"state"`
	// Why is what failed.
	Why string `json:"why,omitempty"`
}

// Pair is a name with a value.
type Pair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// PolicyView is a policy in force: GET api/policy?service=...&policy=... (the name of a policy of routes, empty for none).
type PolicyView struct {
	ServiceName
	// Policy is that of the route, and Policies are those that there are to ask for, sorted.
	Policy   string   `json:"policy,omitempty"`
	Policies []string `json:"policies,omitempty"`
	// Generation is the number of the Spec.
	Generation uint64 `json:"generation"`
	// Layers are those that the policy is made of, the narrowest first.
	Layers []string `json:"layers"`
	// Fields are those that have a value, in the order of the documentation.
	Fields []PolicyField `json:"fields"`
}

// PolicyField is a field of a policy.
type PolicyField struct {
	// Path is that of its name, such as "retry.attempts", and Value its value as text.
	Path  string `json:"path"`
	Value string `json:"value"`
	// Origin is the layer that it is from; empty if the stage that it belongs to has a default of its own.
	Origin string `json:"origin,omitempty"`
}

// RoutesView are the routes: GET api/routes. With the parameter service it has those that calls to the service can come under, and
// those that lead there.
type RoutesView struct {
	Time   time.Time   `json:"time"`
	Routes []RouteView `json:"routes"`
}

// RouteView is a rule.
type RouteView struct {
	Mesh string `json:"mesh"`
	// Index is its place in the spec, and Name its name, empty if it has none.
	Index int    `json:"index"`
	Name  string `json:"name,omitempty"`
	// Matches says which calls it is for, each in words. Values of headers, cookies and parameters are left out.
	Matches []string `json:"matches"`
	// Policy is the name of its policy, empty if it has none.
	Policy string `json:"policy,omitempty"`
	// Actions says what else it does, such as "mirror to audit 5%" or "abort 10% with 503".
	Actions []string `json:"actions,omitempty"`
	// Backends are those that it shares calls out to; a single one without a weight if calls stay where they are.
	Backends []BackendView `json:"backends"`
	// Now are the calls of the last 10 s, Calls those since the rule is in force.
	Now   Traffic `json:"now"`
	Calls uint64  `json:"calls"`
}

// BackendView is a backend of a rule.
type BackendView struct {
	// Service is empty if calls stay with the service that they named.
	Service string `json:"service"`
	Select  []Pair `json:"select,omitempty"`
	// Share is the part of the calls that it is meant to get, and Got what it got of those of the last 10 s, -1 if there were none.
	Weight uint32  `json:"weight"`
	Share  float64 `json:"share"`
	Got    float64 `json:"got"`
	// Now are the calls of the last 10 s, without quantiles, Calls those since the rule is in force.
	Now   Traffic `json:"now"`
	Calls uint64  `json:"calls"`
}

// TopologyView is who calls whom, as far as the process knows: its meshes call, and what calls its servers is counted (see
// Console.Inbound): GET api/topology.
type TopologyView struct {
	Time time.Time `json:"time"`
	// Nodes are meshes, which call, services, which are called, the process with the name of Config.Name if somebody calls it, and
	// those callers. Nodes of the same name are one, but callers, whose ID is no name.
	Nodes []TopologyNode `json:"nodes"`
	Edges []TopologyEdge `json:"edges"`
}

// TopologyNode is a process that calls, a service that is called, or the callers of a server.
type TopologyNode struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Mesh is that of a node that calls, empty for others; Service says that it is called.
	Mesh    string `json:"mesh,omitempty"`
	Service bool   `json:"service,omitempty"`
	// Callers says that the node stands for all who call a server of the process, which is its Name: they do not say who they are.
	Callers bool   `json:"callers,omitempty"`
	Status  Status `json:"status"`
	// Zone is that of a mesh, Zones those of the endpoints of a service.
	Zone  string     `json:"zone,omitempty"`
	Zones []ZoneView `json:"zones,omitempty"`
}

// TopologyEdge is calls from a mesh to a service, or from callers to the process.
type TopologyEdge struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Mesh and Service are those to ask for, empty for calls to the process. Fallbacks for other services and copies of calls are among
	// the calls.
	ServiceName
	// Now are the calls of the last 10 s; those to the process have no quantiles.
	Now Traffic `json:"now"`
}

// AdminRequest is what an Admin is asked for, as JSON: POST to Config.AdminPath.
type AdminRequest struct {
	// Action is "eject", "drain", "force breaker", "pause retries" or "release".
	Action string `json:"action"`
	ServiceName
	// Addr is the endpoint of "eject" and "drain"; "release" with an Addr is of that endpoint, without one of the service: its breaker and
	// its retries.
	Addr string `json:"addr,omitempty"`
	// State is for "force breaker": "forced-open", "disabled" or "metrics-only".
	State string `json:"state,omitempty"`
	// For is for how long, as in "10m". All actions but "release" must have it.
	For string `json:"for,omitempty"`
	// Why is for those who read of it later. Required.
	Why string `json:"why"`
}

// AdminAnswer is the answer to it. Its HTTP status is 200 if it was done.
type AdminAnswer struct {
	Done  bool   `json:"done"`
	Error string `json:"error,omitempty"`
	// Until is when it ends.
	Until time.Time `json:"until,omitzero"`
}
