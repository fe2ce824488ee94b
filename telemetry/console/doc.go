// Package console is a page about the meshes of a process, for people, and the same as JSON for machines: services and endpoints with
// their traffic and health, routes and how they share it out, failures and why they failed, what happened when, the policies in
// force and where they are from.
//
//	c, err := console.New(console.Config{Name: "checkout"})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	mesh, err := zerohop.New(zerohop.Config{Resolver: r, Hooks: zerohop.JoinHooks(metrics, c.Hooks())})
//	...
//	internal := http.NewServeMux() // of a port that only operators reach
//	internal.Handle("/debug/zerohop/", c)
//
// It is served nowhere unless the program mounts it. Whoever reaches it reads the names, addresses and metadata of all services: it
// checks the Host of requests, which keeps web pages away, but knows no users. It changes nothing: what does is an [Admin], which
// asks the program who is allowed to.
//
// Requests (GET and HEAD) are answered whatever prefix they come with, so that it can be mounted with or without http.StripPrefix:
//
//	/                 the page
//	/api/summary      Summary: all services in a line each
//	/api/service      ServiceView: a service with its endpoints
//	/api/policy       PolicyView: the policy of a service, or of it under a route's policy, with the origin of each value
//	/api/routes       RoutesView: the routes and what went where
//	/api/failures     FailuresView: calls that failed, and why
//	/api/events       EventsView: what happened
//	/api/topology     TopologyView: who calls whom
//	/api/stream       Summary, ServiceView, EventsView and FailuresView as server-sent events
//
// Their parameters are service and mesh, which keep an answer to those, and those that the views have. Fields of the views may be
// added; what is there keeps its name and its meaning.
//
// The memory is bounded, whatever is called: see MaxServices and the other constants. Hooks cost a call about a hundred nanoseconds
// and allocate nothing once its service and its endpoint are known.
package console
