package httpmesh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// protocols runs a test over HTTP/1 and HTTP/2, each without TLS. start serves a handler and returns its URL and a client
// that speaks the protocol.
func protocols(t *testing.T, test func(t *testing.T, start func(http.Handler) (string, *http.Transport))) {
	for _, name := range []string{"HTTP/1", "HTTP/2"} {
		t.Run(name, func(t *testing.T) {
			p := new(http.Protocols)
			p.SetHTTP1(name == "HTTP/1")
			p.SetUnencryptedHTTP2(name == "HTTP/2")
			test(t, func(h http.Handler) (string, *http.Transport) {
				s := httptest.NewUnstartedServer(h)
				s.Config.Protocols = p
				s.Start()
				tr := &http.Transport{Protocols: p, DisableCompression: true}
				t.Cleanup(func() {
					tr.CloseIdleConnections()
					s.Close()
				})
				return s.URL, tr
			})
		})
	}
}

// abilities are what handlers find out about an http.ResponseWriter by assertion.
func abilities(w http.ResponseWriter) string {
	var list []string
	note := func(name string, ok bool) {
		if ok {
			list = append(list, name)
		}
	}
	_, ok := w.(http.Flusher)
	note("Flusher", ok)
	_, ok = w.(http.Hijacker)
	note("Hijacker", ok)
	_, ok = w.(http.Pusher)
	note("Pusher", ok)
	_, ok = w.(io.ReaderFrom)
	note("ReaderFrom", ok)
	_, ok = w.(io.StringWriter)
	note("StringWriter", ok)
	_, ok = w.(interface{ CloseNotify() <-chan bool })
	note("CloseNotifier", ok)
	return strings.Join(list, " ")
}

// controls are the errors of what an http.ResponseController can do.
func controls(w http.ResponseWriter) string {
	c := http.NewResponseController(w)
	return fmt.Sprint(c.SetReadDeadline(time.Now().Add(time.Hour)), c.SetWriteDeadline(time.Now().Add(time.Hour)),
		c.EnableFullDuplex(), c.Flush())
}

func TestHandlerKeepsTheAbilitiesOfTheWriter(t *testing.T) {
	protocols(t, func(t *testing.T, start func(http.Handler) (string, *http.Transport)) {
		look := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, abilities(w)+"; "+controls(w))
		})
		url, tr := start(look)
		resp, err := get(t.Context(), t, tr, url)
		want := read(t, resp, err)
		url, tr = start(NewHandler(look, HandlerOptions{}))
		resp, err = get(t.Context(), t, tr, url)
		if got := read(t, resp, err); got != want || !strings.Contains(want, "Flusher") {
			t.Errorf("behind a Handler: %q, want %q", got, want)
		}
	})
}

// Under writers of other packages, no ability is made up that matters.
func TestHandlerUnderOtherWriters(t *testing.T) {
	var got string
	h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = abilities(w) + "; " + controls(w)
	}), HandlerOptions{Load: func() LoadReport { return LoadReport{CPU: 1} }})
	req := httptest.NewRequest("GET", "/", nil)

	h.ServeHTTP(httptest.NewRecorder(), req)
	none := "feature not supported feature not supported feature not supported "
	if want := "Flusher StringWriter CloseNotifier; " + none + "<nil>"; got != want {
		t.Errorf("over a recorder: %q, want %q", got, want)
	}
	h.ServeHTTP(struct{ http.ResponseWriter }{httptest.NewRecorder()}, req)
	if want := "StringWriter; " + none + "feature not supported"; got != want {
		t.Errorf("over a bare writer: %q, want %q", got, want)
	}
	// http.ResponseController reaches through middleware that hides everything, and the header is complete then.
	w := httptest.NewRecorder()
	h.ServeHTTP(&middleware{w}, req)
	if want := "StringWriter; " + none + "<nil>"; got != want || w.Result().Header.Get(LoadHeader) == "" {
		t.Errorf("over middleware: %q, header %v, want %q", got, w.Result().Header, want)
	}
}

