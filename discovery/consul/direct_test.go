package consul

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
)

// get makes a request through d and reads the body.
func get(ctx context.Context, d http.RoundTripper, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := d.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(body)), err
}

// serve starts a server and counts its connections.
func serve(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	server, conns := httptest.NewUnstartedServer(handler), new(atomic.Int32)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server, conns
}

// testDirect returns a direct whose idle connections end with the test.
func testDirect(t *testing.T) *direct {
	d := newDirect(&http.Transport{})
	t.Cleanup(func() {
		for len(d.idle) > 0 {
			l, _ := d.take(d.idle[0].addr)
			l.Close()
		}
		d.CloseIdleConnections()
	})
	return d
}

func TestDirectReusesConnections(t *testing.T) {
	server, conns := serve(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/chunked":
			fmt.Fprint(w, "a")
			_ = http.NewResponseController(w).Flush()
			fmt.Fprint(w, "b")
		case "/interim":
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "after")
		case "/nothing":
			w.WriteHeader(http.StatusNoContent)
		case "/last":
			w.Header().Set("Connection", "close")
		default:
			fmt.Fprint(w, req.Method, req.URL.RawQuery, req.Header.Get("X-Consul-Token"))
		}
	})
	d := testDirect(t)
	for _, step := range []struct {
		path, want string
		conns      int32
	}{
		{"/?a=b", "200 GETa=b", 1}, {"/chunked", "200 ab", 1}, {"/interim", "200 after", 1}, {"/nothing", "204 ", 1},
		{"/last", "200 ", 1}, {"/", "200 GET", 2},
	} {
		if got, err := get(t.Context(), d, server.URL+step.path); got != step.want || err != nil || conns.Load() != step.conns {
			t.Errorf("%s: answer %q, %v on connection %d, want %q on %d", step.path, got, err, conns.Load(), step.want, step.conns)
		}
	}
	server.CloseClientConnections() // which the next request finds out
	if got, err := get(t.Context(), d, server.URL); got != "200 GET" || err != nil {
		t.Errorf("after the server closed the connection: %q, %v, want an answer on another", got, err)
	}
	put, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.RoundTrip(put)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "PUT" {
		t.Errorf("answer to a PUT is %q, want that of http.Transport", body)
	}
}

func TestDirectLeavesProxiesToTheTransport(t *testing.T) {
	proxy, conns := serve(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "for ", req.URL.Host) })
	d := testDirect(t)
	d.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	if got, err := get(t.Context(), d, "http://consul.test/"); got != "200 for consul.test" || err != nil || conns.Load() != 1 {
		t.Errorf("answer is %q, %v, want that of the proxy", got, err)
	}
}

func TestDirectEndsWithTheContext(t *testing.T) {
	arrived := make(chan struct{})
	server, _ := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/body" {
			fmt.Fprint(w, "begun")
			_ = http.NewResponseController(w).Flush()
		}
		arrived <- struct{}{}
		<-req.Context().Done()
	})
	d := testDirect(t)
	for _, path := range []string{"/", "/body"} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-arrived; cancel() }()
		start := time.Now()
		if got, err := get(ctx, d, server.URL+path); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %q, %v, want %v", path, got, err, context.Canceled)
		}
		if got := time.Since(start); got > 5*time.Second {
			t.Errorf("%s: ended after %v, want at once", path, got)
		}
		if n := len(d.idle); n != 0 {
			t.Errorf("%s: %d connections are kept, want none in the middle of an answer", path, n)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := get(ended, d, server.URL); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v, want %v", err, context.Canceled)
	}
}

