package httpmesh

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// eager are policies under which every attempt that may be made is made, soon.
var eager = zerohop.Policy{Retry: zerohop.Retry{Base: 1, Max: 1}, Budget: zerohop.Budget{Mode: zerohop.Off}}

// secure starts a server of HTTP/2 and returns it with a base that trusts it.
func secure(t testing.TB, h http.HandlerFunc) (*httptest.Server, *http.Transport) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	base := s.Client().Transport.(*http.Transport).Clone()
	base.DialContext = nil
	base.ForceAttemptHTTP2 = true
	base.TLSClientConfig.ServerName = "example.com"
	return s, base
}

// over runs a test with services over HTTP/1 and over HTTP/2. start returns a transport for two endpoints with the same
// handler.
func over(t *testing.T, test func(t *testing.T, scheme string, start func(http.HandlerFunc) *Transport)) {
	t.Run("HTTP/1", func(t *testing.T) {
		test(t, "http", func(h http.HandlerFunc) *Transport {
			m := open(t, zerohop.Config{Resolver: source(addr(serve(t, h)), addr(serve(t, h))), Spec: zerohop.Spec{Defaults: eager}})
			return client(t, m)
		})
	})
	t.Run("HTTP/2", func(t *testing.T) {
		test(t, "https", func(h http.HandlerFunc) *Transport {
			a, base := secure(t, h)
			b, _ := secure(t, h)
			m := open(t, zerohop.Config{Resolver: source(addr(a), addr(b)), Spec: zerohop.Spec{Defaults: eager}})
			tr := NewTransport(m, base)
			t.Cleanup(tr.CloseIdleConnections)
			return tr
		})
	})
}

// What the server executes is what the caller sent, whenever attempts before failed, or nothing.
func TestServersGetTheBodyOfTheCaller(t *testing.T) {
	over(t, func(t *testing.T, scheme string, start func(http.HandlerFunc) *Transport) {
		var tries sync.Map // by call: *atomic.Int32
		tr := start(func(w http.ResponseWriter, r *http.Request) {
			id := r.Header.Get("Id")
			n, _ := tries.LoadOrStore(id, new(atomic.Int32))
			faults := strings.Split(r.Header.Get("Faults"), ",")
			i := int(n.(*atomic.Int32).Add(1)) - 1
			if i < len(faults) && faults[i] != "" {
				before, err := strconv.Atoi(faults[i][1:])
				if err != nil {
					t.Error(err)
				}
				_, _ = io.CopyN(io.Discard, r.Body, int64(before))
				if faults[i][0] == 'r' {
					panic(http.ErrAbortHandler)
				}
				http.Error(w, "busy", http.StatusServiceUnavailable)
				return
			}
			h := sha256.New()
			if _, err := io.Copy(h, r.Body); err != nil { // the client has given the attempt up, as it does when a backup wins
				panic(http.ErrAbortHandler)
			}
			sum := hex.EncodeToString(h.Sum(nil))
			if want := r.Header.Get("Sum"); sum != want {
				t.Errorf("call %s: the server executes a body with the sum %s, want %s", id, sum, want)
			}
			fmt.Fprint(w, sum)
		})
		var whole, failed atomic.Int32
		var callers sync.WaitGroup
		for c := range 8 {
			callers.Go(func() {
				for k := range 50 {
					rnd := rand.New(rand.NewPCG(uint64(c), uint64(k)))
					content := make([]byte, rnd.IntN(3*replayLimit/2))
					for i := range content {
						content[i] = byte(rnd.Uint32())
					}
					var faults []string
					for range rnd.IntN(3) {
						faults = append(faults, fmt.Sprint(string("rs"[rnd.IntN(2)]), rnd.IntN(len(content)+10)))
					}
					src := &strictBody{t: t, content: content, chunk: 1 + rnd.IntN(20000), end: io.EOF, next: int64(k)}
					src.late.Store(1) // HTTP/2 closes a body to end a read, which may be on its way
					sum := sha256.Sum256(content)
					req := request(t.Context(), t, "PUT", scheme+"://orders/", src)
					req.Header.Set("Sum", hex.EncodeToString(sum[:]))
					req.Header.Set("Id", fmt.Sprint(c, " ", k))
					req.Header.Set("Faults", strings.Join(faults, ","))
					if rnd.IntN(2) == 0 {
						req.ContentLength = int64(len(content))
					}
					resp, err := tr.RoundTrip(req)
					if err != nil || resp.StatusCode != 200 {
						failed.Add(1)
						if len(content) <= replayLimit {
							t.Errorf("call %d %d with a body of %d bytes and faults %v: %v, %v", c, k, len(content), faults, resp, err)
						}
						if err == nil {
							resp.Body.Close()
						}
						continue
					}
					if got, want := read(t, resp, err), hex.EncodeToString(sum[:]); got != want {
						t.Errorf("call %d %d with a body of %d bytes and faults %v: server got %s, want %s", c, k, len(content), faults, got, want)
					}
					whole.Add(1)
				}
			})
		}
		callers.Wait()
		t.Logf("%d calls arrived, %d could not be repeated; %+v", whole.Load(), failed.Load(), tr.Stats())
		if got := tr.Stats().Unrepeated; got != uint64(failed.Load()) || failed.Load() == 0 {
			t.Errorf("%d calls that failed for their body, Stats counts %d", failed.Load(), got)
		}
	})
}

