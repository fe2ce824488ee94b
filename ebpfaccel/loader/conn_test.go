//go:build linux

package loader

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/zerohop/zerohop/ebpfaccel"
)

func TestConnBehavesLikeOthers(t *testing.T) {
	for name, settings := range map[string]accelSettings{"default settings": defaults, "much change": churning} {
		t.Run(name, func(t *testing.T) {
			o := load(t, settings)
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				l, err := localListener()
				if err != nil {
					return nil, nil, nil, err
				}
				defer l.Close()
				client, err := ebpfaccel.DialContext(t.Context(), "tcp", l.Addr().String())
				if err != nil {
					return nil, nil, nil, err
				}
				server, err := l.Accept()
				return client, server, func() { client.Close(); server.Close() }, err
			})
			if c := counters(t, o); c.RedirectedBytes == 0 {
				t.Errorf("nothing was redirected: %+v", c)
			}
		})
	}
}

// A proxy that copies from one connection to the other is what splice stalls.
func TestProxiesCopyBothWays(t *testing.T) {
	o := load(t, defaults)
	back := listen(t, "127.0.0.1:0")
	front := listen(t, "127.0.0.1:0")
	var wg sync.WaitGroup
	defer wg.Wait()
	defer front.Close()
	wg.Go(func() {
		for {
			from, err := front.Accept()
			if err != nil {
				return
			}
			to, err := ebpfaccel.DialContext(t.Context(), "tcp", back.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			for _, c := range [][2]net.Conn{{from, to}, {to, from}} {
				wg.Go(func() {
					io.Copy(c[0], c[1])
					c[0].(interface{ CloseWrite() error }).CloseWrite()
				})
			}
		}
	})
	for range 20 {
		client, err := ebpfaccel.DialContext(t.Context(), "tcp", front.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := back.Accept()
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n < 100_000; n = n*3 + 1 {
			if err := call(client, server, n); err != nil {
				t.Fatal(err)
			}
		}
		client.Close()
		server.Close()
	}
	if c := counters(t, o); c.RedirectedBytes == 0 {
		t.Errorf("nothing was redirected: %+v", c)
	}
}

// Package os splices from what gives it a descriptor into a file.
func TestFilesTakeWhatArrives(t *testing.T) {
	load(t, defaults)
	client, server := pair(t)
	var s stream
	want := s.fill(make([]byte, 50_000))
	if _, err := client.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := client.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := io.Copy(f, server); err != nil || n != int64(len(want)) {
		t.Fatalf("copied %d, %v", n, err)
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
		t.Errorf("other bytes are in the file, %v", err)
	}
}

// serve runs an HTTP server and returns a client of it, both with accelerated connections.
func serve(t *testing.T, handler http.Handler, protocol func(*httptest.Server, *http.Transport)) (url string, client *http.Client) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Listener.Close()
	s.Listener = listen(t, "127.0.0.1:0")
	transport := &http.Transport{DialContext: ebpfaccel.DialContext, MaxIdleConnsPerHost: 16}
	protocol(s, transport)
	if s.URL == "" {
		s.Start()
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		s.Close()
	})
	return s.URL, &http.Client{Transport: transport, Timeout: patience}
}

func TestHTTPWorksOverAcceleratedConnections(t *testing.T) {
	encrypted := func(s *httptest.Server, tr *http.Transport, h2 bool) {
		s.EnableHTTP2 = h2
		s.StartTLS()
		tr.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		tr.ForceAttemptHTTP2 = h2
		if !h2 {
			tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
			tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		}
	}
	for _, test := range []struct {
		name     string
		major    int
		protocol func(*httptest.Server, *http.Transport)
	}{
		{"HTTP/1.1", 1, func(*httptest.Server, *http.Transport) {}},
		{"TLS", 1, func(s *httptest.Server, tr *http.Transport) { encrypted(s, tr, false) }},
		{"HTTP/2", 2, func(s *httptest.Server, tr *http.Transport) { encrypted(s, tr, true) }},
		{"HTTP/2 without TLS", 2, func(s *httptest.Server, tr *http.Transport) {
			s.Config.Protocols, tr.Protocols = new(http.Protocols), new(http.Protocols)
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			tr.Protocols.SetUnencryptedHTTP2(true)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := load(t, defaults)
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					panic(http.ErrAbortHandler)
				}
				w.Write(body)
			})
			address, client := serve(t, handler, test.protocol)
			target, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			// And the same through a reverse proxy.
			proxy := httputil.NewSingleHostReverseProxy(target)
			proxy.Transport = client.Transport
			proxyAddress, proxyClient := serve(t, proxy, test.protocol)

			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					for n := 1; n < 300_000; n = n*3 + i {
						address, client := address, client
						if i%2 == 1 {
							address, client = proxyAddress, proxyClient
						}
						if err := post(client, address, test.major, n); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			if c := counters(t, o); c.RedirectedBytes == 0 {
				t.Errorf("nothing was redirected: %+v", c)
			}
		})
	}
}

func post(client *http.Client, address string, major, n int) error {
	s := stream{seed: uint64(n)}
	body := s.fill(make([]byte, n))
	resp, err := client.Post(address, "", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.ProtoMajor != major {
		return fmt.Errorf("the answer is %s, want major version %d", resp.Proto, major)
	}
	if !bytes.Equal(got, body) {
		return errors.New("other bytes came back than were sent")
	}
	return nil
}
