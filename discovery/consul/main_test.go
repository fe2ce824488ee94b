package consul

import (
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const agentAddr = "consul.test:8500"

// inProcess serves requests by calling a handler, so that tests in a bubble need no sockets.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil {
		trace.GetConn(req.URL.Host)
		for key, values := range req.Header {
			trace.WroteHeaderField(key, values)
		}
	}
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// client returns a client of the agent at agentAddr, which handler is.
func client(t testing.TB, handler http.HandlerFunc) *api.Client {
	t.Helper()
	return clientOf(t, api.Config{HttpClient: &http.Client{Transport: inProcess{handler}}})
}

func clientOf(t testing.TB, config api.Config) *api.Client {
	t.Helper()
	if config.Address == "" {
		config.Address = agentAddr
	}
	c, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func configOf(transport http.RoundTripper, token string) api.Config {
	return api.Config{HttpClient: &http.Client{Transport: transport}, Token: token}
}
