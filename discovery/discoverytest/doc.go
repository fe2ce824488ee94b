// Package discoverytest checks that a [discovery.Resolver] keeps its contract, and has a [Memory] source for tests
// of code that uses resolvers.
//
//	func TestConformance(t *testing.T) {
//		discoverytest.Test(t, discoverytest.Source{
//			Resolver: consul.Resolver{Client: client},
//			Set:      func(t testing.TB, service string, set []discovery.Endpoint) { ... },
//		})
//	}
//
// The suite works with real sources in real time. What a resolver makes of the details of its source (weights,
// tags, health) is left to the resolver's own tests.
package discoverytest
