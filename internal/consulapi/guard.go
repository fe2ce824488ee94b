package consulapi

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// MaxAnswer bounds an answer of the agent, decompressed. The 10,000 instances that discovery takes at most fit, at the 1.4 KB that
// one has at least and twice that; an endless answer does not fill the memory of every client.
const MaxAnswer = 32 << 20

// maxRetryAfter bounds what an agent can ask us to wait.
const maxRetryAfter = time.Minute

// Guard bounds the answers of an agent and notes what api.Client drops of them.
type Guard struct {
	Next  http.RoundTripper
	Owner any // of the client
}

// RoundTrip implements http.RoundTripper.
func (g Guard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.Next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	limit := MaxAnswer
	if x, ok := req.Context().Value(exchangeKey{}).(*Exchange); ok {
		limit = cmp.Or(x.limit, limit)
		x.answered(RetryAfter(resp.Header.Get("Retry-After"), time.Now()), g.Owner)
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, limit: limit}
	return resp, nil
}

// boundedBody fails once more than limit bytes were read, so that api.Client stops draining it, too.
type boundedBody struct {
	io.ReadCloser
	limit, read int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.read += n; b.read > b.limit {
		return 0, fmt.Errorf("%w: more than %d MiB", ErrTooLarge, b.limit>>20)
	}
	return n, err
}

// RetryAfter reads the header of this name: seconds or a date. What cannot be read or lies in the past is 0.
func RetryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
