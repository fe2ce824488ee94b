package consul

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/consulapi"
)

// endless answers with a JSON list that has no end.
type endless struct{ read int }

func (e *endless) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(e)}, nil
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	if e.read == 0 {
		p[0] = '['
	}
	e.read += len(p)
	return len(p), nil
}

func TestClientCutsEndlessAnswers(t *testing.T) {
	t.Parallel()
	body := new(endless)
	c := clientOf(t, configOf(body, ""))
	err := Resolver{Client: c}.Watch(t.Context(), "orders", ignore)
	if _, ok := errors.AsType[*discovery.RefusedError](err); !ok || !errors.Is(err, consulapi.ErrTooLarge) {
		t.Errorf("Watch() = %v, want a RefusedError with %v", err, consulapi.ErrTooLarge)
	}
	// The decoder doubles its buffer, so the last read may be large.
	if most := 3 * consulapi.MaxAnswer; body.read > most {
		t.Errorf("%d bytes were read, want at most %d", body.read, most)
	}
}

func TestClientNeverTakesTheTokenElsewhere(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		t.Errorf("request of another host, with token %q", req.Header.Get("X-Consul-Token"))
	}))
	defer other.Close()
	agent := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer agent.Close()
	transport := &http.Transport{DisableKeepAlives: true}
	c := clientOf(t, api.Config{Address: agent.URL, Transport: transport, Token: "secret"})
	err := Resolver{Client: c}.Watch(t.Context(), "orders", ignore)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Watch() = %v, want an error without the token", err)
	}
}

func TestClientLeavesTheGivenOneAlone(t *testing.T) {
	own := &http.Client{Transport: inProcess{}}
	clientOf(t, api.Config{HttpClient: own})
	if own.CheckRedirect != nil || own.Transport != (inProcess{}) {
		t.Errorf("the HTTP client of the caller was changed: %v", own)
	}
	clientOf(t, api.Config{HttpClient: &http.Client{}}) // without a transport
}

func TestClientVerifiesTheAgent(t *testing.T) {
	agent := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		respond(w, "5", instances(1))
	}))
	agent.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that must fail
	agent.StartTLS()
	defer agent.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: agent.Certificate().Raw})
	for name, config := range map[string]api.TLSConfig{"known": {CAPem: ca}, "unknown": {}} {
		ctx, cancel := context.WithCancel(t.Context())
		c := clientOf(t, api.Config{Address: agent.URL, TLSConfig: config, Transport: &http.Transport{DisableKeepAlives: true}})
		found := false
		err := Resolver{Client: c}.Watch(ctx, "orders", func([]discovery.Endpoint) { found = true; cancel() })
		cancel()
		_, got := errors.AsType[x509.UnknownAuthorityError](err)
		if want := name == "unknown"; got != want || found == want {
			t.Errorf("%s authority: found is %v, error %v", name, found, err)
		}
	}
}

func TestClientReportsBadConfigs(t *testing.T) {
	if _, err := NewClient(api.Config{Address: "gopher://consul.test"}); err == nil || !strings.Contains(err.Error(), "consul.test") {
		t.Errorf("NewClient() = %v, want an error that names the address", err)
	}
}

func TestErrorsNameTheAgent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	socket := filepath.Join(t.TempDir(), "no.sock")
	plain := func(addr string) *api.Client {
		c, err := api.NewClient(&api.Config{Address: addr})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for addr, c := range map[string]*api.Client{
		closed:           clientOf(t, api.Config{Address: closed}),
		closed + " too":  plain(closed),
		socket:           clientOf(t, api.Config{Address: "unix://" + socket}),
		"localhost":      plain("unix://" + socket),
		"silent.invalid": clientOf(t, api.Config{Address: "silent.invalid", HttpClient: &http.Client{Transport: broken{}}}),
	} {
		err := Resolver{Client: c}.Watch(t.Context(), "orders", ignore)
		if err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(addr, " too")) {
			t.Errorf("Watch() = %v, want an error that names %s", err, addr)
		}
		if _, ok := errors.AsType[*discovery.RefusedError](err); ok {
			t.Errorf("Watch() = %v: nobody refused", err)
		}
	}
}

// broken fails and calls no hooks.
type broken struct{}

func (broken) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("broken") }

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"5":                             5 * time.Second,
		"61":                            time.Minute,
		"-5":                            0,
		"1.5":                           0,
		"99999999999999999999":          0,
		"soon":                          0,
		"Fri, 01 May 2026 12:00:20 GMT": 20 * time.Second,
		"Fri, 01 May 2026 13:00:00 GMT": time.Minute,
		"Fri, 01 May 2026 11:00:00 GMT": 0,
	} {
		if got := consulapi.RetryAfter(value, now); got != want {
			t.Errorf("consulapi.RetryAfter(%q) = %v, want %v", value, got, want)
		}
	}
}
