// Package hostiletest holds tests only: they put httpmesh.Transport between callers that cancel, close early and hang
// up, and servers that lie, stall, cut answers and reset connections, over real sockets, and hold it to its promises
// from outside.
package hostiletest
