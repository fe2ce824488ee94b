package httpmesh

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zerohop/zerohop"
)

// flaky answers 503 to every other request. It reads the body before: net/http's server of HTTP/2 takes trailers that
// come after its answer for a mistake, and ends the connection.
func flaky(h http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%2 == 1 {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h(w, r)
	}
}

func TestRequestsMayBeShared(t *testing.T) {
	over(t, func(t *testing.T, scheme string, start func(http.HandlerFunc) *Transport) {
		tr := start(flaky(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host, r.URL, r.Header["X"]) }))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		req := request(ctx, t, "GET", scheme+"://orders/a%2Fb?q=1", nil)
		req.Header = http.Header{"X": {"1", "2"}, AttemptHeader: {"9"}, "zerohop-timeout": {"1", "2"}}
		before := req.Clone(ctx)
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				for range 10 {
					resp, err := tr.RoundTrip(req)
					if err == nil && resp.Request != req {
						t.Error("the request of the response is not the caller's")
					}
					if got, want := read(t, resp, err), "orders/a%2Fb?q=1 [1 2]"; got != want && resp.StatusCode != 503 {
						t.Errorf("server got %s, want %s", got, want)
					}
				}
			})
		}
		callers.Wait()
		if diff := cmp.Diff(before, req, cmpopts.IgnoreUnexported(http.Request{})); diff != "" {
			t.Errorf("the request was changed:\n%s", diff)
		}
	})
}

func TestHostsOfTheCallerAreKept(t *testing.T) {
	over(t, func(t *testing.T, scheme string, start func(http.HandlerFunc) *Transport) {
		tr := start(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })
		for _, host := range []string{"", "shop.example.com"} {
			req := request(t.Context(), t, "GET", scheme+"://orders/", nil)
			if req.Host = host; host == "" {
				host = "orders"
			}
			resp, err := tr.RoundTrip(req)
			if got := read(t, resp, err); got != host {
				t.Errorf("server got Host %q, want %q", got, host)
			}
		}
	})
}

func TestTrailersPassBothWays(t *testing.T) {
	over(t, func(t *testing.T, scheme string, start func(http.HandlerFunc) *Transport) {
		tr := start(flaky(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Sum")
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n)
			w.Header().Set("Sum", r.Trailer.Get("Sum")+" seen")
		}))
		for range 10 {
			req := request(t.Context(), t, "PUT", scheme+"://orders/", nil)
			req.Trailer = http.Header{"Sum": nil}
			req.ContentLength = -1
			left := 1000
			req.Body = io.NopCloser(readerFunc(func(p []byte) (int, error) {
				if left == 0 {
					req.Trailer.Set("Sum", "1000")
					return 0, io.EOF
				}
				n := min(left, len(p), 300)
				left -= n
				return n, nil
			}))
			resp, err := tr.RoundTrip(req)
			if got := read(t, resp, err); got != "1000" || resp.Trailer.Get("Sum") != "1000 seen" {
				t.Errorf("answer = %d %q with trailer %v, want 1000 and what the server saw", resp.StatusCode, got, resp.Trailer)
			}
		}
	})
}

func TestInformationalAnswersReachTheTraceOfTheCaller(t *testing.T) {
	over(t, func(t *testing.T, scheme string, start func(http.HandlerFunc) *Transport) {
		tr := start(flaky(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "ok")
		}))
		var hints []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, h["Link"]))
			return nil
		}})
		resp, err := get(ctx, t, tr, scheme+"://orders/")
		if got := read(t, resp, err); got != "ok" {
			t.Errorf("answer = %q", got)
		}
		if diff := cmp.Diff([]string{"103 [</style.css>]"}, hints); diff != "" {
			t.Errorf("trace of the caller (-want +got):\n%s", diff)
		}
	})
}

