package httpmesh

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/zerohop/zerohop"
)

func TestGuardRemembersAThousandHosts(t *testing.T) {
	hosts := 10_000
	if raced() {
		hosts = 3000 // to add one costs ten times as much
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	synctest.Test(t, func(t *testing.T) {
		var served atomic.Int64
		g := guarded(t, roundTrip(func(req *http.Request) (*http.Response, error) {
			served.Add(1)
			return nop{}.RoundTrip(req)
		}), zerohop.Policy{Breaker: zerohop.Breaker{Mode: zerohop.On}})
		defer g.Close()
		call := func(from, to int) {
			var callers sync.WaitGroup
			for k := range 8 {
				callers.Go(func() {
					for i := from + k; i < to; i += 8 {
						resp, err := get(t.Context(), t, g, fmt.Sprintf("http://host-%d.example.com/", i))
						if err != nil {
							t.Error(err)
							return
						}
						resp.Body.Close()
					}
				})
			}
			callers.Wait()
			synctest.Wait() // for what forgotten hosts leave
		}
		before, start := runtime.NumGoroutine(), heap()
		call(0, 2000)
		full := heap()
		call(2000, hosts)
		if got, want := served.Load(), int64(hosts); got != want {
			t.Errorf("base served %d requests, want %d", got, want)
		}
		if got, most := heap(), start+(full-start)*5/4; got > most {
			t.Errorf("heap grew from %d to %d kB over 2,000 hosts and to %d over %d", start>>10, full>>10, got>>10, hosts)
		}
		if got, most := runtime.NumGoroutine()-before, 1000; got > most {
			t.Errorf("%d goroutines for %d hosts, want at most %d", got, hosts, most)
		}
	})
}

// raced reports whether the race detector is on.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func TestOriginIsWhatSharesState(t *testing.T) {
	for url, want := range map[string]string{
		"http://Api.Example.com/x":         "http://api.example.com",
		"https://api.example.com:443":      "https://api.example.com",
		"https://api.example.com:80":       "https://api.example.com:80",
		"http://api.example.com:":          "http://api.example.com",
		"http://[::1]":                     "http://[::1]",
		"http://[::80]":                    "http://[::80]",
		"http://[::1]:80/":                 "http://[::1]",
		"https://[2001:DB8::1]:8443/":      "https://[2001:db8::1]:8443",
		"http://user:secret@host:8080/a?b": "http://host:8080",
	} {
		if got := origin(request(t.Context(), t, "GET", url, nil).URL); got != want {
			t.Errorf("origin(%s) = %s, want %s", url, got, want)
		}
	}
}

// FuzzGuard checks that a Guard brings every request to its base, whatever the host.
func FuzzGuard(f *testing.F) {
	for _, host := range []string{
		"api.example.com", "10.0.0.1:8080", "[::1]:80", "[fe80::1%eth0]", "münchen.example", "127.1", "a..b", "-", "%2Frun%2Fdocker.sock",
		"host:http", "host:0", "host:99999", strings.Repeat("long.", 60), "", ":", "[", "\x00",
	} {
		f.Add("https", host)
	}
	f.Add("ftp", "files.example.com")
	var got *http.Request
	g := guarded(f, roundTrip(func(req *http.Request) (*http.Response, error) {
		got = req
		return nop{}.RoundTrip(req)
	}), zerohop.Policy{})
	f.Fuzz(func(t *testing.T, scheme, host string) {
		req := &http.Request{Method: "GET", URL: &url.URL{Scheme: scheme, Host: host, Path: "/"}, Header: http.Header{}}
		got = nil
		resp, err := g.RoundTrip(req)
		if err != nil {
			t.Fatalf("RoundTrip to %q = %v", host, err)
		}
		resp.Body.Close()
		if got == nil || *got.URL != *req.URL || got.Host != req.Host {
			t.Errorf("base got %v, want %v", got, req.URL)
		}
	})
}

// BenchmarkGuard is what a Guard adds to a client over a base that does nothing.
func BenchmarkGuard(b *testing.B) {
	for _, c := range []struct {
		name string
		base http.RoundTripper
	}{
		{"client", nop{}},
		{"guard", guarded(b, nop{}, zerohop.Policy{})},
		{"guard+breaker", guarded(b, nop{}, zerohop.Policy{Breaker: zerohop.Breaker{Mode: zerohop.On}})},
	} {
		b.Run(c.name, func(b *testing.B) {
			client, req := &http.Client{Transport: c.base}, request(b.Context(), b, http.MethodGet, "https://api.example.com/v1/orders/42", nil)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := client.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}
