package hostiletest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// maxGrowth is how much memory a server may make its caller hold that reads no more of a body than it wants.
const maxGrowth = 32 << 20

// liar is a server of HTTP/1 that breaks the rules.
type liar struct {
	name   string
	answer string
	more   string // follows the answer for ever
	// fails says that the call must end with an error: the answer could be taken for another one. Callers see body
	// if it does not, unless that is empty.
	fails bool
	body  string
}

func liars() []liar {
	const ok = "HTTP/1.1 200 OK\r\n"
	chunked := ok + "Transfer-Encoding: chunked\r\n\r\n"
	var many strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&many, "H%d: v\r\n", i)
	}
	return []liar{
		{name: "both lengths", answer: ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", body: "ok"},
		{name: "bare LF", answer: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", body: "ok"},
		{name: "bare CR", answer: "HTTP/1.1 200 OK\rContent-Length: 2\r\rok", fails: true},
		{name: "folded header", answer: ok + "X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", body: "ok"},
		{name: "space before colon", answer: ok + "Content-Length : 2\r\n\r\nok"},
		{name: "header without colon", answer: ok + "Content-Length 2\r\n\r\nok", fails: true},
		{name: "empty header name", answer: ok + ": 2\r\n\r\nok", fails: true},
		{name: "NUL in header name", answer: ok + "X\x00: 1\r\nContent-Length: 2\r\n\r\nok", fails: true},
		{name: "NUL in header value", answer: ok + "X: \x00\r\nContent-Length: 2\r\n\r\nok"},
		{name: "NUL in status line", answer: "HTTP/1.1 200 \x00\r\nContent-Length: 2\r\n\r\nok"},
		{name: "different lengths", answer: ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", fails: true},
		{name: "negative length", answer: ok + "Content-Length: -1\r\n\r\nok", fails: true},
		{name: "signed length", answer: ok + "Content-Length: +2\r\n\r\nok", fails: true},
		{name: "overflowing length", answer: ok + "Content-Length: 18446744073709551618\r\n\r\nok", fails: true},
		{name: "empty length", answer: ok + "Content-Length:\r\n\r\nok", fails: true},
		{name: "hexadecimal length", answer: ok + "Content-Length: 0x2\r\n\r\nok", fails: true},
		{name: "unknown encoding", answer: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", fails: true},
		{name: "chunked twice", answer: ok + "Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", fails: true},
		{name: "overflowing chunk", answer: chunked + "fffffffffffffffff\r\nok", fails: true},
		{name: "negative chunk", answer: chunked + "-2\r\nok\r\n0\r\n\r\n", fails: true},
		{name: "chunk without a size", answer: chunked + "\r\nok\r\n0\r\n\r\n", fails: true},
		{name: "chunk longer than its size", answer: chunked + "1\r\nok\r\n0\r\n\r\n", fails: true},
		{name: "chunk ends with LF", answer: chunked + "2\nok\n0\n\n", fails: true},
		{name: "long chunk extension", answer: chunked + "2;" + strings.Repeat("x", 4<<20) + "\r\nok\r\n0\r\n\r\n", fails: true},
		{name: "many chunk extensions", answer: chunked + strings.Repeat("1;"+strings.Repeat("x", 2000)+"\r\no\r\n", 2000) + "0\r\n\r\n", fails: true},
		{name: "malformed trailer", answer: chunked + "2\r\nok\r\n0\r\nTrailer\r\n\r\n", fails: true},
		{name: "endless trailer", answer: chunked + "2\r\nok\r\n0\r\n", more: "Trailer: 1\r\n", fails: true},
		{name: "no status line", answer: "\r\n\r\n", fails: true},
		{name: "status of two digits", answer: "HTTP/1.1 99 No\r\n\r\n", fails: true},
		{name: "status of four digits", answer: "HTTP/1.1 2000 No\r\n\r\n", fails: true},
		{name: "negative status", answer: "HTTP/1.1 -20 No\r\n\r\n", fails: true},
		{name: "status zero", answer: "HTTP/1.1 000 No\r\nContent-Length: 2\r\n\r\nok"},
		{name: "status alone", answer: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", body: "ok"},
		{name: "another version", answer: "HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		{name: "version without a number", answer: "HTTP/x.y 200 OK\r\n\r\n", fails: true},
		{name: "another protocol", answer: "SSH-2.0-OpenSSH_9.9\r\n", fails: true},
		{name: "HTTP/2", answer: "\x00\x00\x00\x04\x00\x00\x00\x00\x00", fails: true},
		{name: "TLS alert", answer: "\x15\x03\x01\x00\x02\x02\x28", fails: true},
		{name: "long status line", answer: "HTTP/1.1 200 " + strings.Repeat("x", 16<<20), fails: true},
		{name: "endless header", answer: ok, more: "X: " + strings.Repeat("x", 1000) + "\r\n", fails: true},
		{name: "endless header line", answer: ok + "X: ", more: strings.Repeat("x", 1000), fails: true},
		{name: "many headers", answer: ok + many.String() + "Content-Length: 2\r\n\r\nok", fails: true},
		{name: "many early hints", answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100) + ok + "Content-Length: 2\r\n\r\nok", body: "ok"},
		{name: "endless early hints", more: "HTTP/1.1 103 Early Hints\r\nX: " + strings.Repeat("x", 1000) + "\r\n\r\n", fails: true},
		{name: "endless small early hints", more: "HTTP/1.1 103 Early Hints\r\n\r\n", fails: true},
		{name: "upgrade that was not asked for", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nok"},
		{name: "nothing", fails: true},
	}
}

// lying gives each request the answer of the liar and closes the connection, or goes on for ever.
func lying(l liar) func(*net.TCPConn) {
	answer, more := []byte(l.answer), []byte(strings.Repeat(l.more, 10))
	return func(c *net.TCPConn) {
		if _, err := readRequest(bufio.NewReader(c)); err != nil {
			return
		}
		c.Write(answer)
		for len(more) > 0 {
			if _, err := c.Write(more); err != nil {
				return
			}
		}
		finish(c)
	}
}

func TestMalformedAnswersAreErrors(t *testing.T) {
	leakCheck(t)
	for _, l := range liars() {
		t.Run(l.name, func(t *testing.T) {
			s := listen(t, lying(l))
			c := connect(t, base(false), zerohop.Policy{Retry: zerohop.Retry{Mode: zerohop.Off}}, s.addr)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			growth := heapGrowth(func() {
				resp, err := c.RoundTrip(request(ctx, t, http.MethodGet, "http://orders/", nil))
				var body []byte
				if err == nil {
					body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
					resp.Body.Close()
				}
				switch {
				case ctx.Err() != nil:
					t.Errorf("call did not end by itself: %v", err)
				case l.fails && err == nil:
					t.Errorf("call = %d, %.100q, want an error", resp.StatusCode, body)
				case l.body != "" && (err != nil || string(body) != l.body):
					t.Errorf("call = %.100q, %v, want %q", body, err, l.body)
				}
			})
			if growth > maxGrowth {
				t.Errorf("memory grew by %d MiB, want at most %d", growth>>20, maxGrowth>>20)
			}
			c.checkIdle(t)
			settle(t, "the connection is closed", func() bool { return s.open.Load() == 0 })
		})
	}
}

// What a service sends is unpacked only as far as somebody wants it.
func TestAnswersAreUnpackedOnlyAsFarAsTheyAreRead(t *testing.T) {
	leakCheck(t)
	var member bytes.Buffer
	w := gzip.NewWriter(&member)
	w.Write(make([]byte, 1<<20))
	w.Close()
	packed := bytes.Repeat(member.Bytes(), 10_000) // 10 GiB
	bomb := func(status string) func(*net.TCPConn) {
		return answering(fmt.Sprintf("HTTP/1.1 %s\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", status, len(packed), packed))
	}
	tr := base(false)
	tr.DisableCompression = false
	policy := zerohop.Policy{Budget: zerohop.Budget{Mode: zerohop.Off}, Retry: zerohop.Retry{Base: 1, Max: 1}}
	t.Run("answer", func(t *testing.T) {
		c := connect(t, tr, policy, listen(t, bomb("200 OK")).addr)
		growth := heapGrowth(func() {
			for range 10 {
				resp, err := c.RoundTrip(request(t.Context(), t, http.MethodGet, "http://orders/", nil))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil || !resp.Uncompressed {
					t.Errorf("reading: %v, unpacked: %v", err, resp.Uncompressed)
				}
				resp.Body.Close()
			}
		})
		if growth > maxGrowth {
			t.Errorf("memory grew by %d MiB, want at most %d", growth>>20, maxGrowth>>20)
		}
		c.checkIdle(t)
	})
	t.Run("discarded answer", func(t *testing.T) {
		good := serve(t, false, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
		c := connect(t, tr, policy, listen(t, bomb("503 No")).addr, good.addr)
		growth := heapGrowth(func() {
			for range 10 {
				status, body, err := do(c, request(t.Context(), t, http.MethodGet, "http://orders/", nil))
				if status != 200 || body != "ok" || err != nil {
					t.Errorf("call = %d, %q, %v", status, body, err)
				}
			}
		})
		if growth > maxGrowth {
			t.Errorf("memory grew by %d MiB, want at most %d", growth>>20, maxGrowth>>20)
		}
		c.checkIdle(t)
	})
}

// Whatever a server sends, a call ends, with an answer or an error, and the process lives.
func FuzzHTTP1Response(f *testing.F) {
	for _, l := range liars() {
		if len(l.answer)+len(l.more) < 1<<10 {
			f.Add([]byte(l.answer + l.more))
		}
	}
	answer := make(chan []byte, 1)
	s := listen(f, func(c *net.TCPConn) {
		if _, err := readRequest(bufio.NewReader(c)); err == nil {
			c.Write(<-answer)
			finish(c)
		}
	})
	c := connect(f, base(false), zerohop.Policy{Retry: zerohop.Retry{Mode: zerohop.Off}}, s.addr)
	f.Fuzz(func(t *testing.T, data []byte) {
		offer(answer, data)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		resp, err := c.RoundTrip(request(ctx, t, http.MethodGet, "http://orders/", nil))
		if err == nil {
			_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
			resp.Body.Close()
		}
		if ctx.Err() != nil {
			t.Errorf("call did not end by itself: %v", err)
		}
		c.checkIdle(t)
	})
}