// pattern is a body of any length that takes no memory.
type pattern struct {
	left   int64
	at     int64 // how much is left when hold is called
	hold   func()
	closed atomic.Bool
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(b)), p.left)
	if p.left > p.at {
		n = min(n, p.left-p.at)
	} else if p.hold != nil {
		p.hold()
		p.hold = nil
	}
	p.left -= n
	return int(n), nil
}

func (p *pattern) Close() error { p.closed.Store(true); return nil }

func heap() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

func TestLargeUploadsStream(t *testing.T) {
	over(t, func(t *testing.T, scheme string, start func(http.HandlerFunc) *Transport) {
		arrived := make(chan struct{}, 1)
		tr := start(func(w http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, " ", err)
		})
		const size = 64 << 20
		for _, copies := range []bool{true, false} {
			before := heap()
			var used int64
			first := &pattern{left: size / 2, at: size / 2, hold: func() { <-arrived }}
			second := &pattern{left: size / 2, at: size / 2, hold: func() { used = heap() - before }}
			req := request(t.Context(), t, "PUT", scheme+"://orders/", io.MultiReader(first, second))
			req.ContentLength = size
			if copies {
				req.GetBody = func() (io.ReadCloser, error) { return &pattern{left: size}, nil }
			}
			resp, err := tr.RoundTrip(req)
			if got, want := read(t, resp, err), fmt.Sprint(int64(size), " ", nil); got != want {
				t.Errorf("server got %s, want %s", got, want)
			}
			most := int64(1 << 20)
			if scheme == "https" {
				most = 6 << 20 // what HTTP/2 lets a client send before the server reads is up to 2 MiB, at both ends
			}
			if used > most {
				t.Errorf("GetBody %v: %d KiB are in use in the middle of the upload", copies, used>>10)
			}
			t.Logf("GetBody %v: %d KiB in use in the middle", copies, used>>10)
		}
	})
}

func TestManyUploadsTakeBoundedMemory(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, " ", err)
	})
	policy := eager
	policy.Connect.Timeout = time.Minute // a busy machine needs more than a second for so many connections at once
	m := open(t, zerohop.Config{Resolver: source(addr(s)), Spec: zerohop.Spec{Defaults: policy}})
	tr := client(t, m)
	const uploads, size = 200, 4 << 20
	for _, sent := range []int64{replayLimit - 1, size / 2} {
		before := heap()
		var waiting, done sync.WaitGroup
		resume := make(chan struct{})
		for range uploads {
			waiting.Add(1)
			done.Go(func() {
				waits := sync.OnceFunc(waiting.Done)
				defer waits() // if it failed before
				body := &pattern{left: size, at: size - sent, hold: func() { waits(); <-resume }}
				resp, err := tr.RoundTrip(request(t.Context(), t, "PUT", "http://orders/", body))
				if got, want := read(t, resp, err), fmt.Sprint(size, " ", nil); got != want {
					t.Errorf("server got %s, want %s", got, want)
				}
				if !body.closed.Load() {
					t.Error("the body is open")
				}
			})
		}
		waiting.Wait()
		used := (heap() - before) / uploads
		close(resume)
		done.Wait()
		t.Logf("%d KiB in use for each upload of which %d KiB were sent", used>>10, sent>>10)
		// What is kept, what io.Copy has (32 KiB), the buffers of both ends and their goroutines.
		if most := int64(replayLimit + 96<<10); used > most {
			t.Errorf("%d KiB in use for each upload of which %d KiB were sent, want at most %d", used>>10, sent>>10, most>>10)
		}
	}
}
