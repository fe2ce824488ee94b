//go:build linux || darwin

package telemetry

import (
	"io"
	"net"
	"net/http"
	"os"
	"testing"

	"go.opentelemetry.io/otel/attribute"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/samehost"
)

func TestTelemetrySaysOverWhatCallsWent(t *testing.T) {
	dir, err := os.MkdirTemp("", "z")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := samehost.Listen(tcp, samehost.ListenConfig{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	s, done := &http.Server{Handler: h}, make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // it ends with Close
	}()
	t.Cleanup(func() { s.Close(); <-done })
	r := newRecorder(t)
	mesh := newMesh(t, zerohop.Config{
		Resolver: discovery.Static{
			"near": {{Addr: l.Addr().String(), Meta: l.Meta()}}, "far": {{Addr: l.Addr().String()}}, "here": {{Addr: "here.invalid:1"}},
		},
		Sockets: samehost.Policy{Directories: []string{dir}}, Hooks: r.hooks(t),
	})
	tr := httpmesh.NewTransport(mesh, &http.Transport{})
	t.Cleanup(tr.CloseIdleConnections)
	tr.Handlers = map[string]http.Handler{"here.invalid:1": h}
	for _, service := range []string{"near", "far", "here"} {
		get(t, &http.Client{Transport: tr}, t.Context(), "http://"+service+"/")
	}
	want := map[string]string{"near": "unix", "far": "-", "here": "inproc"}
	for _, span := range r.ended(t) {
		for _, kv := range span.Attributes() {
			if name := kv.Value.AsString(); kv.Key == serverAddress && span.Parent().IsValid() {
				spanHas(t, span, map[attribute.Key]string{transport: want[name]})
				delete(want, name)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("no attempts on %v", want)
	}
	tr.CloseIdleConnections()
	if err := os.Remove(l.Meta()[samehost.KeyPath]); err != nil {
		t.Fatal(err)
	}
	get(t, &http.Client{Transport: tr}, t.Context(), "http://near/") // over TCP
	got := r.instruments(t)
	for _, c := range []struct{ service, network string }{{"near", "unix"}, {"near", "tcp"}, {"far", "tcp"}} {
		if n := total(t, got["zerohop.connections"], service.String(c.service), transport.String(c.network)); n != 1 {
			t.Errorf("%d connections of %s over %s, want 1", n, c.service, c.network)
		}
	}
	if n := total(t, got["zerohop.connections"]); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
	if n := total(t, got["zerohop.socket.fallbacks"], service.String("near"), socketReason.String("gone")); n != 1 {
		t.Errorf("%d fall-backs because the socket was gone, want 1", n)
	}
}
