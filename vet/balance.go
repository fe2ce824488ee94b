package vet

import (
	"math"
	"slices"

	"github.com/zerohop/zerohop"
)

// hashing are the algorithms that look at the key of a call.
var hashing = []string{"rendezvous", "ring-hash", "maglev"}

// balance looks at how endpoints are chosen, and at what is repeated on them.
func (r *runner) balance(u *use) {
	p := &u.p
	hashes := slices.Contains(hashing, p.Balance)
	if hashes && len(p.Hash) == 0 && u.explicit("balance") && (u.load != nil || u.policy == "") && !hashedByRoutes(u) {
		r.report(u, hashKeyMissing, Note, u.blame("balance"), "balance is %q and hash is empty, so calls without CallOptions.HashKey go to a random endpoint each: say in hash where the key comes from", p.Balance)
	}
	if at, ok := u.origin("hash"); ok && !hashes && at != "defaults" && builtIn(p.Balance) {
		r.report(u, hashUnused, Warning, at+".hash", "hash has no effect, as balance is %q: set balance to one of %q, or remove hash", p.Balance, hashing)
	}
	if u.load == nil {
		return
	}
	if u.load.unsafe != "" && p.Idempotent == zerohop.On && p.Retry.Attempts > 1 && (p.Retry.Mode == zerohop.On || p.Backup.Mode == zerohop.On) {
		r.report(u, repeatsWrites, Error, u.blame("idempotent"), "%s must not be executed twice, and idempotent: on lets it be sent up to %d times: leave idempotent out, or give that call a route with a policy of its own", u.load.unsafe, p.Retry.Attempts)
	}
	n, clients := u.load.endpoints, u.load.processes
	switch {
	case p.Subset <= 0 || n == 0:
	case n <= max(p.Subset, fewEndpoints):
		r.report(u, subsetWithoutEffect, Note, u.blame("subset"), "there are %d endpoints, and processes keep to a subset of %d only where there are more than %d: remove it", n, p.Subset, max(p.Subset, fewEndpoints))
	case p.Subset*clients < n:
		r.report(u, subsetTooSmall, Warning, u.blame("subset"), "%d processes with a subset of %d know %d of %d endpoints at most: raise subset to %d or more",
			clients, p.Subset, p.Subset*clients, n, int(math.Ceil(1.5*float64(n)/float64(clients))))
	}
}

// hashedByRoutes reports whether some route has a policy that says where the key comes from.
func hashedByRoutes(u *use) bool {
	for _, p := range u.doc.Spec.Policies {
		if len(p.Hash) > 0 {
			return true
		}
	}
	return false
}

// builtIn reports whether an algorithm is known to ignore keys: those of Config.Balancers may look at them.
func builtIn(balance string) bool {
	return slices.Contains([]string{"peak-ewma", "least-request", "prequal", "utilization", "weighted-round-robin", "random"}, balance)
}
