// Package consultest runs a real Consul agent for integration tests: in development mode, on free ports of loopback,
// killed when the test ends. It works on Unix only.
//
//	agent := consultest.Start(t, consultest.Options{})
//	client, err := api.NewClient(agent.Config(""))
package consultest
