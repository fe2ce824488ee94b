//go:build linux || darwin

package httpmesh

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/samehost"
)

// overSocket runs a test with a handler that is reached over a socket alone, as the service at url, for each protocol.
func overSocket(t *testing.T, h http.HandlerFunc, f func(t *testing.T, tr *Transport, url string, version int)) {
	for _, c := range []struct {
		name      string
		version   int
		encrypted bool
	}{{"HTTP/1", 1, false}, {"HTTP/1 with TLS", 1, true}, {"HTTP/2", 2, false}, {"HTTP/2 with TLS", 2, true}} {
		t.Run(c.name, func(t *testing.T) {
			dir := directory(t)
			url, p := "http://example.com/", new(http.Protocols)
			p.SetHTTP1(c.version == 1)
			p.SetHTTP2(c.version == 2 && c.encrypted)
			p.SetUnencryptedHTTP2(c.version == 2 && !c.encrypted)
			s := beside(t, dir, h, func(s *httptest.Server) {
				s.Config.Protocols = p
				if c.encrypted {
					url, s.EnableHTTP2 = "https://example.com/", c.version == 2
					s.StartTLS()
				} else {
					s.Start()
				}
			})
			base := &http.Transport{Protocols: p, DisableCompression: true}
			if c.encrypted {
				base.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
				base.TLSClientConfig.NextProtos = nil
			}
			var over networks
			m := open(t, zerohop.Config{
				Resolver: discovery.Static{"example.com": {s.endpoint()}}, Sockets: samehost.Policy{Directories: []string{dir}},
				Spec: zerohop.Spec{Services: map[string]zerohop.Policy{"example.com": {}}}, Hooks: over.hooks(),
			})
			tr := NewTransport(m, base)
			t.Cleanup(tr.CloseIdleConnections)
			f(t, tr, url, c.version)
			if over[zerohop.NetworkTCP].Load() > 0 || s.tcp.Load() > 0 || s.unix.Load() == 0 {
				t.Errorf("%d attempts and %d connections over TCP, %d connections over the socket",
					over[zerohop.NetworkTCP].Load(), s.tcp.Load(), s.unix.Load())
			}
		})
	}
}

// Both bodies are under way at once, with trailers after them.
func TestStreamsGoBothWaysOverSockets(t *testing.T) {
	overSocket(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		w.(http.Flusher).Flush()
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Errorf("echo: %v", err)
		}
		w.Header().Set("X-Sum", r.Trailer.Get("X-Sum"))
	}, func(t *testing.T, tr *Transport, url string, version int) {
		const size = 1 << 20
		var seed [32]byte
		sent, got := sha256.New(), sha256.New()
		source := io.TeeReader(io.LimitReader(rand.NewChaCha8(seed), size), sent)
		req := request(t.Context(), t, http.MethodPost, url, nil)
		req.Trailer = http.Header{"X-Sum": nil}
		req.Body = io.NopCloser(readFunc(func(p []byte) (int, error) {
			n, err := source.Read(p)
			if err == io.EOF {
				req.Trailer.Set("X-Sum", fmt.Sprintf("%x", sent.Sum(nil)))
			}
			return n, err
		}))
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(got, resp.Body); n != size || err != nil {
			t.Errorf("%d bytes came back, %v, want %d", n, err, size)
		}
		want := fmt.Sprintf("%x", got.Sum(nil))
		if sum := resp.Trailer.Get("X-Sum"); sum != want || resp.ProtoMajor != version {
			t.Errorf("HTTP/%d trailer %q, want HTTP/%d and that of what came back, %q", resp.ProtoMajor, sum, version, want)
		}
	})
}

// Events come one by one, and the server learns when nobody listens any more.
func TestEventsComeOverSocketsUntilTheCallerLeaves(t *testing.T) {
	next, gone := make(chan string), make(chan error)
	overSocket(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for {
			select {
			case e := <-next:
				fmt.Fprintf(w, "data: %s\n\n", e)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				gone <- r.Context().Err()
				return
			}
		}
	}, func(t *testing.T, tr *Transport, url string, _ int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		resp, err := tr.RoundTrip(request(ctx, t, http.MethodGet, url, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		for _, e := range []string{"a", "b", "c"} {
			next <- e
			if got, err := lines.ReadString('\n'); got != "data: "+e+"\n" || err != nil {
				t.Errorf("event %q, %v, want %q", got, err, e)
			}
			lines.ReadString('\n')
		}
		cancel()
		if _, err := lines.ReadString('\n'); !errors.Is(err, context.Canceled) {
			t.Errorf("Read() = %v, want %v", err, context.Canceled)
		}
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler saw %v, want %v", err, context.Canceled)
		}
	})
}

// An upgrade, as WebSocket makes it, is a tunnel through the socket.
func TestUpgradesGoOverSockets(t *testing.T) {
	overSocket(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			io.WriteString(w, "no upgrade")
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, rw)
	}, func(t *testing.T, tr *Transport, url string, version int) {
		req := request(t.Context(), t, http.MethodGet, url, nil)
		if version == 2 { // knows no upgrades: an ordinary request is all there is to see
			if got := ask(t, tr, url); got != "no upgrade" {
				t.Errorf("answer %q", got)
			}
			return
		}
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		tunnel, ok := resp.Body.(io.ReadWriter)
		if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
			t.Fatalf("answer %s, a tunnel: %t", resp.Status, ok)
		}
		payload := strings.Repeat("0123456789abcdef", 16<<10)
		done := make(chan error)
		go func() {
			_, err := io.WriteString(tunnel, payload)
			done <- err
		}()
		got := make([]byte, len(payload))
		if n, err := io.ReadFull(tunnel, got); err != nil || string(got) != payload {
			t.Errorf("%d bytes came back, %v, not those that were sent", n, err)
		}
		if err := <-done; err != nil {
			t.Errorf("Write() = %v", err)
		}
	})
}
