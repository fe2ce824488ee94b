// Package healthcheck asks endpoints time and again whether they are well, at a bounded cost: a Runner checks all
// endpoints of a service from one goroutine, with so many checks at a time and per second at most.
//
// Users of a mesh need little of it: they set zerohop.Policy.HealthCheck, and write a Checker if no protocol that there is
// fits. What is done about endpoints that fail is the business of others; see loadbalance.Balancer.SetFailing.
package healthcheck
