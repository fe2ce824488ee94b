package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
)

func TestRequestsAreCheckedFirst(t *testing.T) {
	c := open(t, Config{Hosts: []string{"console.internal", "10.1.2.3:9000", "[fd00::1]"}})
	for _, test := range []struct {
		method, host, site string
		want               int
	}{
		{"GET", "localhost", "", 200},
		{"GET", "LOCALHOST:8080", "same-origin", 200},
		{"HEAD", "localhost", "", 200},
		{"GET", "127.0.0.1:8080", "none", 200},
		{"GET", "127.9.9.9", "", 200},
		{"GET", "[::1]:8080", "", 200},
		{"GET", "[::1]", "", 200},
		{"GET", "[::ffff:127.0.0.1]:1", "", 200},
		{"GET", "zerohop.localhost:1", "", 200},
		{"GET", "console.internal", "", 200},
		{"GET", "console.internal.:8080", "", 200},
		{"GET", "10.1.2.3:9000", "", 200},
		{"GET", "[fd00::1]:99", "", 200},
		{"GET", "10.1.2.3:9001", "", 403},
		{"GET", "10.1.2.3", "", 403},
		{"GET", "", "", 403},
		{"GET", "evil.example", "", 403},
		{"GET", "localhost.evil.example", "", 403},
		{"GET", "127.0.0.1.evil.example", "", 403},
		{"GET", "notlocalhost", "", 403},
		{"GET", "console.internal.evil.example", "", 403},
		{"GET", "[::1%25eth0]", "", 403},
		{"GET", "0.0.0.0", "", 403},
		{"GET", "2130706433", "", 403},
		{"GET", "127.1", "", 403},
		{"GET", "::1:8080", "", 403},
		{"POST", "localhost", "", 405},
		{"PUT", "localhost", "", 405},
		{"DELETE", "localhost", "", 405},
		{"OPTIONS", "localhost", "", 405},
		{"TRACE", "localhost", "", 405},
		{"POST", "evil.example", "", 403},
		{"GET", "localhost", "cross-site", 403},
		{"GET", "localhost", "same-site", 403},
	} {
		for _, target := range []string{"/api/summary", "/debug/zerohop/api/events"} {
			r := httptest.NewRequest(test.method, target, nil)
			r.Host = test.host
			if test.site != "" {
				r.Header.Set("Sec-Fetch-Site", test.site)
			}
			w := httptest.NewRecorder()
			c.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("%s %s of %q from %q: %d, want %d", test.method, target, test.host, test.site, w.Code, test.want)
			}
			if allow := w.Header().Get("Allow"); (allow == "GET, HEAD") != (w.Code == 405) {
				t.Errorf("%s: Allow: %q with %d", test.method, allow, w.Code)
			}
			checkHeaders(t, w.Header())
		}
	}
}

// checkHeaders checks what every answer must have.
func checkHeaders(t *testing.T, h http.Header) {
	t.Helper()
	for k, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
		"Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "",
	} {
		if got := h.Get(k); got != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
	csp := h.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("policy of contents %q lacks %q", csp, want)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
		t.Errorf("policy of contents allows too much: %q", csp)
	}
}

func TestPageIsServedUnderAnyPrefix(t *testing.T) {
	c := open(t, Config{})
	mux := http.NewServeMux()
	mux.Handle("/debug/zerohop/", c)
	mux.Handle("/stripped/", http.StripPrefix("/stripped/", c))
	mux.Handle("/console/", http.StripPrefix("/console", c))
	for _, prefix := range []string{"/debug/zerohop/", "/stripped/", "/console/"} {
		for file, kind := range map[string]string{
			"": "text/html; charset=utf-8", "index.html": "text/html; charset=utf-8", "style.css": "text/css; charset=utf-8", "app.js": "text/javascript; charset=utf-8",
			"api/summary": "application/json; charset=utf-8",
		} {
			w := ask(mux, prefix+file)
			if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || got != kind {
				t.Errorf("GET %s%s: %d %s, want %s", prefix, file, w.Code, got, kind)
			}
			checkHeaders(t, w.Header())
		}
		for _, file := range []string{"page", "serve.go", "..%2fserve.go", "app.js/x", "%3Cscript%3E"} {
			if w := ask(mux, prefix+file); w.Code != http.StatusNotFound || strings.Contains(w.Body.String(), "script") {
				t.Errorf("GET %s%s: %d %s, want 404 and nothing of the request", prefix, file, w.Code, w.Body)
			}
		}
	}
	if html := pages["index.html"]; bytes.Contains(html, []byte("<script>")) || bytes.Contains(html, []byte("<style")) || bytes.Contains(html, []byte("style=")) || bytes.Contains(html, []byte("http://")) || bytes.Contains(html, []byte("https://")) {
		t.Error("the page has something inline, or from elsewhere")
	}
}

func TestConfigNamesItsMistakes(t *testing.T) {
	for field, cfg := range map[string]Config{
		"hosts[1]":   {Hosts: []string{"a", "http://b"}},
		"hosts[0]":   {Hosts: []string{"*"}},
		"adminPath":  {AdminPath: "//evil.example/x"},
		"maxStreams": {MaxStreams: -1},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("New(%+v) = %v, want an error about %s", cfg, err, field)
		}
	}
}

func TestClosedConsoleAnswersWithAnError(t *testing.T) {
	c := open(t, Config{})
	_ = c.Close()
	if w := ask(c, "/api/summary"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("after Close: %d, want 503", w.Code)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close() = %v", err)
	}
}

