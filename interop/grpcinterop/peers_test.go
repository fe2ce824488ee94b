package grpcinterop

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/zerohop/zerohop"
)

// behindHTTP is a *grpc.Server behind net/http, which speaks HTTP/2 in its place.
type behindHTTP struct {
	http *http.Server
	grpc *grpc.Server
}

// newBehindHTTP returns how to put a *grpc.Server behind net/http.
func newBehindHTTP(w wire) func(*grpc.Server) server {
	return func(g *grpc.Server) server {
		s := behindHTTP{&http.Server{Handler: g, Protocols: new(http.Protocols)}, g}
		if w.tls != nil {
			s.http.TLSConfig = w.tls.Clone()
			s.http.Protocols.SetHTTP2(true)
		} else {
			s.http.Protocols.SetUnencryptedHTTP2(true)
		}
		return s
	}
}

func (s behindHTTP) Serve(l net.Listener) error {
	if s.http.TLSConfig != nil {
		return s.http.ServeTLS(l, "", "")
	}
	return s.http.Serve(l)
}

func (s behindHTTP) Stop() {
	_ = s.http.Close() // what it fails to close is closed
	s.grpc.Stop()      // waits for handlers
}

func (s behindHTTP) GracefulStop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = s.http.Shutdown(ctx) // what has not ended by then is cut
	s.Stop()
}

// TestCasesBehindHTTPServer runs the cases against servers that take gRPC's calls as handlers of net/http, while one
// restarts.
func TestCasesBehindHTTPServer(t *testing.T) {
	for _, w := range wires(t) {
		t.Run(w.name, func(t *testing.T) {
			front := newBehindHTTP(w)
			b := setUpOf(t, w, zerohop.Policy{}, serveBehind(t, front), serveBehind(t, front), serveBehind(t, front))
			b.run(t, cases(), b.soaks(t), (*node).drain, func(ctx context.Context, c testCase) error {
				_, err := b.attempt(ctx, c)
				return err
			})
		})
	}
}
