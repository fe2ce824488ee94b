package httpmesh

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/zerohop/zerohop"
)

func TestMisdirectedRequestsAreSentOnceMoreOnANewConnection(t *testing.T) {
	for _, c := range []struct {
		misdirected int // of the requests after the first
		want        int
	}{{1, 200}, {9, 421}} {
		over := func(name, scheme string, start func(http.HandlerFunc) (string, *http.Transport)) {
			var mu sync.Mutex
			var conns []string
			at, base := start(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				conns = append(conns, r.RemoteAddr)
				if n := len(conns); n > 1 && n-1 <= c.misdirected {
					w.WriteHeader(http.StatusMisdirectedRequest)
				}
				fmt.Fprint(w, len(conns))
			})
			m := open(t, zerohop.Config{Resolver: source(at)})
			tr := NewTransport(m, base)
			t.Cleanup(tr.CloseIdleConnections)
			resp, err := get(t.Context(), t, tr, scheme+"://orders/")
			read(t, resp, err)
			resp, err = tr.RoundTrip(request(t.Context(), t, "POST", scheme+"://orders/", nil))
			if got := read(t, resp, err); resp.StatusCode != c.want || got != "3" {
				t.Errorf("%s: answer %s is %d, want the third one, %d", name, got, resp.StatusCode, c.want)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(conns) != 3 || conns[0] != conns[1] || conns[1] == conns[2] {
				t.Errorf("%s: requests came on %v, want the third one on a new connection", name, conns)
			}
		}
		over("HTTP/1", "http", func(h http.HandlerFunc) (string, *http.Transport) { return addr(serve(t, h)), &http.Transport{} })
		over("HTTP/2", "https", func(h http.HandlerFunc) (string, *http.Transport) {
			s, base := secure(t, h)
			return addr(s), base
		})
	}
}
