package consul_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/config/consul"
	"github.com/zerohop/zerohop/discovery"
	discoveryconsul "github.com/zerohop/zerohop/discovery/consul"
)

const secret = "0f6f8c9e-secret"

// inProcess serves requests by calling a handler, so that tests in a bubble need no sockets.
type inProcess http.HandlerFunc

func (p inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(req.Context())
	trace.GetConn(req.URL.Host)
	for key, values := range req.Header {
		trace.WroteHeaderField(key, values)
	}
	w := httptest.NewRecorder()
	p(w, req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// fakeClient returns a client of an agent that handler is.
func fakeClient(t *testing.T, handler http.HandlerFunc) *api.Client {
	t.Helper()
	c, err := discoveryconsul.NewClient(api.Config{
		Address: "consul.test:8500", Token: secret, HttpClient: &http.Client{Transport: inProcess(handler)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answer sends a value that was changed at an index.
func answer(w http.ResponseWriter, index int, value string) {
	w.Header().Set("X-Consul-Index", strconv.Itoa(index))
	fmt.Fprintf(w, `[{"Key":%q,"ModifyIndex":%d,"Value":"%s"}]`, fakeKey, index, base64.StdEncoding.EncodeToString([]byte(value)))
}

const fakeKey = "mesh/orders.yaml"

func TestAnswersThatAreNoDocument(t *testing.T) {
	text := func(code int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, test := range map[string]struct {
		handler         http.HandlerFunc
		refused, denied bool
		after           time.Duration
		says            string
	}{
		"denied":       {text(403, "no key:read"), true, true, 0, "permission denied: status 403"},
		"failing":      {text(500, "No cluster leader", "X-Consul-Index", "5"), true, false, 0, "No cluster leader"},
		"busy":         {text(429, "", "Retry-After", "7"), true, false, 7 * time.Second, "status 429"},
		"redirected":   {text(301, "", "Location", "http://other.test/"), true, false, 0, "redirects are not followed"},
		"garbage":      {text(200, "<html>", "X-Consul-Index", "5"), false, false, 0, "invalid character"},
		"no base64":    {text(200, `[{"Key":"mesh/orders.yaml","Value":"#"}]`, "X-Consul-Index", "5"), false, false, 0, "base64"},
		"no index":     {text(200, `[{"Key":"mesh/orders.yaml","Value":"eA=="}]`), false, false, 0, "no index"},
		"no key there": {text(404, "page not found"), false, false, 0, "no index"},
		"another key":  {text(200, `[{"Key":"mesh/other","Value":"eA=="}]`, "X-Consul-Index", "5"), false, false, 0, "another key"},
		"endless":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte{' '}, 6<<20)) }, true, false, 0, "larger than 4 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			s := consul.Source{Client: fakeClient(t, test.handler), Key: fakeKey}
			err := s.Watch(t.Context(), func(d []byte) { t.Errorf("a document of %d bytes", len(d)) })
			refused, ok := errors.AsType[*discovery.RefusedError](err)
			if ok != test.refused || ok && (refused.Denied != test.denied || refused.After != test.after) {
				t.Errorf("Watch() = %#v, want refused %v, denied %v, after %v", err, test.refused, test.denied, test.after)
			}
			for _, want := range []string{test.says, fakeKey, "consul.test:8500"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Watch() = %v, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("Watch() = %v, which has the token", err)
			}
		})
	}
}

// An agent that answers blocking queries at once is asked once a second.
func TestPaceOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		c := fakeClient(t, func(w http.ResponseWriter, _ *http.Request) { requests++; answer(w, requests, fmt.Sprint(requests)) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute-time.Millisecond)
		defer cancel()
		documents := 0
		_ = consul.Source{Client: c, Key: fakeKey}.Watch(ctx, func([]byte) { documents++ })
		if want := 62; requests != want || documents != want {
			t.Errorf("%d requests and %d documents in a minute, want %d", requests, documents, want)
		}
	})
}

func TestFrozenAgentIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		c := fakeClient(t, func(w http.ResponseWriter, req *http.Request) {
			if requests++; requests > 1 {
				<-req.Context().Done()
				return
			}
			answer(w, 5, "a")
		})
		start := time.Now()
		err := consul.Source{Client: c, Key: fakeKey}.Watch(t.Context(), func([]byte) {})
		if got := time.Since(start); got > 45*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Watch() = %v after %v, want %v within 45s", err, got, context.DeadlineExceeded)
		}
	})
}

// A store that was restored has lower indexes; what it has is told, and the next request does not wait for an index of before.
func TestIndexGoesBackwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		c := fakeClient(t, func(w http.ResponseWriter, req *http.Request) {
			asked = append(asked, req.URL.Query().Get("index"))
			if _, ok := req.URL.Query()["consistent"]; !ok {
				t.Error("a request that is not consistent")
			}
			switch len(asked) {
			case 1:
				answer(w, 50, "old")
			case 2:
				answer(w, 7, "restored")
			case 3:
				answer(w, 7, "restored")
			case 4:
				w.Header().Set("X-Consul-Index", "9")
				w.WriteHeader(http.StatusNotFound)
			case 5:
				answer(w, 10, "")
			default:
				<-req.Context().Done()
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var got []string
		_ = consul.Source{Client: c, Key: fakeKey}.Watch(ctx, func(d []byte) { got = append(got, fmt.Sprintf("%s %v", d, d == nil)) })
		if want := []string{"old false", "restored false", " true", " false"}; !slices.Equal(got, want) {
			t.Errorf("documents %q, want %q", got, want)
		}
		if want := []string{"", "50", "", "7", "9", "10"}; !slices.Equal(asked, want) {
			t.Errorf("asked for indexes %q, want %q", asked, want)
		}
	})
}

func TestSourceThatCannotWork(t *testing.T) {
	c := fakeClient(t, func(_ http.ResponseWriter, req *http.Request) { t.Errorf("request for %s", req.URL) })
	for says, s := range map[string]consul.Source{
		"Client is nil":        {Key: "a"},
		"Source.Key is empty":  {Client: c},
		`"../agent/self"`:      {Client: c, Key: "../agent/self"},
		`"a//b"`:               {Client: c, Key: "a//b"},
		"consul: token file: ": {Client: c, Key: "a", TokenFile: t.TempDir() + "/token"},
	} {
		if err := s.Watch(t.Context(), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Watch() = %v, want %q", err, says)
		}
	}
}
