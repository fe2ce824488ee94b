package httpmesh

import (
	"net"
	"net/url"
	"strings"

	"github.com/zerohop/zerohop"
)

// Key returns the key of the call for the algorithms that hash.
func (x *exchange) Key(s *zerohop.HashSource) string {
	switch req := x.req; {
	case s.Header != "":
		if v := req.Header.Values(s.Header); len(v) == 1 {
			return v[0]
		} else {
			return strings.Join(v, ",")
		}
	case s.Cookie != "":
		if c, err := req.Cookie(s.Cookie); err == nil {
			return c.Value
		}
	case s.Query != "":
		return parameter(req.URL.RawQuery, s.Query)
	case s.Path:
		return req.URL.EscapedPath()
	case s.Client:
		if host, _, err := net.SplitHostPort(req.RemoteAddr); err == nil {
			return host
		}
		return req.RemoteAddr
	}
	return ""
}

// parameter returns the first value of a query parameter, without a map of all.
func parameter(query, name string) string {
	for pair := range strings.SplitSeq(query, "&") {
		k, v, _ := strings.Cut(pair, "=")
		if k, err := url.QueryUnescape(k); err != nil || k != name {
			continue
		}
		if v, err := url.QueryUnescape(v); err == nil {
			return v
		}
	}
	return ""
}
