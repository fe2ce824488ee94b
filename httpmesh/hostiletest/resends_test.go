package hostiletest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/zerohop/zerohop"
)

// answeringOnce answers the first request on each connection. It executes the second, and then does what end says
// instead of answering it.
func answeringOnce(t testing.TB, log *ledger, end func(*net.TCPConn)) *server {
	return listen(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for i := range 2 {
			req, err := readRequest(r)
			if err != nil {
				return
			}
			if id, err := strconv.Atoi(req.Header.Get("Id")); err == nil {
				log.done[id].Add(1)
			}
			if i == 1 {
				end(c)
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
}

// Whoever asks for no retries gets none, neither from the mesh nor from what it stands on. The server must not see more
// attempts than are reported.
func TestEveryExecutionIsReportedAsAnAttempt(t *testing.T) {
	leakCheck(t)
	ends := []struct {
		name string
		end  func(*net.TCPConn)
	}{{"reset", reset}, {"closed", func(c *net.TCPConn) { c.Close() }}}
	modes := []struct {
		name  string
		retry zerohop.Retry
		most  int
	}{
		{"retries off", zerohop.Retry{Mode: zerohop.Off}, 1},
		{"retries on", zerohop.Retry{Base: 1, Max: 1}, 3},
	}
	for _, end := range ends {
		for _, mode := range modes {
			t.Run(end.name+", "+mode.name, func(t *testing.T) {
				n := scale(1250)
				log := newLedger(n)
				s := answeringOnce(t, log, end.end)
				c := connect(t, base(false), zerohop.Policy{Retry: mode.retry, Budget: zerohop.Budget{Mode: zerohop.Off}}, s.addr)
				var failed atomic.Int64
				wrong := 0
				var mu sync.Mutex
				parallel(n, 4, func(id int) {
					ctx, report := zerohop.WithReport(t.Context())
					method := []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPost}[id%4]
					req := request(ctx, t, method, "http://orders/", nil)
					req.Header.Set("Id", strconv.Itoa(id))
					if method == http.MethodPost {
						req.Header.Set("Idempotency-Key", strconv.Itoa(id))
					}
					if _, _, err := do(c, req); err != nil {
						failed.Add(1)
					}
					attempts := len(report.Calls()[0].Attempts)
					if executed := int(log.done[id].Load()); executed > attempts || attempts > mode.most {
						mu.Lock()
						defer mu.Unlock()
						if wrong++; wrong < 5 {
							t.Errorf("%s: %d executions, %d attempts reported, of at most %d", method, executed, attempts, mode.most)
						}
					}
				})
				if wrong > 0 {
					t.Errorf("%d of %d calls were executed more often than reported", wrong, n)
				}
				if mode.most == 1 && failed.Load() == 0 {
					t.Error("no call failed, though connections broke after every other request")
				}
				c.checkIdle(t)
			})
		}
	}
}
