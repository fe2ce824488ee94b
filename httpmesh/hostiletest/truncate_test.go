package hostiletest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/zerohop/zerohop"
)

// payload is the body of answers that get cut.
var payload = strings.Repeat("0123456789abcde\n", 128)

// answer is all that a server sends on a connection.
type answer struct {
	name  string
	h2    bool
	bytes string
	head  int // bytes up to the end of the head
}

func answers(t testing.TB) []answer {
	chunks := fmt.Sprintf("400\r\n%s\r\n%x;ext=1\r\n%s\r\n0\r\n", payload[:1024], len(payload)-1024, payload[1024:])
	list := []answer{
		{name: "Content-Length", bytes: fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Head: 1\r\nContent-Length: %d\r\n\r\n%s", len(payload), payload)},
		{name: "chunked", bytes: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + "\r\n"},
		{name: "trailers", bytes: "HTTP/1.1 200 OK\r\nTrailer: Sum, More\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + "Sum: 12\r\nMore: 34\r\n\r\n"},
		{name: "after 103", bytes: fmt.Sprintf("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(payload), payload)},
	}
	for i, a := range list {
		list[i].head = strings.LastIndex(a.bytes[:min(len(a.bytes), 200)], "\r\n\r\n") + 4
	}
	return append(list,
		frames(t, "HTTP/2", false, ":status", "200"),
		frames(t, "HTTP/2 with Content-Length", false, ":status", "200", "content-length", fmt.Sprint(len(payload))),
		frames(t, "HTTP/2 with trailers", true, ":status", "200", "trailer", "sum"),
	)
}

// frames returns an answer to stream 1 of HTTP/2, the frames of the connection included.
func frames(t testing.TB, name string, trailers bool, header ...string) answer {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 10}))
	check(fr.WriteSettingsAck())
	check(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(header...), EndHeaders: true}))
	a := answer{name: name, h2: true, head: b.Len()}
	check(fr.WriteData(1, false, []byte(payload[:512])))
	check(fr.WriteDataPadded(1, false, []byte(payload[512:1024]), make([]byte, 5)))
	check(fr.WriteData(1, !trailers, []byte(payload[1024:])))
	if trailers {
		check(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block("sum", "12"), EndHeaders: true, EndStream: true}))
	}
	a.bytes = b.String()
	return a
}

// block encodes header fields for HTTP/2, without the state of a connection.
func block(fields ...string) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	enc.SetMaxDynamicTableSize(0)
	for i := 0; i < len(fields); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

// awaitRequest reads from a connection until a request without a body is complete.
func awaitRequest(c net.Conn, h2 bool) error {
	r := bufio.NewReader(c)
	if !h2 {
		_, err := readRequest(r)
		return err
	}
	if _, err := io.CopyN(io.Discard, r, int64(len(http2.ClientPreface))); err != nil {
		return err
	}
	for fr := http2.NewFramer(io.Discard, r); ; {
		f, err := fr.ReadFrame()
		if _, ok := f.(*http2.HeadersFrame); ok || err != nil {
			return err
		}
	}
}

// cutting serves the first bytes of an answer on each connection and then closes it.
func cutting(t testing.TB, a answer, n *atomic.Int64) *server {
	return listen(t, func(c *net.TCPConn) {
		if awaitRequest(c, a.h2) == nil {
			io.WriteString(c, a.bytes[:n.Load()])
			finish(c)
		}
	})
}

// A body that ends with its connection, as in HTTP/1.0, is the one that nobody can tell from a whole one.
func TestAnswersCutAnywhereAreErrors(t *testing.T) {
	leakCheck(t)
	for _, a := range answers(t) {
		t.Run(a.name, func(t *testing.T) {
			var n atomic.Int64
			s := cutting(t, a, &n)
			c := connect(t, base(a.h2), zerohop.Policy{Retry: zerohop.Retry{Mode: zerohop.Off}}, s.addr)
			step := 1
			if testing.Short() {
				step = 13
			}
			for cut := 0; cut < len(a.bytes); cut += step {
				n.Store(int64(cut))
				resp, err := c.RoundTrip(request(t.Context(), t, http.MethodGet, "http://orders/", nil))
				if err != nil {
					continue
				}
				data, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err == nil {
					t.Fatalf("answer cut after %d of %d bytes: status %d, %d bytes and no error", cut, len(a.bytes), resp.StatusCode, len(data))
				}
				if cut < a.head {
					t.Fatalf("answer cut after %d bytes, %d of them its head: status %d", cut, a.head, resp.StatusCode)
				}
				if !strings.HasPrefix(payload, string(data)) {
					t.Fatalf("answer cut after %d bytes: read %q", cut, data)
				}
			}
			n.Store(int64(len(a.bytes)))
			if status, body, err := do(c, request(t.Context(), t, http.MethodGet, "http://orders/", nil)); status != 200 || body != payload || err != nil {
				t.Errorf("whole answer = %d, %d bytes, %v", status, len(body), err)
			}
			c.checkIdle(t)
		})
	}
}

func TestAnswersCutInTheHeadAreGotElsewhere(t *testing.T) {
	leakCheck(t)
	policy := zerohop.Policy{
		Budget:  zerohop.Budget{Mode: zerohop.Off},
		Retry:   zerohop.Retry{Base: time.Microsecond, Max: time.Microsecond},
		Outlier: zerohop.Outlier{Mode: zerohop.Off}, // the one that cuts is to get calls all the same
	}
	for _, a := range answers(t) {
		t.Run(a.name, func(t *testing.T) {
			var n, served atomic.Int64
			bad := cutting(t, a, &n)
			good := serve(t, a.h2, func(w http.ResponseWriter, _ *http.Request) {
				served.Add(1)
				io.WriteString(w, "healthy")
			})
			c := connect(t, base(a.h2), policy, bad.addr, good.addr)
			for cut := range a.head + 20 {
				n.Store(int64(cut))
				before := served.Load()
				status, body, err := do(c, request(t.Context(), t, http.MethodGet, "http://orders/", nil))
				switch again := served.Load() - before; {
				case cut < a.head && (status != 200 || body != "healthy" || err != nil || again != 1):
					t.Fatalf("answer cut after %d bytes of its head: %d, %q, %v", cut, status, body, err)
				case cut >= a.head && (err == nil || again != 0):
					t.Fatalf("answer cut after %d bytes, head included: %d, %d bytes, %v, repeated %d times", cut, status, len(body), err, again)
				}
			}
			if got, want := bad.opened.Load(), int64(a.head+20); got != want {
				t.Errorf("connections to the endpoint that cuts = %d, want %d", got, want)
			}
			c.checkIdle(t)
		})
	}
}
