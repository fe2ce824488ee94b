package httpmesh

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

var errOpaque = errors.New("httpmesh: URL.Opaque cannot be rewritten")

// routed is what calls have whose route wants more than to choose where they go.
type routed struct {
	*zerohop.Directions
	url *url.URL            // of the requests; nil if it is the caller's
	tee atomic.Pointer[tee] // nil if nothing waits for the body

	values [2]string // of headers that the first attempt has, room for most
}

// routed returns what the route of the call wants besides choosing where it goes, nil if that is nothing.
func (x *exchange) routed() *routed {
	if f := x.more.Load(); f != nil && f.routed.Directions != nil {
		return &f.routed
	}
	return nil
}

// Direct works out what the route makes of the URL: the same for all attempts.
func (x *exchange) Direct(d *zerohop.Directions) error {
	x.mu.Lock()
	y := &x.rest().routed
	x.mu.Unlock()
	if w := d.Rewrite; w != nil && x.req.Method != http.MethodConnect {
		u, err := rewrittenURL(x.req.URL, d)
		if err != nil {
			return err
		}
		y.url = u
	}
	if u := x.req.URL; d.Anonymous && u.User != nil {
		if y.url == nil {
			own := *u
			y.url = &own
		}
		y.url.User = nil
	}
	y.Directions = d
	return nil
}

// pathOf returns the path that a request has on the wire. Whoever sets URL.Opaque sends that, of which no route with a path
// makes sense.
func pathOf(u *url.URL) string {
	if u.Opaque != "" {
		return "*"
	}
	return u.EscapedPath()
}

// rewrittenURL returns the URL that the route wants, nil if that is the same. What is not changed stays byte by byte.
func rewrittenURL(u *url.URL, d *zerohop.Directions) (*url.URL, error) {
	path := u.EscapedPath()
	if u.Opaque != "" && (d.Rewrite.Path != (routing.PathRewrite{}) || changes(&d.Rewrite.Query)) {
		return nil, errOpaque
	}
	to, err := d.Path(path)
	if err != nil {
		return nil, err
	}
	query := changedQuery(u.RawQuery, &d.Rewrite.Query)
	if (to == path || path == "" && to == "/") && query == u.RawQuery {
		return nil, nil
	}
	v := *u
	v.RawQuery = query
	if to != path {
		if v.Path, err = url.PathUnescape(to); err != nil {
			return nil, err
		}
		if v.RawPath = to; v.EscapedPath() != to {
			return nil, fmt.Errorf("httpmesh: rewritten path %q: %w", to, routing.ErrAmbiguousPath)
		}
	}
	return &v, nil
}

func changes(h *routing.Headers) bool { return len(h.Set)+len(h.Add)+len(h.Remove) > 0 }

// changedQuery returns an encoded query with its parameters changed; the others stay as they are. A semicolon ends a parameter,
// too, as it does for some servers: what is to be removed must not get by them.
func changedQuery(raw string, c *routing.Headers) string {
	if !changes(c) {
		return raw
	}
	gone := func(name string) bool {
		_, set := c.Set[name]
		return set || slices.Contains(c.Remove, name)
	}
	var b strings.Builder
	for rest := raw; rest != ""; {
		n := strings.IndexAny(rest, "&;")
		end := n + 1
		if n < 0 {
			n, end = len(rest), len(rest)
		}
		name, _, _ := strings.Cut(rest[:n], "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if !gone(name) {
			b.WriteString(rest[:end])
		}
		rest = rest[end:]
	}
	for _, more := range []map[string]string{c.Set, c.Add} {
		for _, name := range slices.Sorted(maps.Keys(more)) {
			if s := b.String(); s != "" && !strings.HasSuffix(s, "&") {
				b.WriteByte('&')
			}
			b.WriteString(url.QueryEscape(name) + "=" + url.QueryEscape(more[name]))
		}
	}
	s := b.String()
	if strings.HasSuffix(s, "&") && !strings.HasSuffix(raw, "&") { // what came after it is gone
		s = s[:len(s)-1]
	}
	return s
}

// edit changes the request of an attempt, which is one of its own but for the headers.
func (y *routed) edit(h *headers, first bool) {
	if first {
		h.values = y.values[:0]
	}
	if y.Anonymous {
		h.dropCredentials()
	}
	if w := y.Rewrite; w != nil {
		h.change(&w.Request)
	}
	if y.Headers != nil {
		h.change(y.Headers)
	}
}

// direct gives the request of an attempt the URL and the host that the route wants. TLS goes on to verify the name that it did,
// the service or Policy.Connect: the host is what the server is told, not whom the caller trusts.
func (y *routed) direct(req *http.Request) {
	if y.url != nil {
		req.URL = y.url
	}
	if w := y.Rewrite; w != nil && w.Host != "" {
		req.Host = w.Host
	}
}

// dropCredentials removes what the caller proves himself with.
func (h *headers) dropCredentials() {
	for k := range h.req.Header {
		if isCredential(k) {
			h.own()
			delete(h.req.Header, k)
		}
	}
}

func isCredential(name string) bool {
	const proxy = "Proxy-"
	return strings.EqualFold(name, "Authorization") || strings.EqualFold(name, "Cookie") ||
		len(name) > len(proxy) && strings.EqualFold(name[:len(proxy)], proxy)
}

// change removes, sets and adds headers.
func (h *headers) change(c *routing.Headers) {
	if !changes(c) {
		return
	}
	h.own()
	h.values = change(h.req.Header, c, h.values)
	for _, name := range c.Remove {
		if strings.EqualFold(name, "User-Agent") && len(h.req.Header["User-Agent"]) == 0 {
			h.req.Header["User-Agent"] = nil // or net/http would send its own
		}
	}
}

// change changes headers, of which only the map is ours: the lists of values are not. New ones are taken from the rest of values,
// which it returns.
func change(h http.Header, c *routing.Headers, values []string) []string {
	for _, name := range c.Remove {
		drop(h, name)
	}
	for name, value := range c.Set {
		drop(h, name)
		values = append(values, value)
		n := len(values)
		h[textproto.CanonicalMIMEHeaderKey(name)] = values[n-1 : n : n]
	}
	for name, value := range c.Add {
		key := textproto.CanonicalMIMEHeaderKey(name)
		h[key] = append(slices.Clip(h[key]), value)
	}
	return values
}

// drop removes a header, however it is spelled.
func drop(h http.Header, name string) {
	for k := range h {
		if len(k) == len(name) && strings.EqualFold(k, name) {
			delete(h, k)
		}
	}
}

// rewriteAnswer changes the headers of an answer that a service gave, as the route of the call wants.
func (x *exchange) rewriteAnswer(resp *http.Response) {
	y := x.routed()
	if y == nil || y.Rewrite == nil || !changes(&y.Rewrite.Response) {
		return
	}
	if resp.Header == nil {
		resp.Header = http.Header{}
	}
	change(resp.Header, &y.Rewrite.Response, nil)
}
