package routing

import (
	"net/textproto"
	"regexp/syntax"
	"strings"
)

// name checks a name that may be empty.
func (c *checker) name(field, s string) {
	switch {
	case len(s) > maxName:
		c.fail(field, "%d bytes, at most %d are allowed", len(s), maxName)
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }):
		c.fail(field, "%q must be printable ASCII without spaces", s)
	}
}

// service checks the name of a service that calls go to.
func (c *checker) service(field, s string) {
	if s == "" {
		c.fail(field, "must not be empty")
	}
	if strings.Contains(s, "*") {
		c.fail(field, "%.64q must be one service", s)
	}
	c.name(field, s)
}

// token checks an HTTP token (RFC 9110, section 5.6.2), which also keeps pseudo-headers such as ":path" out.
func (c *checker) token(field, s string) bool {
	switch {
	case s == "":
		c.fail(field, "must not be empty")
	case len(s) > maxName:
		c.fail(field, "%d bytes, at most %d are allowed", len(s), maxName)
	case strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(tokenChars, r) }):
		c.fail(field, "%q is not a valid token", s)
	default:
		return true
	}
	return false
}

// ValidHeader reports whether there can be a header of that name that tells calls apart: it is a token (RFC 9110), it
// does not speak about a connection, and net/http keeps it in http.Header.
func ValidHeader(name string) bool { return new(checker).header("", name) }

const tokenChars = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func (c *checker) path(field, s string) {
	switch {
	case s == "":
	case len(s) > maxPath:
		c.fail(field, "%d bytes, at most %d are allowed", len(s), maxPath)
	case s[0] != '/':
		c.fail(field, `must start with "/"`)
	case formOf(s) != plain:
		c.fail(field, `%q must not hold an empty, "." or ".." segment, any of ; \ ? # %% or a control character`, s)
	}
}

// rpc checks the name of a gRPC service or method, which may be empty.
func (c *checker) rpc(field, s string) {
	c.name(field, s)
	if s != "" && (strings.Contains(s, "/") || formOf("/"+s) != plain) {
		c.fail(field, "%.64q is not a name that gRPC has", s)
	}
}

// regex checks a regular expression and returns its program, nil after a mistake.
func (c *checker) regex(field, text string) *syntax.Prog {
	if len(text) > maxPattern {
		c.fail(field, "%d bytes, at most %d are allowed", len(text), maxPattern)
		return nil
	}
	prog, err := parse(text)
	if err != nil {
		c.fail(field, "%v", err)
		return nil
	}
	return prog
}

// unroutable has the hop-by-hop headers (RFC 9110, section 7.6.1), which speak about a connection and not about the
// call, and the headers that net/http keeps outside http.Header, so that a condition on them would never be met.
var unroutable = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Content-Length": true, "Host": true,
}

// settable checks the name of a header that rules may change: none that says how the message is framed, or that zerohop, gRPC or
// HTTP/2 speak by.
func (c *checker) settable(field, name string) bool {
	if !c.token(field, name) {
		return false
	}
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	if unroutable[canonical] || canonical == "Baggage" || canonical == "Http2-Settings" ||
		strings.HasPrefix(canonical, "Zerohop-") || strings.HasPrefix(canonical, "Grpc-") {
		c.fail(field, "%q is not a header that a rule can change", name)
		return false
	}
	return true
}