func TestDirectRejectsGarbage(t *testing.T) {
	for name, test := range map[string]struct{ answer, want string }{
		"no HTTP":        {"SSH-2.0-x\r\n\r\n", "malformed"},
		"nothing":        {"", "EOF"},
		"cut header":     {"HTTP/1.1 200 OK\r\nA: b", "EOF"},
		"cut body":       {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "unexpected EOF"},
		"endless header": {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", maxHeader), "header of the answer is larger"},
		"only interim":   {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", maxInterim+1), "status 1xx"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, test.answer)
		}()
		if got, err := get(t.Context(), testDirect(t), "http://"+l.Addr().String()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %q, %v, want an error with %q", name, got, err, test.want)
		}
		l.Close()
		<-done
	}
}

func TestDirectKeepsWhatFollowsAnAnswerFromTheNext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // ended by the close of l
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%dHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nX", n)
			conn.Close()
		}
	}()
	d := testDirect(t)
	for _, want := range []string{"200 0", "200 1"} {
		if got, err := get(t.Context(), d, "http://"+l.Addr().String()); got != want || err != nil {
			t.Errorf("answer is %q, %v, want %q", got, err, want)
		}
	}
}

// servers are what the stacks of the goroutines of servers contain, also when they have just begun.
var servers = []string{"net/http.(*conn)", "net/http.(*connReader)", "net/http.(*Server)", "erverConn)"}

// goroutines counts those that are not of servers.
func goroutines() int {
	stacks := make([]byte, 8<<20)
	n := 0
	for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if !slices.ContainsFunc(servers, func(part string) bool { return strings.Contains(stack, part) }) {
			n++
		}
	}
	return n
}

// 200 services cost a goroutine each over http, that of discovery.Run, and two over https.
func TestManyWatchesCostFewGoroutines(t *testing.T) {
	const services = 200
	for scheme, most := range map[string]int{"http": services, "https": 2 * services} {
		t.Run(scheme, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.FormValue("index") != "" {
					<-req.Context().Done()
					return
				}
				respond(w, "5", instances(1))
			}))
			conns := new(atomic.Int32)
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					conns.Add(1)
				}
			}
			config := api.Config{}
			if scheme == "https" {
				server.EnableHTTP2 = true
				server.StartTLS()
				config.TLSConfig.InsecureSkipVerify = true
			} else {
				server.Start()
			}
			defer server.Close()
			config.Address = server.URL
			c := clientOf(t, config)

			// Watches that begin before it is known that the agent speaks HTTP/2 dial for themselves.
			if _, err := (Resolver{Client: c}).Zone(t.Context()); err == nil {
				t.Error("a list is taken for an agent")
			}
			before := goroutines()
			ctx, cancel := context.WithCancel(t.Context())
			found, done := make(chan struct{}, services), make(chan struct{}, services)
			for n := range services {
				go func() {
					_ = discovery.Run(ctx, Resolver{Client: c}, fmt.Sprint("orders-", n), discovery.RunOptions{}, func([]discovery.Endpoint) { found <- struct{}{} })
					done <- struct{}{}
				}()
			}
			for range services {
				<-found
			}
			cost := goroutines() - before
			if cost < services-5 || cost > most+5 {
				t.Errorf("%d goroutines for %d services, want at most %d", cost, services, most)
			}
			t.Logf("%d services: %d goroutines, %d connections", services, cost, conns.Load())
			cancel()
			for range services {
				<-done
			}
		})
	}
}

// Each connection answers one request and breaks at the second, after it has held it for a while.
func TestDirectSendsNoQueryAgainThatWasHeld(t *testing.T) {
	for name, tt := range map[string]struct {
		held     time.Duration
		fails    bool
		requests int
	}{
		"closed while idle": {0, false, 3},
		"closed later":      {2 * resendTime, true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				d := testDirect(t)
				d.dial = func(context.Context, string, string) (net.Conn, error) {
					client, server := net.Pipe()
					go func() { // ends with its second request, or with the connection
						defer server.Close()
						in := bufio.NewReader(server)
						if _, err := http.ReadRequest(in); err != nil {
							return
						}
						requests++
						fmt.Fprint(server, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
						if _, err := http.ReadRequest(in); err == nil {
							requests++
							time.Sleep(tt.held)
						}
					}()
					return client, nil
				}
				if _, err := get(t.Context(), d, "http://192.0.2.1/"); err != nil {
					t.Fatal(err)
				}
				if _, err := get(t.Context(), d, "http://192.0.2.1/"); (err != nil) != tt.fails {
					t.Errorf("second request: %v, want an error: %v", err, tt.fails)
				}
				if requests != tt.requests {
					t.Errorf("%d requests, want %d", requests, tt.requests)
				}
			})
		})
	}
}
