//go:build linux || darwin

package httpmesh

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/lifecycle"
	"github.com/zerohop/zerohop/samehost"
)

// A server that leaves ends what is in flight on both its listeners, and takes nothing more.
func TestDrainEndsCallsOverBothListeners(t *testing.T) {
	dir := directory(t)
	begun, finish := make(chan string), make(chan struct{})
	h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half ")
		w.(http.Flusher).Flush()
		begun <- r.RemoteAddr
		<-finish
		io.WriteString(w, "done")
	}), HandlerOptions{Quiet: -1})
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := samehost.Listen(tcp, samehost.ListenConfig{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	ep := discovery.Endpoint{Addr: l.Addr().String(), Meta: l.Meta()}
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		server := h.Serving(&http.Server{Handler: h}, l)
		ended <- lifecycle.Run(ctx, lifecycle.Config{Servers: []lifecycle.Server{server}, Timeout: time.Hour})
	}()
	defer leave()
	var answers []*http.Response
	for _, sockets := range []samehost.Policy{{Directories: []string{dir}}, {}} {
		tr := client(t, open(t, zerohop.Config{Resolver: discovery.Static{"orders": {ep}}, Sockets: sockets}))
		resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodPost, "http://orders/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if from := <-begun; (from == "@") != sockets.Enabled() {
			t.Errorf("call from %q, over a socket: %t", from, sockets.Enabled())
		}
		answers = append(answers, resp)
	}
	leave()
	for conn, err := net.Dial("unix", ep.Meta[samehost.KeyPath]); err == nil; conn, err = net.Dial("unix", ep.Meta[samehost.KeyPath]) {
		conn.Close() // until it has begun
	}
	select {
	case err := <-ended:
		t.Errorf("Run() = %v while calls were in flight", err)
	default:
	}
	close(finish)
	for _, resp := range answers {
		if got, err := io.ReadAll(resp.Body); string(got) != "half done" || err != nil {
			t.Errorf("answer %q, %v, want all of it", got, err)
		}
		resp.Body.Close()
	}
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v", err)
	}
	if _, err := os.Lstat(ep.Meta[samehost.KeyPath]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if conn, err := net.Dial("tcp", ep.Addr); err == nil {
		conn.Close()
		t.Error("the server still takes connections")
	}
}
