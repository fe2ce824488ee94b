//go:build linux || darwin

package httpmesh

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
)

// A handler that loses against a backup elsewhere learns that nobody waits for it.
func TestHandlerThatLostIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := zerohop.New(zerohop.Config{Resolver: source("a.invalid:1", "b.invalid:1")})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		tr := NewTransport(m, nil)
		lost := make(chan error, 1)
		var turns atomic.Int64
		either := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if turns.Add(1) == 1 {
				<-r.Context().Done()
				lost <- r.Context().Err()
				return
			}
			hello(w, r)
		})
		tr.Handlers = map[string]http.Handler{"a.invalid:1": either, "b.invalid:1": either}
		if got := ask(t, tr, "http://orders/"); got != "hello" {
			t.Errorf("answer %q", got)
		}
		if err := <-lost; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler that lost saw %v", err)
		}
	})
}

// What one handler has read of a body is there again for the next.
func TestBodyIsRepeatedForTheNextHandler(t *testing.T) {
	mute(t)
	tr := client(t, open(t, zerohop.Config{Resolver: source("a.invalid:1", "b.invalid:1")}))
	want := strings.Repeat("0123456789", 20_000)
	var turns atomic.Int64
	either := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if turns.Add(1) == 1 {
			io.CopyN(io.Discard, r.Body, 1000)
			panic("on purpose")
		}
		io.Copy(w, r.Body)
	})
	tr.Handlers = map[string]http.Handler{"a.invalid:1": either, "b.invalid:1": either}
	resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodPut, "http://orders/", strings.NewReader(want)))
	if got := read(t, resp, err); got != want || turns.Load() != 2 {
		t.Errorf("%d bytes came back after %d attempts, want %d after 2", len(got), turns.Load(), len(want))
	}
}

// Large bodies go both ways at once, whole and in order.
func TestLargeBodiesGoBothWaysOnAllWays(t *testing.T) {
	onAll(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		if n, err := io.Copy(w, r.Body); err != nil {
			t.Errorf("echo of %d bytes: %v", n, err)
		}
	}, func(t *testing.T, tr *Transport) {
		const size = 8 << 20
		sent, got := sha256.New(), sha256.New()
		var seed [32]byte
		body := io.TeeReader(io.LimitReader(rand.NewChaCha8(seed), size), sent)
		resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodPost, "http://orders/", body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(got, resp.Body); n != size || err != nil {
			t.Errorf("%d bytes came back, %v, want %d", n, err, size)
		}
		if sum := func(h hash.Hash) string { return fmt.Sprintf("%x", h.Sum(nil)) }; sum(got) != sum(sent) {
			t.Error("other bytes came back than were sent")
		}
	})
}

// What handlers of the standard library do is the same on all ways.
func TestReverseProxyIsAHandlerOnAllWays(t *testing.T) {
	mute(t)
	gone := make(chan struct{})
	back := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/trailers":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "abc")
			w.Header().Set("X-Sum", "3")
		case "/broken":
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "abc")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/hangs":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			gone <- struct{}{}
		default:
			w.Header().Set("Link", "</a>")
			w.WriteHeader(http.StatusEarlyHints)
			io.Copy(w, r.Body)
		}
	})
	u, _ := url.Parse(back.URL)
	base := &http.Transport{DisableCompression: true}
	t.Cleanup(base.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{Transport: base, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	slow := http.TimeoutHandler(hang, 10*time.Millisecond, "late")
	list := ways(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			slow.ServeHTTP(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	for _, path := range []string{"/echo", "/trailers", "/broken", "/slow"} {
		var want string
		for _, way := range []string{"tcp", "unix", "in-process"} {
			resp, err := list[way].RoundTrip(request(t.Context(), t, http.MethodPost, "http://orders"+path, strings.NewReader("hello")))
			got := seenOf(resp, err)
			if way == "tcp" {
				want = got
			} else if got != want {
				t.Errorf("%s %s:\n%s\nover TCP:\n%s", path, way, got, want)
			}
		}
	}
	for _, way := range []string{"tcp", "unix", "in-process"} {
		resp, err := list[way].RoundTrip(request(t.Context(), t, http.MethodGet, "http://orders/hangs", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		<-gone
	}
}
