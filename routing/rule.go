package routing

import "time"

// Limits on a list of rules. They bound what a configuration from afar can cost; a list beyond one of them is refused.
const (
	maxRules      = 1000
	maxMatches    = 64 // per rule
	maxAllMatches = 4000
	maxConditions = 8000      // on headers, query and cookies, and keys of splits that a percentage looks for
	maxScans      = 1000      // of these, those in the query and in cookies, which are looked for from the beginning each time
	maxHeaders    = 64        // per match, and so many query parameters and cookies
	maxBackends   = 64        // per rule
	maxKeys       = 8         // per split
	maxSelect     = 64        // keys of metadata
	maxWeight     = 1_000_000 // per backend
	maxName       = 253       // bytes: the longest DNS name; for services, rules, policies, methods and headers
	maxPath       = 1 << 10   // bytes
	maxValue      = 1 << 10   // bytes of a header value
)

// Rule sends the calls that fit it to Backends under Policy, and says what else happens to them on the way.
type Rule struct {
	// Name tells the rule apart in errors and explanations. It is optional, and unique if set.
	Name string `json:"name,omitempty" yaml:"name,omitempty"`
	// Match says which calls the rule is for. The zero value fits every call.
	Match Match `json:"match,omitzero" yaml:"match,omitempty"`
	// Or are further matches, at most 63: the rule is for the calls that fit Match or one of these. The precedence of the rule
	// for a call is that of the best of them that fits.
	Or []Match `json:"or,omitempty" yaml:"or,omitempty"`
	// Backends shares the calls out, at most 64 of them. If there are none, calls stay with the service that the
	// caller named: such a rule only sets a policy, or keeps calls away from a rule of lower precedence.
	Backends []Backend `json:"backends,omitempty" yaml:"backends,omitempty"`
	// Split says how calls are shared out among Backends, and which are among the Percent of a match. The zero value is at
	// random.
	Split Split `json:"split,omitzero" yaml:"split,omitempty"`
	// Policy is the name of the policy for these calls, not interpreted here. Empty means that of the service.
	Policy string `json:"policy,omitempty" yaml:"policy,omitempty"`
	// Rewrite changes requests and responses on the way.
	Rewrite Rewrite `json:"rewrite,omitzero" yaml:"rewrite,omitempty"`
	// Mirrors are services that get a copy of the calls, at most 8. Their answers are thrown away.
	Mirrors []Mirror `json:"mirrors,omitempty" yaml:"mirrors,omitempty"`
	// Fault delays calls or makes them fail, to see what comes of it.
	Fault Fault `json:"fault,omitzero" yaml:"fault,omitempty"`
	// Response answers the calls at once, without any service. It excludes Backends and Mirrors. nil means none.
	Response *Response `json:"response,omitempty" yaml:"response,omitempty"`
}

// Match is a set of conditions; a call has to meet all of them. Empty fields are no condition.
type Match struct {
	// Service is the logical service that the caller named: the host of the URL. "*.example.com" fits every host that ends
	// in ".example.com", and makes such hosts services. Empty means any.
	Service string `json:"service,omitempty" yaml:"service,omitempty"`
	// Method is the HTTP method in upper case; gRPC calls are POST, as on the wire. Empty means any.
	Method string `json:"method,omitempty" yaml:"method,omitempty"`
	// Path is the condition on the path. The zero value means any, including paths that are ambiguous.
	Path Path `json:"path,omitzero" yaml:"path,omitempty"`
	// RPC is the condition on the gRPC method. It excludes Path and Method.
	RPC RPC `json:"rpc,omitzero" yaml:"rpc,omitempty"`
	// Headers are the conditions on headers or gRPC metadata, at most 64. A name may be there more than once.
	Headers []Field `json:"headers,omitempty" yaml:"headers,omitempty"`
	// Query are the conditions on the parameters in the query of the URL, at most 64. Names are compared byte by byte.
	Query []Field `json:"query,omitempty" yaml:"query,omitempty"`
	// Cookies are the conditions on cookies, at most 64. Names are compared byte by byte.
	Cookies []Field `json:"cookies,omitempty" yaml:"cookies,omitempty"`
	// After and Before bound the time of the call: not before After, and before Before. The zero value is no bound.
	After  time.Time `json:"after,omitzero" yaml:"after,omitempty"`
	Before time.Time `json:"before,omitzero" yaml:"before,omitempty"`
	// Percent is how many of the calls that meet all other conditions fit, from 0 to 100 with any number of decimals; which
	// they are is for Rule.Split to say. The others are left to rules of lower precedence. nil means all.
	Percent *float64 `json:"percent,omitempty" yaml:"percent,omitempty"`
	// Lane is the lane that the call is in; see the policies of the mesh. Empty means any, in a lane or not.
	Lane string `json:"lane,omitempty" yaml:"lane,omitempty"`
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
	// Regex is a regular expression of package regexp that the whole decoded path has to fit.
	Regex string `json:"regex,omitempty" yaml:"regex,omitempty"`
}