// The server refuses before it has seen the body, which then goes to the next one as a whole.
func TestBodiesThatWaitForTheServerAreSentOnce(t *testing.T) {
	for _, code := range []int{http.StatusServiceUnavailable, http.StatusExpectationFailed} {
		var n, sent atomic.Int32
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				w.WriteHeader(code)
				return
			}
			got, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, got, " ", err)
		})
		m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: eager}})
		tr := NewTransport(m, &http.Transport{ExpectContinueTimeout: time.Minute})
		t.Cleanup(tr.CloseIdleConnections)
		call := func() (string, int) {
			left := 100_000
			body := readerFunc(func(p []byte) (int, error) {
				sent.Add(1)
				k := min(left, len(p))
				if left -= k; k == 0 {
					return 0, io.EOF
				}
				return k, nil
			})
			req := request(t.Context(), t, "PUT", "http://orders/", body)
			req.ContentLength = 100_000
			req.Header.Set("Expect", "100-continue")
			resp, err := tr.RoundTrip(req)
			return read(t, resp, err), resp.StatusCode
		}
		if got, status := call(); code == http.StatusServiceUnavailable && got != "100000 <nil>" || code != http.StatusServiceUnavailable && (status != code || sent.Load() > 0) {
			t.Errorf("%d: answer = %d %q after %d reads of the body", code, status, got, sent.Load())
		}
		if got, _ := call(); got != "100000 <nil>" { // no connection is poisoned
			t.Errorf("%d: the next call got %q", code, got)
		}
	}
}

func TestTunnelsPassThrough(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "orders" {
			t.Errorf("server got %s %s, want CONNECT orders", r.Method, r.Host)
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 200 OK\r\n\r\n")
		_ = rw.Flush()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(rw, "echo ", line)
			_ = rw.Flush()
		}
	})
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: zerohop.Policy{ReadTimeout: time.Hour}}})
	pr, pw := io.Pipe()
	resp, err := client(t, m).RoundTrip(request(t.Context(), t, http.MethodConnect, "http://orders", pr))
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		fmt.Fprintln(pw, "line", i)
		if got, err := lines.ReadString('\n'); got != fmt.Sprintln("echo line", i) || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
	}
	pw.Close()
	resp.Body.Close()
	checkIdle(t, m)
}

func TestAnswersPassAsTheyAre(t *testing.T) {
	over(t, func(t *testing.T, scheme string, start func(http.HandlerFunc) *Transport) {
		tr := start(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/redirect":
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
			case "/same":
				w.WriteHeader(http.StatusNotModified)
			case "/none":
				w.WriteHeader(http.StatusNoContent)
			default:
				if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
					w.Header().Set("Content-Encoding", "gzip")
					z := gzip.NewWriter(w)
					fmt.Fprint(z, "text")
					z.Close()
					return
				}
				w.Header().Set("Content-Length", "4")
				if r.Method != http.MethodHead {
					fmt.Fprint(w, "text")
				}
			}
		})
		zipped := NewTransport(tr.mesh, func() *http.Transport {
			base := tr.base.(*http.Transport).Clone()
			base.DisableCompression = false
			return base
		}())
		t.Cleanup(zipped.CloseIdleConnections)
		for _, c := range []struct {
			tr           *Transport
			method, path string
			code         int
			length       int64
			body         string
			unzipped     bool
		}{
			{tr, "GET", "/redirect", 302, -2, "", false}, {tr, "GET", "/same", 304, -2, "", false}, {tr, "GET", "/none", 204, 0, "", false},
			{zipped, "HEAD", "/", 200, 4, "", false}, {zipped, "GET", "/", 200, -1, "text", true},
		} {
			resp, err := c.tr.RoundTrip(request(t.Context(), t, c.method, scheme+"://orders"+c.path, nil))
			got := read(t, resp, err)
			if resp.StatusCode != c.code || c.path == "/" && got != c.body || c.length != -2 && resp.ContentLength != c.length || resp.Uncompressed != c.unzipped {
				t.Errorf("%s %s = %d %q, length %d, uncompressed %v, want %+v", c.method, c.path, resp.StatusCode, got, resp.ContentLength, resp.Uncompressed, c)
			}
		}
	})
}
