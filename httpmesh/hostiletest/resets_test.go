package hostiletest

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/zerohop/zerohop"
)

// ledger counts what a server did, by the id of the request.
type ledger struct{ begun, done []atomic.Int32 }

func newLedger(n int) *ledger { return &ledger{make([]atomic.Int32, n), make([]atomic.Int32, n)} }

// ServeHTTP executes a request: it answers with the id once it has read the whole body, which is the id as well.
func (l *ledger) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	id, err := strconv.Atoi(req.Header.Get("Id"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	l.begun[id].Add(1)
	if body, err := io.ReadAll(req.Body); err != nil || string(body) != bodyOf(id) {
		http.Error(w, "the body is not whole", http.StatusBadRequest)
		return
	}
	l.done[id].Add(1)
	fmt.Fprint(w, id)
}

// bodyOf returns a small body that tells by which request it was sent.
func bodyOf(id int) string { return strings.Repeat(strconv.Itoa(id)+",", 1+id%100) }

// resetting forwards connections to addr and resets each at a random point: at once, after some bytes of requests, or
// when a certain byte of the answers arrives. Requests that came through make up to most bytes, answers half of that.
func resetting(t testing.TB, addr string, most int64) *server {
	return listen(t, func(c *net.TCPConn) {
		up, down := int64(1<<40), int64(1<<40)
		switch rand.N(7) {
		case 0:
			up = 0
		case 1, 2, 3:
			up = rand.N(most)
		default:
			down = rand.N(most / 2)
		}
		if up == 0 {
			reset(c)
			return
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			reset(c)
			return
		}
		server := conn.(*net.TCPConn)
		var (
			once sync.Once
			both sync.WaitGroup
		)
		cut := func() { once.Do(func() { reset(c); reset(server) }) }
		both.Go(func() {
			io.CopyN(server, c, up)
			cut()
		})
		both.Go(func() {
			io.CopyN(c, server, down)
			server.Read(make([]byte, 1)) // the byte that the client does not get any more
			cut()
		})
		both.Wait()
	})
}

// ended is what the caller saw of a call.
type ended struct {
	ok      bool // a status of success and the right body
	success bool // a status of success
	unsent  bool
}

// parallel calls f for all ids, in several goroutines.
func parallel(n, workers int, f func(id int)) {
	var (
		tasks sync.WaitGroup
		next  atomic.Int64
	)
	for range workers {
		tasks.Go(func() {
			for id := int(next.Add(1)) - 1; id < n; id = int(next.Add(1)) - 1 {
				f(id)
			}
		})
	}
	tasks.Wait()
}

func TestPostsAreExecutedOnceThoughConnectionsAreReset(t *testing.T) {
	leakCheck(t)
	for _, test := range []struct {
		name string
		h2   bool
		n    int
		most int64 // bytes before a reset
	}{{"HTTP/1", false, 20_000, 2000}, {"HTTP/2", true, 5000, 20_000}} {
		t.Run(test.name, func(t *testing.T) {
			n := scale(test.n)
			log := newLedger(n)
			s := serve(t, test.h2, log.ServeHTTP)
			c := connect(t, base(test.h2), zerohop.Policy{Budget: zerohop.Budget{Mode: zerohop.Off}},
				resetting(t, s.addr, test.most).addr, resetting(t, s.addr, test.most).addr)
			results := make([]ended, n)
			parallel(n, 16, func(id int) {
				req := request(t.Context(), t, http.MethodPost, "http://orders/", strings.NewReader(bodyOf(id)))
				req.Header.Set("Id", strconv.Itoa(id))
				resp, err := c.RoundTrip(req)
				if err != nil {
					results[id].unsent = !sent(t, err)
					return
				}
				defer resp.Body.Close()
				results[id].success = resp.StatusCode < 300
				body, err := io.ReadAll(resp.Body)
				if results[id].ok = results[id].success && err == nil; results[id].ok && string(body) != strconv.Itoa(id) {
					t.Errorf("answer to request %d = %q", id, body)
				}
			})
			c.checkIdle(t)
			c.checkClosed(t, s)

			var ok, unsent, maybe, executed int
			for id, r := range results {
				switch begun, done := log.begun[id].Load(), log.done[id].Load(); {
				case begun > 1:
					t.Errorf("request %d: executed %d times", id, begun)
				case r.success && done == 0:
					t.Errorf("request %d: reported as executed, but it was not", id)
				case r.unsent && begun > 0:
					t.Errorf("request %d: reported as not sent, but it was executed", id)
				case r.ok:
					ok++
				case r.unsent:
					unsent++
				case done > 0:
					executed++
				default:
					maybe++
				}
			}
			t.Logf("of %d calls %d succeeded, %d failed unsent, %d sent and executed, %d sent and not executed", n, ok, unsent, executed, maybe)
			if ok == 0 || executed+maybe == 0 || !testing.Short() && (executed == 0 || maybe == 0) {
				t.Error("want some of each")
			}
		})
	}
}

// A server may close a connection that is idle at any time. Calls that are safe to repeat must not notice.
func TestConnectionsClosedWhileIdleCostNoAnswer(t *testing.T) {
	leakCheck(t)
	for _, end := range []struct {
		name string
		end  func(*net.TCPConn)
	}{{"reset", reset}, {"closed", func(c *net.TCPConn) { c.Close() }}} {
		t.Run(end.name, func(t *testing.T) {
			s := listen(t, func(c *net.TCPConn) {
				if _, err := readRequest(bufio.NewReader(c)); err == nil {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
					end.end(c)
				}
			})
			policy := zerohop.Policy{Retry: zerohop.Retry{Base: 1, Max: 1}, Budget: zerohop.Budget{Mode: zerohop.Off}}
			c := connect(t, base(false), policy, s.addr)
			n, failed := scale(5000), 0
			for range n {
				status, body, err := do(c, request(t.Context(), t, http.MethodGet, "http://orders/", nil))
				if status != 200 || body != "ok" || err != nil {
					if failed++; failed < 5 {
						t.Errorf("call = %d, %q, %v", status, body, err)
					}
				}
			}
			if failed > 0 {
				t.Errorf("%d of %d calls failed", failed, n)
			}
			c.checkIdle(t)
		})
	}
}