// RPC is a condition on the method of a gRPC call. Case counts.
type RPC struct {
	// Service is the full name of the gRPC service, "package.Service". Empty means any.
	Service string `json:"service,omitempty" yaml:"service,omitempty"`
	// Method is the name of the method without the service. Empty means any.
	Method string `json:"method,omitempty" yaml:"method,omitempty"`
}

// Field is a condition on a header, on a parameter of the query or on a cookie: one of Value, Prefix, Regex and Present is
// set. Only the first value of a repeated one is looked at, and one with an empty value counts as absent.
type Field struct {
	// Name is the name, for headers in any case. Hop-by-hop headers, pseudo-headers, Host and Content-Length are
	// refused: they belong to the connection or are not among the headers of a request.
	Name string `json:"name,omitempty" yaml:"name,omitempty"`
	// Value is the exact value, at most 1 KiB.
	Value string `json:"value,omitempty" yaml:"value,omitempty"`
	// Prefix is how the value begins, at most 1 KiB.
	Prefix string `json:"prefix,omitempty" yaml:"prefix,omitempty"`
	// Regex is a regular expression of package regexp that the whole value has to fit.
	Regex string `json:"regex,omitempty" yaml:"regex,omitempty"`
	// Present makes any value but the empty one fit.
	Present bool `json:"present,omitempty" yaml:"present,omitempty"`
	// Not turns the condition round: calls fit that do not meet it, such as those without the header.
	Not bool `json:"not,omitempty" yaml:"not,omitempty"`
}

// Backend is a service and its share of the calls of a rule.
type Backend struct {
	// Service is the logical service that gets the calls.
	Service string `json:"service,omitempty" yaml:"service,omitempty"`
	// Weight is the share relative to the sum over the rule, at most 1,000,000. 0 means no calls, except that a
	// single backend gets all of them whatever its weight.
	Weight uint32 `json:"weight,omitempty" yaml:"weight,omitempty"`
	// Select keeps the calls to the endpoints that have this metadata (discovery.Endpoint.Meta), such as a version. It takes the
	// place of what the policy selects by. Two backends may be parts of one service. Empty means no selection.
	Select map[string]string `json:"select,omitempty" yaml:"select,omitempty"`
	// Credentials says that calls keep what the caller proves himself with (Authorization, Cookie and the Proxy- headers) although
	// this is not the service that he named. Calls that stay with that keep it in any case.
	Credentials bool `json:"credentials,omitempty" yaml:"credentials,omitempty"`
	// Headers changes the headers of requests to this backend, after Rule.Rewrite.
	Headers Headers `json:"headers,omitzero" yaml:"headers,omitempty"`
}

// Split says which calls go together: those of one user stay on one side of a split. Calls without a key are split at random,
// each by itself.
type Split struct {
	// Key says where the key comes from: the first of these that the call has. A key that the call brings along by itself
	// (zerohop.CallOptions.HashKey) comes before. Empty means that there is none, or where
	// Name is set, that only that one counts. At most 8, of which the first 1,024 bytes count.
	Key []Key `json:"key,omitempty" yaml:"key,omitempty"`
	// Name tells splits apart. In splits of one name a key falls on the same side as long as the backends and weights are the
	// same; in others it falls independently. Empty means the service of the match. The percentages of matches are such splits as
	// well: a key among 5 % is among 10 % of the same name, too.
	Name string `json:"name,omitempty" yaml:"name,omitempty"`
}

// Key is where a call has its key: exactly one field is set, to a name.
type Key struct {
	// Header is a header, or a key of gRPC metadata.
	Header string `json:"header,omitempty" yaml:"header,omitempty"`
	// Query is a parameter in the query of the URL.
	Query string `json:"query,omitempty" yaml:"query,omitempty"`
	// Cookie is a cookie.
	Cookie string `json:"cookie,omitempty" yaml:"cookie,omitempty"`
}

// share is the effective weight of backend i.
func (r *Rule) share(i int) uint64 {
	if len(r.Backends) == 1 {
		return 1
	}
	return uint64(r.Backends[i].Weight)
}

// matches is the number of matches of the rule, and match one of them.
func (r *Rule) matches() int { return 1 + len(r.Or) }

func (r *Rule) match(i int) *Match {
	if i == 0 {
		return &r.Match
	}
	return &r.Or[i-1]
}