type middleware struct{ http.ResponseWriter }

func (m *middleware) Unwrap() http.ResponseWriter { return m.ResponseWriter }

func TestHandlerWithinATimeoutHandler(t *testing.T) {
	h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, abilities(w)) }), HandlerOptions{})
	s := serve(t, http.TimeoutHandler(h, time.Minute, "").ServeHTTP)
	resp, err := get(t.Context(), t, s.Client().Transport, s.URL)
	if got, want := read(t, resp, err), "StringWriter"; got != want {
		t.Errorf("abilities = %q, want %q", got, want)
	}
}

// Streams go on during a drain, which waits for them.
func TestEventStreamThroughHandler(t *testing.T) {
	protocols(t, func(t *testing.T, start func(http.Handler) (string, *http.Transport)) {
		next, gone, drained := make(chan string), make(chan struct{}), make(chan error, 1)
		h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(gone)
			w.Header().Set("Content-Type", "text/event-stream")
			for {
				select {
				case event := <-next:
					fmt.Fprintf(w, "data: %s\n\n", event)
					w.(http.Flusher).Flush()
				case <-r.Context().Done():
					return
				}
			}
		}), HandlerOptions{Load: func() LoadReport { return LoadReport{CPU: 0.5} }, Quiet: -1})
		url, tr := start(h)
		go func() { next <- "0" }()
		resp, err := get(t.Context(), t, tr, url)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get(LoadHeader); got != "TEXT cpu_utilization=0.5" {
			t.Errorf("%s = %q", LoadHeader, got)
		}
		lines := bufio.NewScanner(resp.Body)
		for i := range 5 {
			if i > 0 {
				next <- fmt.Sprint(i) // only after the one before has arrived
			}
			if lines.Scan(); lines.Text() != fmt.Sprintf("data: %d", i) {
				t.Fatalf("event %q, %v, want %d", lines.Text(), lines.Err(), i)
			}
			lines.Scan()
			if i == 2 {
				go func() { drained <- h.Drain(t.Context()) }()
				<-h.Draining()
			}
		}
		select {
		case err := <-drained:
			t.Errorf("Drain() = %v while there is a stream", err)
		default:
		}
		resp.Body.Close()
		<-gone
		if err := <-drained; err != nil {
			t.Errorf("Drain() = %v", err)
		}
	})
}

// Whoever opens a WebSocket has so much time for that, and not for all that is said over it.
func TestDeadlinesEndWithTheHandshake(t *testing.T) {
	s := serve(t, NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, limited := r.Context().Deadline()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n%s %v", r.Header.Get(TimeoutHeader), limited)
	}), HandlerOptions{}).ServeHTTP)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	req := request(ctx, t, "GET", "http://orders/", nil)
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}, TimeoutHeader: {"10000"}}
	resp, err := client(t, open(t, zerohop.Config{Resolver: source(addr(s))})).RoundTrip(req)
	if got := read(t, resp, err); resp.StatusCode != http.StatusSwitchingProtocols || got != "10000 false" {
		t.Errorf("status %d, timeout and deadline of the server: %q, want no deadline", resp.StatusCode, got)
	}
}

func TestHijackThroughHandler(t *testing.T) {
	done := make(chan struct{})
	h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		for {
			rw.Flush()
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			rw.WriteString(line)
		}
	}), HandlerOptions{Load: func() LoadReport { t.Error("the load of a hijacked connection is asked for"); return LoadReport{} }})
	s := serve(t, h.ServeHTTP)
	req := request(t.Context(), t, "GET", s.URL, nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := s.Client().Transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Connection") != "Upgrade" {
		t.Fatalf("status %d, header %v", resp.StatusCode, resp.Header)
	}
	conn := resp.Body.(io.ReadWriteCloser)
	echoed := bufio.NewReader(conn)
	for _, want := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(conn, want); err != nil {
			t.Fatal(err)
		}
		if got, err := echoed.ReadString('\n'); got != want || err != nil {
			t.Fatalf("echo = %q, %v, want %q", got, err, want)
		}
	}
	if got := h.InFlight(); got != 1 {
		t.Errorf("InFlight() = %d, want 1", got)
	}
	conn.Close()
	<-done
}

