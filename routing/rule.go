package routing

// Limits on a list of rules. They bound what a configuration from afar can cost; a list beyond one of them is refused.
const (
	maxRules    = 1000
	maxHeaders  = 64        // per match
	maxBackends = 64        // per rule
	maxWeight   = 1_000_000 // per backend
	maxName     = 253       // bytes: the longest DNS name; for services, rules, policies, methods and headers
	maxPath     = 1 << 10   // bytes
	maxValue    = 1 << 10   // bytes of a header value
)

// Rule sends the calls that fit Match to Backends under Policy.
type Rule struct {
	// Name tells the rule apart in errors and explanations. It is optional, and unique if set.
	Name string `json:"name,omitempty" yaml:"name,omitempty"`
	// Match says which calls the rule is for. The zero value fits every call.
	Match Match `json:"match,omitzero" yaml:"match,omitempty"`
	// Backends shares the calls out, at most 64 of them. If there are none, calls stay with the service that the
	// caller named: such a rule only sets a policy, or keeps calls away from a rule of lower precedence.
	Backends []Backend `json:"backends,omitempty" yaml:"backends,omitempty"`
	// Policy is the name of the policy for these calls, not interpreted here. Empty means that of the service.
	Policy string `json:"policy,omitempty" yaml:"policy,omitempty"`
}

// Match is a set of conditions; a call has to meet all of them. Empty fields are no condition.
type Match struct {
	// Service is the logical service that the caller named. Empty means any.
	Service string `json:"service,omitempty" yaml:"service,omitempty"`
	// Method is the HTTP method in upper case; gRPC calls are POST, as on the wire. Empty means any.
	Method string `json:"method,omitempty" yaml:"method,omitempty"`
	// Path is the condition on the path. The zero value means any, including paths that are ambiguous.
	Path Path `json:"path,omitzero" yaml:"path,omitempty"`
	// Headers are the conditions on headers, at most 64 and no name twice.
	Headers []Header `json:"headers,omitempty" yaml:"headers,omitempty"`
}

// Path is a condition on the path of a call; at most one field is set. For gRPC the path is the full method name,
// "/package.Service/Method". Paths are written decoded ("/café", not "/caf%C3%A9"), unambiguous as the package comment
// defines it, and at most 1 KiB long.
type Path struct {
	// Exact is the whole path. "/v1" and "/v1/" are two paths.
	Exact string `json:"exact,omitempty" yaml:"exact,omitempty"`
	// Prefix is compared by whole segments: "/v1" fits /v1, /v1/ and /v1/x, but not /v10. A "/" at its end makes no
	// difference. "/" fits every path that is not ambiguous.
	Prefix string `json:"prefix,omitempty" yaml:"prefix,omitempty"`
}

// Header is a condition on one header: either Value or Present is set. Only the first value of a repeated header is
// looked at, and a header with an empty value counts as absent.
type Header struct {
	// Name is the name of the header in any case. Hop-by-hop headers, pseudo-headers, Host and Content-Length are
	// refused: they belong to the connection or are not among the headers of a request.
	Name string `json:"name,omitempty" yaml:"name,omitempty"`
	// Value is the exact value, at most 1 KiB.
	Value string `json:"value,omitempty" yaml:"value,omitempty"`
	// Present makes any value but the empty one fit.
	Present bool `json:"present,omitempty" yaml:"present,omitempty"`
}

// Backend is a service and its share of the calls of a rule.
type Backend struct {
	// Service is the logical service that gets the calls.
	Service string `json:"service,omitempty" yaml:"service,omitempty"`
	// Weight is the share relative to the sum over the rule, at most 1,000,000. 0 means no calls, except that a
	// single backend gets all of them whatever its weight.
	Weight uint32 `json:"weight,omitempty" yaml:"weight,omitempty"`
}

// catchAll reports whether the match fits every call to its service.
func (m *Match) catchAll() bool {
	return m.Method == "" && m.Path == Path{} && len(m.Headers) == 0
}

// share is the effective weight of backend i.
func (r *Rule) share(i int) uint64 {
	if len(r.Backends) == 1 {
		return 1
	}
	return uint64(r.Backends[i].Weight)
}
