package httpmesh

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"github.com/zerohop/zerohop"
)

// Servers of gRPC close connections on which they are asked too often whether they live.
func TestSilentStreamOfGRPCIsLeftInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := rpc.NewServer(rpc.UnknownServiceHandler(func(_ any, stream rpc.ServerStream) error {
			if err := stream.SendHeader(metadata.Pairs("began", "1")); err != nil {
				return err
			}
			time.Sleep(time.Hour)
			return nil
		}))
		l := bufconn.Listen(1 << 16)
		go s.Serve(l)
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return l.DialContext(ctx) }
		m := open(t, zerohop.Config{Resolver: fakes(1)})
		tr := NewTransport(m, &http.Transport{Protocols: plainHTTP2(), DialContext: dial})
		req := request(t.Context(), t, "POST", "http://orders/shop.Orders/Watch", strings.NewReader("\x00\x00\x00\x00\x00"))
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("TE", "trailers")
		resp, err := tr.RoundTrip(req)
		if err != nil || resp.Header.Get("Began") != "1" {
			t.Fatalf("RoundTrip() = %v, %v", resp, err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if got := resp.Trailer.Get("Grpc-Status"); err != nil || got != "0" {
			t.Errorf("the stream ended with %v and status %q, want 0", err, got)
		}
		m.Close()
		s.Stop()
		tr.CloseIdleConnections()
		time.Sleep(10 * time.Second) // net/http keeps timers of connections for a while
	})
}

func TestKindsOfConnections(t *testing.T) {
	for _, c := range []struct {
		url, contentType, upgrade string
		want                      kind
	}{
		{"http://orders/", "", "", anyKind},
		{"http://orders/", "", "websocket", anyKind},
		{"https://orders/", "", "websocket", upgrade},
		{"https://orders/", "application/grpc+proto", "", forGRPC},
		{"https://orders/", "application/grpc-web", "", anyKind},
		{"https://orders/", "application/connect+proto", "", anyKind},
	} {
		req := request(t.Context(), t, "POST", c.url, nil)
		req.Header.Set("Content-Type", c.contentType)
		if c.upgrade != "" {
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", c.upgrade)
		}
		if got := kindOf(protocolOf(req), req); got != c.want {
			t.Errorf("%+v: kind %d", c, got)
		}
	}
}
