// Package consulapi makes requests to a Consul agent with the bounds that a library needs: answers of bounded size and in bounded
// time, refusals told apart, addresses but no credentials in errors. It has what watches of services and of
// configuration share.
package consulapi
