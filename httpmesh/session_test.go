package httpmesh

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/loadbalance"
)

// park is a service "orders" of real servers that say where they listen.
type park struct {
	source discoverytest.Memory
	eps    []discovery.Endpoint
	served []atomic.Int64
	ill    []atomic.Bool // a server answers 503
}

func newPark(t testing.TB, n int) *park {
	p := &park{served: make([]atomic.Int64, n), ill: make([]atomic.Bool, n)}
	for i := range n {
		var self string
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			p.served[i].Add(1)
			if p.ill[i].Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			fmt.Fprint(w, self)
		})
		self = addr(s)
		p.eps = append(p.eps, discovery.Endpoint{Addr: self})
	}
	p.source.Set("orders", p.eps...)
	return p
}

func (p *park) index(addr string) int {
	for i := range p.eps {
		if p.eps[i].Addr == addr {
			return i
		}
	}
	return -1
}

// sticky is a mesh whose services have sessions, and no backups: where the machine stalls, those would move them.
func (p *park) sticky(t testing.TB, s zerohop.Sticky) *zerohop.Mesh {
	if s.Cookie.Name == "" && s.Header == "" {
		s.Cookie.Name = "zh"
	}
	return open(t, zerohop.Config{Resolver: &p.source, Spec: zerohop.Spec{Defaults: zerohop.Policy{
		Sticky: s, Budget: zerohop.Budget{Mode: zerohop.Off}, Backup: zerohop.Backup{Mode: zerohop.Off},
	}}})
}

// settle waits until the nodes of "orders" are as wanted.
func settle(t testing.TB, m *zerohop.Mesh, want func([]*loadbalance.Node) bool) {
	t.Helper()
	done := make(chan struct{})
	once := sync.OnceFunc(func() { close(done) })
	stop, err := m.Subscribe("orders", func(e zerohop.Endpoints) {
		if want(e.Balancer.Set().Nodes()) {
			once()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	<-done
	stop()
}

// user is a client with a jar of its own.
func user(t testing.TB, rt http.RoundTripper) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: rt, Jar: jar}
}

// visit makes a request and returns the server that answered and the cookie that was set.
func visit(t testing.TB, c *http.Client, url string) (server string, cookie *http.Cookie) {
	t.Helper()
	resp, err := c.Get(url)
	server = read(t, resp, err)
	for _, k := range resp.Cookies() {
		cookie = k
	}
	return server, cookie
}

func TestCookieKeepsClientsOnTheirServer(t *testing.T) {
	p := newPark(t, 5)
	tr := client(t, p.sticky(t, zerohop.Sticky{Cookie: zerohop.Cookie{Name: "zh", TTL: time.Hour}}))
	used := map[string]bool{}
	for range 40 {
		c := user(t, tr)
		first, cookie := visit(t, c, "http://orders/")
		if cookie == nil || cookie.Name != "zh" || cookie.Path != "/" || !cookie.HttpOnly || cookie.Secure || cookie.SameSite != http.SameSiteLaxMode || cookie.MaxAge != 3600 {
			t.Fatalf("first answer sets the cookie %v", cookie)
		}
		if strings.Contains(cookie.String(), "127.0.0.1") || strings.Contains(cookie.String(), first[strings.Index(first, ":")+1:]) {
			t.Errorf("cookie %v shows the address %s", cookie, first)
		}
		for range 10 {
			if again, cookie := visit(t, c, "http://orders/"); again != first || cookie != nil {
				t.Fatalf("next answer is of %s with cookie %v, want %s and none", again, cookie, first)
			}
		}
		used[first] = true
	}
	if len(used) != 5 {
		t.Errorf("40 sessions are on %d servers, want 5", len(used))
	}
}

func TestReverseProxyPassesSessionsOn(t *testing.T) {
	p := newPark(t, 4)
	gateway := func(tls bool) *httptest.Server {
		proxy := &httputil.ReverseProxy{
			Transport: client(t, p.sticky(t, zerohop.Sticky{})),
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: "orders"})
				r.SetXForwarded()
			},
		}
		s := httptest.NewUnstartedServer(proxy)
		if tls {
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		return s
	}
	for _, tls := range []bool{false, true} {
		a, b := gateway(tls), gateway(tls)
		c := user(t, a.Client().Transport)
		first, cookie := visit(t, c, a.URL)
		if cookie == nil || cookie.Secure != tls {
			t.Fatalf("TLS %v: first answer sets the cookie %v", tls, cookie)
		}
		// The jar knows hosts, not ports: another gateway gets the cookie, and has to understand it.
		for range 20 {
			for _, g := range []*httptest.Server{a, b} {
				c.Transport = g.Client().Transport
				if again, cookie := visit(t, c, g.URL); again != first || cookie != nil {
					t.Fatalf("TLS %v: next answer is of %s with cookie %v, want %s and none", tls, again, cookie, first)
				}
			}
		}
	}
}

