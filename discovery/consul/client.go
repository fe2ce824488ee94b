package consul

import (
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/internal/consulapi"
)

// pingTime is the silence of a connection before a ping, and the time that this has to be answered. Twice of it is well
// below the 45 s within which a watch must notice. A ping a quarter of a minute costs nothing.
const pingTime = 15 * time.Second

// NewClient returns api.NewClient(&config) with an HTTP client that adds what api.Client leaves open:
//
//   - An answer is cut off at 32 MiB.
//   - Redirects are not followed: net/http would send the ACL token along to the other host.
//   - Retry-After reaches [discovery.RefusedError].
//   - A watch of [Resolver] knows which index the watches before it saw.
//
// config.HttpClient and config.Transport, if set, are used and not changed, except that api.NewClient
// puts config.TLSConfig into a Transport that has none. If both are nil, there is more:
//
//   - Over http and Unix sockets, a watch has a connection and no goroutine besides that of its caller; with
//     http.Transport it has two more. An agent takes no more than 200 connections of one host, unless its
//     limits.http_max_conns_per_client says so: raise that where the processes on a host watch more services.
//   - Over https, up to 250 watches share one connection of HTTP/2, and each has one goroutine more. Those that begin
//     before the first connection is there dial as well, and close theirs. A connection that died without a word is
//     found within 30 s by pings.
func NewClient(config api.Config) (*api.Client, error) {
	own := config.HttpClient == nil && config.Transport == nil
	if config.HttpClient != nil {
		copied := *config.HttpClient
		config.HttpClient = &copied
	}
	client, err := api.NewClient(&config)
	if err != nil {
		return nil, fmt.Errorf("consul: client for %q: %w", config.Address, err)
	}
	// api.NewClient has put the HTTP client it uses into config, and the client holds the same pointer.
	next := config.HttpClient.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	if t, ok := next.(*http.Transport); ok && own {
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingTime, PingTimeout: pingTime}
		next = newDirect(t)
	}
	config.HttpClient.Transport = consulapi.Guard{Next: next, Owner: newIndexes()}
	config.HttpClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client, nil
}