func TestInformationalAnswersAndTrailersThroughHandler(t *testing.T) {
	protocols(t, func(t *testing.T, start func(http.Handler) (string, *http.Transport)) {
		url, tr := start(NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusProcessing)
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Trailer", "Checksum")
			io.WriteString(w, "body")
			w.Header().Set("Checksum", "42")
			w.Header().Set(http.TrailerPrefix+"Late", "7")
		}), HandlerOptions{Load: func() LoadReport { return LoadReport{CPU: 1} }}))
		var hints []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(code, slices.Sorted(maps.Keys(h))))
				return nil
			},
		})
		resp, err := get(ctx, t, tr, url)
		body := read(t, resp, err)
		if want := []string{"102 [Link]", "103 [Link]"}; !slices.Equal(hints, want) {
			t.Errorf("informational answers = %v, want %v", hints, want)
		}
		if body != "body" || resp.Header.Get(LoadHeader) == "" || resp.Trailer.Get("Checksum") != "42" || resp.Trailer.Get("Late") != "7" {
			t.Errorf("body %q, header %v, trailer %v", body, resp.Header, resp.Trailer)
		}
	})
}

// spliced counts the bytes that reach connections by ReadFrom, which is how the kernel gets to copy files.
type spliced struct {
	net.Listener
	bytes atomic.Int64
}

func (s *spliced) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &splicedConn{c.(*net.TCPConn), s}, nil
}

type splicedConn struct {
	*net.TCPConn
	spliced *spliced
}

func (c *splicedConn) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.TCPConn.ReadFrom(r)
	c.spliced.bytes.Add(n)
	return n, err
}

func TestFilesThroughHandlerAreCopiedByTheKernel(t *testing.T) {
	const size = 1 << 20
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, name)
	}), HandlerOptions{}))
	count := &spliced{Listener: s.Listener}
	s.Listener = count
	s.Start()
	t.Cleanup(s.Close)
	resp, err := get(t.Context(), t, s.Client().Transport, s.URL)
	if got := read(t, resp, err); len(got) != size {
		t.Errorf("body of %d bytes, want %d", len(got), size)
	}
	s.Close() // and so the handler has returned, which counts
	if got := count.bytes.Load(); got < size-1024 {
		t.Errorf("%d bytes were copied by the connection itself, want almost %d", got, size)
	}
}

// hijackable is a writer of middleware that has nothing but the connection to offer.
type hijackable struct{ *httptest.ResponseRecorder }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrHijacked }

func TestHandlerReadsFromAnythingIntoAnyWriter(t *testing.T) {
	h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("body")); n != 4 || err != nil {
			t.Errorf("ReadFrom() = %d, %v", n, err)
		}
		if _, _, err := w.(http.Hijacker).Hijack(); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("Hijack() = %v, want %v", err, http.ErrHijacked)
		}
		select {
		case <-w.(interface{ CloseNotify() <-chan bool }).CloseNotify():
			t.Error("CloseNotify() notifies of nothing")
		default:
		}
	}), HandlerOptions{})
	w := httptest.NewRecorder()
	h.ServeHTTP(hijackable{w}, httptest.NewRequest("GET", "/", nil))
	if got := w.Body.String(); got != "body" {
		t.Errorf("body = %q", got)
	}
}

func TestPushThroughHandler(t *testing.T) {
	protocols(t, func(t *testing.T, start func(http.Handler) (string, *http.Transport)) {
		url, tr := start(NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if p, ok := w.(http.Pusher); ok {
				// The client of net/http wants none.
				if err := p.Push("/style.css", nil); !errors.Is(err, http.ErrNotSupported) {
					t.Errorf("Push() = %v, want %v", err, http.ErrNotSupported)
				}
			}
		}), HandlerOptions{}))
		resp, err := get(t.Context(), t, tr, url)
		read(t, resp, err)
	})
}
