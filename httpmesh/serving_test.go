package httpmesh

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"golang.org/x/net/http2"

	"github.com/zerohop/zerohop/lifecycle"
)

// A server that is set up for HTTP/2 has a TLSConfig, but no certificate.
func TestServingUsesTLSWhereThereIsACertificate(t *testing.T) {
	secure := httptest.NewUnstartedServer(nil)
	secure.StartTLS()
	certificates := secure.TLS.Certificates
	secure.Close()
	for _, scheme := range []string{"http", "https"} {
		h := NewHandler(http.NotFoundHandler(), HandlerOptions{Quiet: -1})
		server := &http.Server{Handler: h}
		//lint:ignore SA1019 servers that speak HTTP/2 by it are still about
		if err := http2.ConfigureServer(server, nil); err != nil {
			t.Fatal(err)
		}
		if scheme == "https" {
			server.TLSConfig.Certificates = certificates
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- lifecycle.Run(ctx, lifecycle.Config{Servers: []lifecycle.Server{h.Serving(server, l)}})
		}()
		resp, err := secure.Client().Get(scheme + "://" + l.Addr().String())
		if err != nil {
			t.Errorf("%s: %v", scheme, err)
		} else {
			resp.Body.Close()
		}
		secure.Client().CloseIdleConnections()
		end()
		if err := <-done; err != nil {
			t.Errorf("%s: Run() = %v", scheme, err)
		}
	}
}
