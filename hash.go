package zerohop

import (
	"errors"
	"fmt"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
)

// HashSource says where the key of a call is found that the hashing algorithms send to the same endpoint as others with
// the same key. One field must be set.
type HashSource struct {
	// Header is the name of a header of HTTP or a metadata key of gRPC. Several values are joined by commas (gRFC A76).
	Header string `json:"header,omitempty" yaml:"header,omitempty"`
	// Cookie is the name of a cookie of HTTP.
	Cookie string `json:"cookie,omitempty" yaml:"cookie,omitempty"`
	// Query is the name of a query parameter of HTTP, the first value of which counts.
	Query string `json:"query,omitempty" yaml:"query,omitempty"`
	// Path takes the path of the URL, without the query, or the full method of gRPC: a cache behind it has each object once.
	Path bool `json:"path,omitempty" yaml:"path,omitempty"`
	// Client takes the IP address of the client on whose behalf the call is made: that in http.Request.RemoteAddr, which
	// httputil.ReverseProxy keeps, and for gRPC the peer of an RPC with whose context the call is made.
	Client bool `json:"client,omitempty" yaml:"client,omitempty"`
}

// Keyed is implemented by an Exchange whose calls have what a HashSource can name.
type Keyed interface {
	// Key returns the key that the call has there, empty if none.
	Key(s *HashSource) string
}

// hashOf returns the hash of the key that was given, or else of the first that x has, and 0 if there is none.
func hashOf(given string, sources []HashSource, x any) uint64 {
	if given != "" {
		return loadbalance.HashKey(given)
	}
	if k, ok := x.(Keyed); ok {
		for i := range sources {
			if key := k.Key(&sources[i]); key != "" {
				return loadbalance.HashKey(key)
			}
		}
	}
	return 0
}

// validateHash reports every mistake.
func validateHash(path string, sources []HashSource) error {
	var errs []error
	for i, s := range sources {
		at := fmt.Sprintf("%s.hash[%d]", path, i)
		set := 0
		for _, is := range []bool{s.Header != "", s.Cookie != "", s.Query != "", s.Path, s.Client} {
			if is {
				set++
			}
		}
		if set != 1 {
			errs = append(errs, fmt.Errorf("%s: needs one of header, cookie, query, path and client, got %d", at, set))
		}
		if s.Header != "" && !routing.ValidHeader(s.Header) {
			errs = append(errs, fmt.Errorf("%s.header: %q is not a header that can hold a key", at, s.Header))
		}
		if s.Cookie != "" && !routing.ValidHeader(s.Cookie) {
			errs = append(errs, fmt.Errorf("%s.cookie: %q is not the name of a cookie", at, s.Cookie))
		}
	}
	return errors.Join(errs...)
}
