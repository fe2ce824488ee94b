package routing

import (
	"strings"
	"time"
)

// Values gives the first value of a header, or "" if there is none. Names are asked for in the canonical form of
// net/http. [net/http.Header] is one, without an allocation.
type Values interface{ Get(name string) string }

// Request has what rules look at in a call.
type Request struct {
	// Service is the logical service that the caller named.
	Service string
	// Method is the HTTP method. Empty means GET, as in net/http.
	Method string
	// Path is the path as sent, still encoded and without the query: URL.EscapedPath for HTTP, the full method name for
	// gRPC. Empty means "/".
	Path string
	// Header has the headers of the call. Nil means none.
	Header Values
	// Query is the raw query of the URL, still encoded and without "?".
	Query string
	// Key is the key that the call brings along by itself. Empty means none.
	Key string
	// Lane is the lane that the call is in. Empty means none.
	Lane string
	// Now is the time of the call. It need only be set if Table.Timed says so.
	Now time.Time
}

// call is a request while it is routed.
type call struct {
	*Request
	random uint64
	isRPC  bool      // the path has two segments, as that of a gRPC method
	query  queryForm // known only once it was looked at
	jar    queryForm // that of the cookies
}

func (q *call) method() string {
	if q.Method == "" {
		return "GET"
	}
	return q.Method
}

func (q *call) header(name string) string {
	if q.Header == nil {
		return ""
	}
	return q.Header.Get(name)
}

// cookie returns the value of the first cookie of that name, without quotes. ok is false if there are too many to be looked at.
func (q *call) cookie(name string) (v string, ok bool) {
	rest := q.header("Cookie")
	if q.jar == unknownQuery {
		q.jar = clearQuery
		if len(rest) > maxQuery || strings.Count(rest, ";") >= maxPairs {
			q.jar = ambiguousQuery
		}
	}
	if q.jar == ambiguousQuery {
		return "", false
	}
	for rest != "" {
		var pair string
		pair, rest, _ = strings.Cut(rest, ";")
		if n, v, ok := strings.Cut(strings.Trim(pair, " \t"), "="); ok && n == name {
			if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
				v = v[1 : len(v)-1]
			}
			return v, true
		}
	}
	return "", true
}

// Limits on what is looked at of a call: a query or cookies beyond them are as ambiguous as others that servers read differently.
const (
	maxQuery = 8 << 10 // bytes of the query, or of the Cookie header
	maxPairs = 128     // parameters in the query, or cookies
)

// queryForm is how a query may be matched.
type queryForm uint8

const (
	unknownQuery queryForm = iota
	ambiguousQuery
	clearQuery
)

// param returns the first value of a parameter of the query, still encoded. ok is false if the query is ambiguous.
func (q *call) param(name string) (raw string, ok bool) {
	if q.query == unknownQuery {
		q.query = formOfQuery(q.Query)
	}
	if q.query == ambiguousQuery {
		return "", false
	}
	for rest := q.Query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if n, v, _ := strings.Cut(pair, "="); paramIs(n, name) {
			return v, true
		}
	}
	return "", true
}

// formOfQuery says whether all readers of a query see the same: not if it is too long to be read here, has ";", which some take
// for "&", or a malformed percent-encoding.
func formOfQuery(query string) queryForm {
	if len(query) > maxQuery || strings.Count(query, "&") >= maxPairs {
		return ambiguousQuery
	}
	for i := 0; i < len(query); i++ {
		switch query[i] {
		case ';':
			return ambiguousQuery
		case '%':
			if _, ok := decodeAt(query, i); !ok {
				return ambiguousQuery
			}
		}
	}
	return clearQuery
}

// isEncoded reports whether a part of a query stands for something else than its bytes.
func isEncoded(raw string) bool {
	return strings.IndexByte(raw, '%') >= 0 || strings.IndexByte(raw, '+') >= 0
}

// paramIs reports whether a part of a query stands for s.
func paramIs(raw, s string) bool {
	if len(raw) < len(s) { // decoding shortens
		return false
	}
	if !isEncoded(raw) {
		return raw == s
	}
	n := 0
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			c, _ = decodeAt(raw, i)
			i += 2
		}
		if n == len(s) || s[n] != c {
			return false
		}
		n++
	}
	return n == len(s)
}

// decodeParam writes the decoded part of a query to buf as far as it fits and returns the number of bytes written.
func decodeParam(buf []byte, raw string) int {
	n := 0
	for i := 0; i < len(raw) && n < len(buf); i++ {
		c := raw[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			c, _ = decodeAt(raw, i)
			i += 2
		}
		buf[n] = c
		n++
	}
	return n
}
