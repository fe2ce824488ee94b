// Package routing decides which service a call goes to: it matches the service, method, path, headers and more of a call
// against a list of rules and splits the calls of a rule between backends by weight.
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
//	decision := table.Route(&routing.Request{Service: "orders", Method: "GET", Path: "/v2/items"}, rand.Uint64())
//
// # Precedence
//
// A rule is for the calls that fit one of its matches. If several rules are for a call, the first difference between the matches
// decides, in the order of the Kubernetes Gateway API as far as that says something:
//
//  1. the service: one that is named, then the longer wildcard, then any;
//  2. the path: an exact one, or an RPC by service and method; then the longer regular expression; then the longer prefix, among
//     which an RPC by service counts as "/service", and comes before a prefix that is the same; then an RPC by method; then any;
//  3. a match that names the HTTP method;
//  4. more conditions on headers, then on the query, then on cookies;
//  5. a match for a lane, then one for a time, then one for a percentage of the calls;
//  6. the earlier rule in the list, and the earlier match in it.
//
// A call that does not meet all conditions of a match is looked at by the next one. That holds for the percentage, too.
//
// # Ambiguous queries
//
// A query with a ";", a malformed percent-encoding, more than 8 KiB or more than 128 parameters is read differently by different
// servers, or not at all. It meets no condition on the query, Not or otherwise. The same holds for more than 8 KiB of cookies, or
// more than 128.
//
// # Splits
//
// Without a key, shares are exact over many calls. With one, a call goes to the backend with the highest score for the hash of the
// key, where a score depends on one backend and its weight only. What that keeps in place, up to the chance of a draw:
//
//   - between two backends, exactly the change of the share moves: 95/5 to 90/10 moves 5 % of the keys;
//   - if one of any number gets another weight, is added or taken away, as many keys as its share changes by move to it or from it,
//     and none between the others;
//   - however many weights change, if d of the keys have to move (half the sum of the absolute changes of shares), at most
//     2d/(1+d) do, which no split without a memory betters in general (M. Bavarian et al., "On the Optimality of Correlated
//     Sampling Strategies", 2016; R. Moulton and Y. Jiang, "Maximally Consistent Sampling and the Jaccard Index of Probability
//     Distributions", 2018);
//   - weights that are all multiplied by the same factor move none.
//
// A backend is the same as long as its service and what it selects are, wherever it stands in the list.
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
