// Package routing decides which service a call goes to: it matches the service, method, path and headers of a call
// against an ordered list of rules and splits the calls of a rule between backends by weight.
//
// Rules are plain data. [Compile] checks them and builds an immutable [Table] that answers without a lock or an
// allocation:
//
//	table, err := routing.Compile([]routing.Rule{{
//		Name:  "canary",
//		Match: routing.Match{Service: "orders", Path: routing.Path{Prefix: "/v2"}},
//		Backends: []routing.Backend{
//			{Service: "orders", Weight: 95},
//			{Service: "orders-next", Weight: 5},
//		},
//	}})
//	...
//	rule, backend := table.Route(&routing.Request{Service: "orders", Method: "GET", Path: "/v2/items"}, rand.Uint64())
//
// # Precedence
//
// The order is that of the Kubernetes Gateway API, and the first difference decides: a rule that names the service
// before one for any service, then an exact path, then the longer prefix, then a rule that names the method, then the
// rule with more headers, then the earlier one in the list.
//
// # Ambiguous paths
//
// Caller, proxy and server may read a path such as /public/../admin, /public/%2e%2e/admin or /public;/admin
// differently. Matching one reading while the server acts on another is how route conditions are walked around, so a
// path that has more than one reading matches only rules without a path condition. A path is ambiguous if it
//
//   - does not begin with "/" (the empty path counts as "/"),
//   - has an empty segment ("//"; one "/" at the end is fine) or a segment "." or "..",
//   - holds ";", "\", "?", "#" or a control character, or
//   - holds a malformed percent-encoding, or one of "/", ".", ";", "\", "%" or a control character.
//
// Every other percent-encoding counts as the byte it stands for, so /caf%C3%A9 and /%63af%c3%a9 are one path. Paths
// are compared byte by byte: case counts.
//
// # When not to use it
//
// Routing chooses services, not instances (see package loadbalance), and is not access control: a server has to make
// its own decision on the request it receives.
package routing
