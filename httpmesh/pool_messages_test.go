package httpmesh

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

var quiet = log.New(io.Discard, "", 0)

// each runs a test over both protocols and a real socket.
func each(t *testing.T, h http.HandlerFunc, test func(t *testing.T, p *pool)) {
	overBoth(t, func(t *testing.T, protocols *http.Protocols) {
		s, seen := watchedOver(t, protocols, h)
		p := poolTo(t, &http.Transport{Protocols: protocols, ExpectContinueTimeout: 5 * time.Second}, addr(s), "http://orders/", zerohop.Connect{Timeout: time.Second})
		test(t, p)
		if got := seen.made.Load(); got != 1 {
			t.Errorf("%d connections were made, want 1", got)
		}
	})
}

func TestInformationalAnswersAndTrailers(t *testing.T) {
	each(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "Checksum")
		data, _ := io.ReadAll(r.Body)
		w.Write(data)
		w.Header().Set("Checksum", r.Trailer.Get("Sum"))
	}, func(t *testing.T, p *pool) {
		for range 3 {
			var hints []int
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { hints = append(hints, code); return nil },
			})
			req := request(ctx, t, "POST", "http://orders/", io.MultiReader(strings.NewReader("body")))
			req.Trailer = http.Header{"Sum": {"42"}}
			resp, way, err := p.send(req)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(resp.Body)
			way.end()
			if string(data) != "body" || err != nil || resp.Trailer.Get("Checksum") != "42" || fmt.Sprint(hints) != "[103]" {
				t.Errorf("body %q, %v, trailer %v, hints %v", data, err, resp.Trailer, hints)
			}
		}
	})
}

func TestExpectContinue(t *testing.T) {
	each(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		io.Copy(w, r.Body)
	}, func(t *testing.T, p *pool) {
		for range 2 {
			req := request(t.Context(), t, "POST", "http://orders/", strings.NewReader("body"))
			req.Header.Set("Expect", "100-continue")
			if got, _, err := travel(p, req); got != "body" || err != nil {
				t.Errorf("answer %q, %v", got, err)
			}
		}
		start := time.Now()
		req := request(t.Context(), t, "POST", "http://orders/no", strings.NewReader("body"))
		req.Header.Set("Expect", "100-continue")
		resp, way, err := p.send(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		way.end()
		if resp.StatusCode != http.StatusExpectationFailed || time.Since(start) > 4*time.Second {
			t.Errorf("status %d after %v", resp.StatusCode, time.Since(start))
		}
	})
}

func TestAnswersWithoutBodies(t *testing.T) {
	each(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		if r.Method == "GET" {
			w.Header().Del("Content-Length")
			w.WriteHeader(http.StatusNoContent)
		}
	}, func(t *testing.T, p *pool) {
		for range 10 {
			for _, method := range []string{"HEAD", "GET"} {
				if got, _, err := travel(p, request(t.Context(), t, method, "http://orders/", nil)); got != "" || err != nil {
					t.Errorf("%s: %q, %v", method, got, err)
				}
			}
		}
	})
}

// A tunnel belongs to its caller: the pool neither counts it nor closes it.
func TestTunnelsLeaveThePool(t *testing.T) {
	l := raw(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, r)
	})
	p := poolTo(t, &http.Transport{MaxConnsPerHost: 1}, l, "http://orders/", zerohop.Connect{Timeout: time.Second})
	for range 2 {
		req := request(t.Context(), t, "GET", "http://orders/", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, way, err := p.send(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		way.end()
		p.release()
		tunnel := resp.Body.(io.ReadWriter)
		io.WriteString(tunnel, "hello\n")
		if got, err := bufio.NewReader(tunnel).ReadString('\n'); got != "hello\n" {
			t.Errorf("tunnel echoed %q, %v", got, err)
		}
		// The server sees the end of what it gets, and may go on to send.
		if err := resp.Body.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Errorf("CloseWrite() = %v", err)
		}
		if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
			t.Errorf("tunnel ended with %q, %v", rest, err)
		}
	}
	if p.held() != 0 {
		t.Errorf("%d connections are counted", p.held())
	}
}

func TestConnect(t *testing.T) {
	l := raw(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil || req.Method != "CONNECT" || req.RequestURI != "db:5432" {
			t.Errorf("request %+v, %v", req, err)
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		line, _ := r.ReadString('\n')
		io.WriteString(c, "echo "+line)
	})
	p := poolTo(t, &http.Transport{}, l, "http://orders/", zerohop.Connect{Timeout: time.Second})
	ours, theirs := io.Pipe()
	defer theirs.Close()
	req := request(t.Context(), t, "CONNECT", "http://orders/", ours)
	req.URL.Opaque = "db:5432"
	req.Host = "db:5432"
	req.ContentLength = -1
	resp, way, err := p.send(req)
	if err != nil {
		t.Fatal(err)
	}
	go io.WriteString(theirs, "hello\n")
	if got, err := bufio.NewReader(resp.Body).ReadString('\n'); got != "echo hello\n" {
		t.Errorf("tunnel answered %q, %v", got, err)
	}
	resp.Body.Close()
	way.end()
}

// A connection that is counted can do what it could before.
func TestCountedConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	inner, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	var seen traffic
	c := counted(inner, &seen)
	defer c.Close()
	if _, ok := c.(syscall.Conn); !ok {
		t.Error("the connection is no syscall.Conn any more")
	}
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := c.(io.ReaderFrom).ReadFrom(f); n != 10000 || err != nil {
		t.Errorf("ReadFrom() = %d, %v", n, err)
	}
	fmt.Fprint(c, "x")
	fmt.Fprint(far, "yy")
	io.ReadFull(c, make([]byte, 2))
	if seen.written.Load() != 10001 || seen.read.Load() != 2 {
		t.Errorf("wrote %d, read %d", seen.written.Load(), seen.read.Load())
	}

	ours, theirs := net.Pipe()
	defer theirs.Close()
	c = counted(ours, &seen)
	defer c.Close()
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("CloseWrite() of a pipe = %v", err)
	}
	c = counted(struct{ net.Conn }{inner}, &seen)
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("CloseWrite() = %v", err)
	}
	c = counted(half{inner}, &seen)
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Errorf("CloseWrite() = %v", err)
	}
}

// half is a connection whose sides end one by one, and no TCP connection.
type half struct{ net.Conn }

func (half) CloseWrite() error { return nil }
