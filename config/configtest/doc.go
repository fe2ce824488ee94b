// Package configtest checks that a [config.Source] keeps its contract, and has a [Memory] source for tests of code that
// uses sources.
//
//	func TestConformance(t *testing.T) {
//		configtest.Test(t, configtest.Source{
//			Source: consul.Source{Client: client, Key: "mesh.yaml"},
//			Set:    func(t testing.TB, document []byte) { ... },
//		})
//	}
//
// The suite works with real sources in real time. The documents that it sets are valid Specs, but nothing is made of them.
package configtest