func TestHeaderKeepsClientsOnTheirServer(t *testing.T) {
	p := newPark(t, 4)
	tr := client(t, p.sticky(t, zerohop.Sticky{Header: "X-Session"}))
	resp, err := get(t.Context(), t, tr, "http://orders/")
	first := read(t, resp, err)
	session := resp.Header.Get("X-Session")
	if len(session) != 16 || len(resp.Cookies()) > 0 {
		t.Fatalf("header of the session = %q, cookies %v, want 16 digits and none", session, resp.Cookies())
	}
	for range 20 {
		req := request(t.Context(), t, http.MethodGet, "http://orders/", nil)
		req.Header.Set("X-Session", session)
		resp, err := tr.RoundTrip(req)
		if again := read(t, resp, err); again != first || resp.Header.Get("X-Session") != "" {
			t.Fatalf("next answer is of %s with session %q, want %s and none", again, resp.Header.Get("X-Session"), first)
		}
	}
}

// A server is drained and taken away while clients go on: none loses a call, and each that was on it moves once.
func TestDrainMovesSessionsOnce(t *testing.T) {
	p := newPark(t, 5)
	m := p.sticky(t, zerohop.Sticky{})
	tr := client(t, m)
	const users = 20
	var clients, warm sync.WaitGroup
	warm.Add(users)
	var moved, lost, steps atomic.Int64
	homes := make([]string, users)
	phase := make(chan struct{}) // closed when the drained server is gone
	drained := p.eps[2].Addr
	for i := range users {
		clients.Go(func() {
			c := user(t, tr)
			homes[i], _ = visit(t, c, "http://orders/")
			was := homes[i]
			over := false
			for n := 0; n < 300 || !over; n++ {
				select {
				case <-phase:
					over = true
				default:
				}
				resp, err := c.Get("http://orders/")
				if err != nil {
					lost.Add(1)
					t.Error(err)
					return
				}
				now := read(t, resp, nil)
				if resp.StatusCode != http.StatusOK {
					lost.Add(1)
				}
				if now != was {
					moved.Add(1)
					if was != drained {
						t.Errorf("a session moved from %s, which stays", was)
					}
					was = now
				}
				if steps.Add(1); n == 9 {
					warm.Done()
				}
			}
			if was == drained {
				t.Errorf("a session is still on %s", drained)
			}
		})
	}
	warm.Wait()
	p.eps[2].Health = discovery.Draining
	p.source.Set("orders", p.eps...)
	settle(t, m, func(list []*loadbalance.Node) bool {
		return slices.ContainsFunc(list, func(n *loadbalance.Node) bool { return n.Endpoint().Health == discovery.Draining })
	})
	for range 50 {
		if got, _ := visit(t, user(t, tr), "http://orders/"); got == drained {
			t.Error("a new session began on the server that drains")
		}
	}
	before := moved.Load()
	p.source.Set("orders", append(append([]discovery.Endpoint{}, p.eps[:2]...), p.eps[3:]...)...)
	settle(t, m, func(list []*loadbalance.Node) bool { return len(list) == 4 })
	close(phase)
	clients.Wait()
	on := int64(0)
	for _, h := range homes {
		if h == drained {
			on++
		}
	}
	if before != 0 {
		t.Errorf("%d sessions moved while their server drained, want 0", before)
	}
	if moved.Load() != on || lost.Load() != 0 {
		t.Errorf("%d sessions moved, %d calls were lost, want %d and 0", moved.Load(), lost.Load(), on)
	}
	checkIdle(t, m)
	t.Logf("%d sessions on the drained server, %d moves, %d calls, %d lost", on, moved.Load(), steps.Load(), lost.Load())
}

func TestFailingServerLosesSoftSessionsOnly(t *testing.T) {
	for _, strict := range []zerohop.Switch{zerohop.Off, zerohop.On} {
		p := newPark(t, 4)
		tr := client(t, p.sticky(t, zerohop.Sticky{Strict: strict}))
		c := user(t, tr)
		home, _ := visit(t, c, "http://orders/")
		i := p.index(home)
		p.ill[i].Store(true)
		before := p.served[i].Load()
		resp, err := c.Get("http://orders/")
		now := read(t, resp, err)
		switch {
		case strict == zerohop.On:
			if now != home || resp.StatusCode != http.StatusServiceUnavailable || len(resp.Cookies()) > 0 || p.served[i].Load() != before+3 {
				t.Errorf("strict: answer %d of %s after %d attempts, cookies %v, want 503 of %s after 3 and none",
					resp.StatusCode, now, p.served[i].Load()-before, resp.Cookies(), home)
			}
		default:
			if now == home || resp.StatusCode != http.StatusOK || len(resp.Cookies()) != 1 {
				t.Errorf("soft: answer %d of %s, cookies %v, want another server's with its cookie", resp.StatusCode, now, resp.Cookies())
			}
			if again, cookie := visit(t, c, "http://orders/"); again != now || cookie != nil {
				t.Errorf("soft: next answer is of %s with cookie %v, want %s and none", again, cookie, now)
			}
		}
		p.source.Set("orders", p.eps[(i+1)%4], p.eps[(i+2)%4], p.eps[(i+3)%4])
		settle(t, tr.mesh, func(list []*loadbalance.Node) bool { return len(list) == 3 })
		resp, err = c.Get("http://orders/")
		if err == nil {
			read(t, resp, nil)
		}
		if got := errors.Is(err, loadbalance.ErrNoNode); got != (strict == zerohop.On) {
			t.Errorf("strict %s: call after the server is gone: %v", strict, err)
		}
	}
}

