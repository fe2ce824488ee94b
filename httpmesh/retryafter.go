package httpmesh

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter bounds what a server can ask for: an hour in a header must not take an endpoint out for an hour.
const maxRetryAfter = time.Minute

// retryAfter returns the pause that a response asks for in Retry-After, in seconds or as a date, between 0 and a
// minute. 0 means none: the header is absent, not understood or in the past.
func retryAfter(resp *http.Response) time.Duration {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	v := resp.Header.Get("Retry-After")
	if v == "" {
		return 0
	}
	if s, err := strconv.ParseUint(v, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(s, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now := time.Now()
	// The date is that of the server's clock, so it is compared with what that shows, if it says so.
	if d, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		now = d
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
