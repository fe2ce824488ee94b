// Package etcdapi reads and watches keys of etcd with the bounds that a library needs: one request a second, answers of bounded
// size, dead servers found, refusals told apart, one stream for all watches of a client. It has what watches of services
// and of configuration share.
package etcdapi
