package zerohop

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// Sticky keeps the calls of a client on one endpoint: a session, for services that keep something of their clients in
// memory. The first answer names the endpoint in a cookie or a header, and calls that send that back go there. An endpoint
// that is draining keeps its sessions and gets no new ones. One that is gone, terminating, unhealthy or ejected loses them:
// the call goes elsewhere, as the retry or the backup of one that fails or is slow there does, and its answer moves the
// session. To have slow endpoints keep their sessions, switch backups off.
//
// The value is a digest of the endpoint's address (loadbalance.NodeKey), the same in all processes. It can name an endpoint
// of the service or none: any other value is as good as none. To somebody who can guess the addresses it tells which
// one it is.
//
// Over HTTP, http.Client keeps cookies if it has a Jar, and a gateway passes them on to browsers. Over gRPC a
// client sends the header that it got, or the cookie, as metadata. For sessions of other protocols see
// CallOptions.Node. See GEP-1619 and gRFC A55.
type Sticky struct {
	// Mode switches sessions. The built-in default is On, which matters only if there is a Header or a Cookie.Name.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Strict makes calls of a session fail with loadbalance.ErrNoNode when its endpoint cannot take them, be it for ever.
	// Their retries go to the same endpoint, and they get no backups. The built-in default is Off.
	Strict Switch `json:"strict,omitempty" yaml:"strict,omitempty"`
	// Cookie is what the session is kept in.
	Cookie Cookie `json:"cookie,omitzero" yaml:"cookie,omitempty"`
	// Header is the name of a header (HTTP) or of metadata (gRPC) that the session is kept in. Where there is a cookie,
	// too, the header comes first. Empty inherits; the built-in default is none.
	Header string `json:"header,omitempty" yaml:"header,omitempty"`
}

// Cookie is what a session is kept in. It is for HTTP only (HttpOnly), and not sent along by other sites (SameSite=Lax).
type Cookie struct {
	// Name is its name. Services that are called under the same host and path need different ones. Empty inherits; the
	// built-in default is none.
	Name string `json:"name,omitempty" yaml:"name,omitempty"`
	// Path is where clients send it. Empty inherits; the built-in default is "/".
	Path string `json:"path,omitempty" yaml:"path,omitempty"`
	// TTL is how long it lasts from the beginning of the session or its last move, in whole seconds. 0 inherits; the
	// built-in default is as long as the client runs.
	TTL time.Duration `json:"ttl,omitempty" yaml:"ttl,omitempty"`
	// Secure says whether clients send it over TLS only. The built-in default is to ask for that where the client has
	// used TLS: the URL of the call has the scheme https, or its X-Forwarded-Proto says so.
	Secure Switch `json:"secure,omitempty" yaml:"secure,omitempty"`
}

func (s Sticky) over(wide Sticky) Sticky {
	return Sticky{
		Mode:   pick(s.Mode, wide.Mode),
		Strict: pick(s.Strict, wide.Strict),
		Cookie: Cookie{
			Name:   pick(s.Cookie.Name, wide.Cookie.Name),
			Path:   pick(s.Cookie.Path, wide.Cookie.Path),
			TTL:    pick(s.Cookie.TTL, wide.Cookie.TTL),
			Secure: pick(s.Cookie.Secure, wide.Cookie.Secure),
		},
		Header: pick(s.Header, wide.Header),
	}
}

func (s *Sticky) on() bool { return s.Mode != Off && (s.Header != "" || s.Cookie.Name != "") }

// validate reports every mistake but those of switches.
func (s *Sticky) validate(path string) error {
	var errs []error
	fail := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s.%s: %s", path, field, fmt.Sprintf(format, args...)))
	}
	if n := s.Cookie.Name; n != "" && !routing.ValidHeader(n) {
		fail("cookie.name", "%q is not the name of a cookie", n)
	}
	if p := s.Cookie.Path; p != "" && (p[0] != '/' || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r == ';' || r >= 0x7f })) {
		fail("cookie.path", "must begin with a slash and have no spaces or semicolons, got %q", p)
	}
	if d := s.Cookie.TTL; d != 0 && d < time.Second {
		fail("cookie.ttl", "must be at least 1s, got %v", d)
	}
	if h := s.Header; h != "" {
		switch low := strings.ToLower(h); {
		case !routing.ValidHeader(h):
			fail("header", "%q is not a header that can hold a session", h)
		case low == "cookie", low == "set-cookie":
			fail("header", "%s has a field of its own: cookie.name", h)
		case strings.HasPrefix(low, "grpc-"), strings.HasSuffix(low, "-bin"):
			fail("header", "%q means something else to gRPC", h)
		}
	}
	return errors.Join(errs...)
}

// session returns the key of the endpoint that the headers of a call name, 0 if they name none.
func (s *Sticky) session(h routing.Values) uint64 {
	if h == nil {
		return 0
	}
	if s.Header != "" {
		if key := parseSession(h.Get(s.Header)); key != 0 {
			return key
		}
	}
	if s.Cookie.Name != "" {
		for pair := range strings.SplitSeq(h.Get("Cookie"), ";") {
			if name, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && name == s.Cookie.Name {
				if key := parseSession(value); key != 0 {
					return key
				}
			}
		}
	}
	return 0
}

// sessionLength is the length of the value of a session.
const sessionLength = 16

// parseSession returns the key that a value stands for, 0 if it is none of ours.
func parseSession(v string) (key uint64) {
	if len(v) != sessionLength {
		return 0
	}
	for _, c := range []byte(v) {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return 0
		}
		key = key<<4 | uint64(c)
	}
	return key
}

func formatSession(key uint64) string {
	v := strconv.FormatUint(key, 16)
	return "0000000000000000"[len(v):] + v
}

// Binds reports whether Bind has something to say: the policy has sessions, and the attempt was not made on the endpoint
// of the caller's.
func (a *Attempt) Binds() bool {
	g := a.call.guide()
	return g != nil && g.sticky && a.Node() != nil && a.verdict.Outcome == resilience.Success &&
		loadbalance.NodeKey(a.Node().Addr()) != g.session
}

// Bind calls set for each header of an answer that binds further calls of its caller to its endpoint, by Policy.Sticky. It
// is called if Binds says so, once the attempt was found to be the answer, and before its End. secure says that the
// caller uses TLS. There may be other headers by the name of "Set-Cookie", which stay.
func (a *Attempt) Bind(secure bool, set func(name, value string)) {
	value, s := formatSession(loadbalance.NodeKey(a.Node().Addr())), &a.call.target.policy.Sticky
	if s.Header != "" {
		set(s.Header, value)
	}
	if s.Cookie.Name != "" {
		set("Set-Cookie", s.Cookie.text(value, secure))
	}
}

// text returns the value of a Set-Cookie header.
func (c *Cookie) text(value string, secure bool) string {
	text := c.Name + "=" + value + "; Path=" + c.Path
	if c.TTL > 0 {
		text += "; Max-Age=" + strconv.FormatInt(int64(c.TTL/time.Second), 10)
	}
	text += "; HttpOnly"
	if c.Secure == On || c.Secure == Inherit && secure {
		text += "; Secure"
	}
	return text + "; SameSite=Lax"
}
