package hostiletest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"

	"github.com/zerohop/zerohop"
)

// A server that says more than it announced tries to answer a request that was not made yet.
func TestWhatFollowsAnAnswerIsNotTheNextOne(t *testing.T) {
	leakCheck(t)
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for _, test := range []struct{ name, method, answer string }{
		{"body", http.MethodGet, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n%s"},
		{"chunks", http.MethodGet, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n%s\r\n0\r\n\r\n"},
		{"no body", http.MethodGet, "HTTP/1.1 204 No Content\r\nId: %s\r\n\r\n"},
		{"not modified", http.MethodGet, "HTTP/1.1 304 Not Modified\r\nContent-Length: 43\r\nId: %s\r\n\r\n"},
		{"HEAD", http.MethodHead, "HTTP/1.1 200 OK\r\nContent-Length: 43\r\nId: %s\r\n\r\n"},
		{"both lengths", http.MethodGet, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n%s\r\n0\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := listen(t, func(c *net.TCPConn) {
				r := bufio.NewReader(c)
				for {
					req, err := readRequest(r)
					if err != nil {
						return
					}
					fmt.Fprintf(c, test.answer+evil, req.Header.Get("Id"))
				}
			})
			c := connect(t, base(false), zerohop.Policy{}, s.addr)
			answered := 0
			for i := range scale(1000) {
				id := strconv.Itoa(10_000_000 + i)
				req := request(t.Context(), t, test.method, "http://orders/", nil)
				req.Header.Set("Id", id)
				resp, err := c.RoundTrip(req)
				if err != nil {
					continue // the connection was found to be broken
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if got := resp.Header.Get("Id") + string(body); got != id {
					t.Fatalf("answer %d to %s is %q", i, id, got)
				}
				answered++
			}
			if answered == 0 {
				t.Error("no call was answered")
			}
			c.checkIdle(t)
		})
	}
}