// What a client sends as its session names a server of the service or nothing.
func FuzzHostileSessions(f *testing.F) {
	p := newPark(f, 3)
	other := newPark(f, 1)
	tr := client(f, p.sticky(f, zerohop.Sticky{Cookie: zerohop.Cookie{Name: "zh"}, Header: "X-Session"}))
	known := fmt.Sprintf("%016x", loadbalance.NodeKey(p.eps[0].Addr))
	stranger := fmt.Sprintf("%016x", loadbalance.NodeKey(other.eps[0].Addr))
	for _, s := range []string{known, stranger, other.eps[0].Addr, p.eps[0].Addr, "", "=", ";;;", "0000000000000000", strings.Repeat("f", 16), strings.Repeat("f", 4000), "\x00", "é"} {
		f.Add("zh="+s, s)
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, cookie, session string) {
		req := request(t.Context(), t, http.MethodGet, "http://orders/", nil)
		clean := func(s string) string {
			return strings.Map(func(r rune) rune {
				if r < ' ' || r == 0x7f {
					return -1
				}
				return r
			}, strings.ToValidUTF8(s, ""))
		}
		req.Header["Cookie"], req.Header["X-Session"] = []string{clean(cookie)}, []string{clean(session)}
		resp, err := tr.RoundTrip(req)
		got := read(t, resp, err)
		if p.index(got) < 0 || resp.StatusCode != http.StatusOK {
			t.Fatalf("answer %d of %q", resp.StatusCode, got)
		}
		want := fmt.Sprintf("%016x", loadbalance.NodeKey(got))
		if v := resp.Header.Get("X-Session"); v != "" && v != want || v == "" && session != want && !strings.Contains(cookie, want) {
			t.Fatalf("session of the answer = %q, want %q", v, want)
		}
		if n := other.served[0].Load(); n != 0 {
			t.Fatal("a server of another service was called")
		}
	})
}

func TestAnswersKeepTheirOwnCookies(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "basket", Value: "42"})
		w.Header().Set("X-Session", "the server's own")
		_, _ = io.WriteString(w, "ok")
	})
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: zerohop.Policy{
		Sticky: zerohop.Sticky{Cookie: zerohop.Cookie{Name: "zh"}, Header: "X-Session"},
	}}})
	resp, err := get(t.Context(), t, client(t, m), "http://orders/")
	read(t, resp, err)
	if got := resp.Cookies(); len(got) != 2 || got[0].Name != "basket" || got[1].Name != "zh" {
		t.Errorf("cookies = %v, want basket and zh", got)
	}
	if got := resp.Header.Values("X-Session"); len(got) != 1 || len(got[0]) != 16 || strings.Contains(got[0], " ") {
		t.Errorf("X-Session = %q, want one session", got)
	}
}

// A Spring client's hint, or a version in a header, chooses among endpoints by their metadata.
func TestHeaderSelectsEndpoints(t *testing.T) {
	p := newPark(t, 4)
	for i := range p.eps {
		p.eps[i].Meta = map[string]string{"version": fmt.Sprint("v", 1+i%2)}
	}
	p.source.Set("orders", p.eps...)
	m := open(t, zerohop.Config{Resolver: &p.source, Spec: zerohop.Spec{Defaults: zerohop.Policy{Select: zerohop.Select{
		Headers: map[string]string{"version": "X-Version"}, Match: map[string]string{"version": "v1"},
	}}}})
	tr := client(t, m)
	for _, c := range []struct {
		version string
		want    int // of eps, modulo 2; -1 means ErrNoMatch
	}{{"", 0}, {"v1", 0}, {"v2", 1}, {"v3", -1}, {"v1,v2", -1}} {
		for range 20 {
			req := request(t.Context(), t, http.MethodGet, "http://orders/", nil)
			if c.version != "" {
				req.Header.Set("X-Version", c.version)
			}
			resp, err := tr.RoundTrip(req)
			if c.want < 0 {
				if !errors.Is(err, loadbalance.ErrNoMatch) {
					t.Fatalf("version %q: %v, want ErrNoMatch", c.version, err)
				}
				continue
			}
			if got := p.index(read(t, resp, err)); got%2 != c.want {
				t.Errorf("version %q: answer of endpoint %d, want one of v%d", c.version, got, c.want+1)
			}
		}
	}
}
