package consul

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"
)

// maxAnswer bounds an answer of the agent, decompressed. The 10,000 instances that discovery takes at most fit, at the 1.4 KB that
// one has at least and twice that; an endless answer does not fill the memory of every client.
const maxAnswer = 32 << 20

// maxRetryAfter bounds what an agent can ask us to wait.
const maxRetryAfter = time.Minute

// pingTime is the silence of a connection before a ping, and the time that this has to be answered. Twice of it is well
// below the 45 s within which a watch must notice. A ping a quarter of a minute costs nothing.
const pingTime = 15 * time.Second

var errTooLarge = errors.New("the answer is larger than 32 MiB")

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
	config.HttpClient.Transport = guard{next: next, indexes: newIndexes()}
	config.HttpClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client, nil
}

// guard bounds the answers of an agent and notes what api.Client drops of them.
type guard struct {
	next    http.RoundTripper
	indexes *indexes
}

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if x, ok := req.Context().Value(exchangeKey{}).(*exchange); ok {
		x.answered(retryAfter(resp.Header.Get("Retry-After"), time.Now()), g.indexes)
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

// boundedBody fails once more than left bytes were read, so that api.Client stops draining it, too.
type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// retryAfter reads the header of this name: seconds or a date. What cannot be read or lies in the past is 0.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