// pipes is a listener of pipes, which synctest knows.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours, nil
}

// serve serves the console over pipes until the end of the test.
func serve(t *testing.T, h http.Handler) (*pipes, *http.Client) {
	p := &pipes{make(chan net.Conn), make(chan struct{})}
	s := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(p) }()
	transport := &http.Transport{DialContext: p.dial}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = s.Close()
		<-done
	})
	return p, &http.Client{Transport: transport}
}

// sse is an event of a stream.
type sse struct {
	kind string
	data []byte
}

// events reads a stream into a channel until it ends.
func events(r io.Reader) <-chan sse {
	ch := make(chan sse, 1000)
	go func() {
		defer close(ch)
		s := bufio.NewScanner(r)
		s.Buffer(nil, 64<<20)
		var e sse
		for s.Scan() {
			switch line := s.Text(); {
			case strings.HasPrefix(line, "event: "):
				e.kind = line[7:]
			case strings.HasPrefix(line, "data: "):
				e.data = []byte(line[6:])
			case line == "" && e.kind != "":
				ch <- e
				e = sse{}
			}
		}
	}()
	return ch
}

func TestStreamSendsWhatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{})
		m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {}, "stock": {}}})
		_, client := serve(t, c)
		time.Sleep(100 * time.Millisecond) // ticks come between
		resp, err := client.Get("http://localhost/api/stream?service=orders")
		if err != nil {
			t.Fatal(err)
		}
		stream := events(resp.Body)
		receive := func(kind string, v any) {
			t.Helper()
			select {
			case e := <-stream:
				if err := json.Unmarshal(e.data, v); e.kind != kind || err != nil {
					t.Fatalf("event %s %s, want %s (%v)", e.kind, e.data, kind, err)
				}
			default:
				t.Fatalf("no event, want %s", kind)
			}
		}
		synctest.Wait()
		var s Summary
		var v ServiceView
		var e EventsView
		var f FailuresView
		receive("summary", &s)
		if s.Delta || len(s.Services) != 2 {
			t.Errorf("first summary = %+v, want both services", s)
		}
		receive("service", &v)
		receive("events", &e)
		receive("failures", &f)
		if v.Line.Service != "orders" || len(v.Endpoints) != 2 || len(e.Events) != 3 {
			t.Errorf("first view = %+v with %+v", v, e)
		}
		_ = call(t.Context(), m, "stock", 100*time.Millisecond, nil)
		time.Sleep(tick)
		synctest.Wait()
		s = Summary{}
		receive("summary", &s)
		if !s.Delta || len(s.Services) != 1 || s.Services[0].Service != "stock" || s.Services[0].Calls != 1 || s.Services[0].Spark != nil || s.Point != 1 {
			t.Errorf("second summary = %+v, want stock alone", s)
		}
		receive("service", &v)
		select {
		case e := <-stream:
			t.Errorf("event %s %s without anything new", e.kind, e.data)
		default:
		}
		spec, _ := m.Spec()
		delete(spec.Services, "orders")
		spec.Services["a.b"] = zerohop.Policy{}
		if _, err := m.Update(spec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(tick)
		synctest.Wait()
		s, e = Summary{}, EventsView{}
		receive("summary", &s)
		for range 2 { // the service, if it is known yet, comes before
			select {
			case ev := <-stream:
				if ev.kind == "events" {
					_ = json.Unmarshal(ev.data, &e)
				}
			default:
			}
		}
		if len(e.Events) == 0 {
			t.Error("the update is no event")
		}
		_ = c.Close()
		if _, open := <-stream; open {
			for range stream {
			}
		}
		_ = resp.Body.Close()
	})
}

func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{MaxStreams: 2})
		_, client := serve(t, c)
		var bodies []io.Closer
		for range 2 {
			resp, err := client.Get("http://localhost/api/stream")
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatal(resp, err)
			}
			bodies = append(bodies, resp.Body)
		}
		resp, err := client.Get("http://localhost/api/stream")
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Fatalf("third stream: %v %v, want 503", resp, err)
		}
		_ = resp.Body.Close()
		for _, b := range bodies {
			_ = b.Close()
		}
		time.Sleep(2 * tick)
		synctest.Wait()
		if n := len(c.streams); n != 0 {
			t.Errorf("%d streams after their readers have gone, want 0", n)
		}
	})
}

func TestSlowReadersAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{})
		p, client := serve(t, c)
		conn, _ := p.dial(t.Context(), "", "")
		defer conn.Close()
		if _, err := fmt.Fprint(conn, "GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(c.streams); n != 1 {
			t.Fatalf("%d streams, want 1", n)
		}
		resp, err := client.Get("http://localhost/api/summary") // others are answered meanwhile
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		time.Sleep(patience + tick + time.Second) // nothing is read
		synctest.Wait()
		if n := len(c.streams); n != 0 {
			t.Errorf("%d streams after %v, want 0: the reader is cut off", n, patience)
		}
	})
}

func TestMeshCloseDoesNotWaitForStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{})
		m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{})
		_, client := serve(t, c)
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/api/stream?service=orders", nil)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		stream := events(resp.Body)
		_ = call(t.Context(), m, "orders", 0, errDown)
		_ = m.Close()
		time.Sleep(3 * tick)
		synctest.Wait()
		cancel()
		for range stream {
		}
		if err := resp.Body.Close(); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
