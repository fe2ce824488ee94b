// Package incident keeps the decisions of the last minutes of a mesh in memory, and writes them to a file when somebody asks or when an
// objective is missed: which calls failed and why, which attempts went where, what was ejected, what the registry said, what an
// operator did. The command "zerohop incident" merges the files of several processes into one timeline and names the most likely
// first cause.
//
//	rec, err := incident.New(incident.Config{
//		Dir:  "/var/lib/orders/incidents",
//		SLOs: []incident.SLO{{Service: "stock", Objective: 0.999}},
//	})
//	if err != nil {
//		return err
//	}
//	defer rec.Close()
//	mesh, err := zerohop.New(zerohop.Config{Resolver: r, Hooks: zerohop.JoinHooks(hooks, rec.Hooks())})
//
// Memory is a fixed number of bytes. Calls are counted per second, service and route, with a histogram of their latencies; only some of
// those that fail are kept one by one: with their explanation the first three a second of a route, and ten a second in all. What happens
// to endpoints, breakers, registries and specs is kept apart, so that a flood of failures does not push it out.
//
// A dump has no header, body, path or query of a call. It has names of services, routes, methods and endpoints, and texts of errors, cut,
// and without what looks like a query or a credential. Texts may come from servers: see Config.OmitTexts.
//
// It is of no use for what happened hours ago, nor for sums: that is what metrics are for, see package telemetry.
package incident
