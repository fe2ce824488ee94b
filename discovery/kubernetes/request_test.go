package kubernetes

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/kubeapi"
)

func TestAnswersThatAreNoList(t *testing.T) {
	long := strings.Repeat("x", 5000)
	answer := func(code int, object any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			send(w, object)
		}
	}
	text := func(code int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Retry-After", "7")
			w.Header().Set("Location", "https://elsewhere.test/")
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, tt := range map[string]struct {
		list, watch     http.HandlerFunc // nil: a good one
		refused, denied bool
		after           time.Duration
		says            string
	}{
		"forbidden":      {list: answer(403, status(403, "no role")), refused: true, denied: true, says: `permission denied: status 403 "no role"`},
		"unauthorized":   {list: answer(401, status(401, "who")), refused: true, denied: true, says: "permission denied: status 401"},
		"throttled":      {list: text(429, "text/plain", "slow down\n"), refused: true, after: 7 * time.Second, says: `status 429 "slow down"`},
		"server error":   {list: text(500, "text/html", long), refused: true, after: 7 * time.Second, says: `xxx..."`},
		"redirect":       {list: text(302, "text/html", ""), refused: true, after: 7 * time.Second, says: "redirects are not followed"},
		"not found":      {list: answer(404, status(404, "no such API")), refused: true, says: "no such API"},
		"no type":        {list: text(200, "", "{}"), says: "content type"},
		"HTML":           {list: text(200, "text/html", "<html>"), says: `content type "text/html" is neither`},
		"garbage":        {list: text(200, kubeapi.JSONType, "\x00{["), says: "answer of 3 bytes"},
		"bad protobuf":   {list: text(200, kubeapi.ProtobufType, "k8s\x00\xff\xff\xff"), says: "answer of 7 bytes"},
		"empty":          {list: text(200, kubeapi.JSONType, ""), says: "answer of 0 bytes"},
		"another object": {list: answer(200, slice("a", "192.0.2.1")), says: "EndpointSlice"},
		"unknown object": {list: text(200, kubeapi.JSONType, `{"kind":"Pod","apiVersion":"v1"}`), says: "Pod"},
		"status in 200":  {list: answer(200, status(500, "etcd")), refused: true, says: `status 500 "etcd"`},
		"too large":      {list: text(200, kubeapi.JSONType, `{"kind":"`+strings.Repeat("x", kubeapi.MaxAnswer)+`"}`), refused: true, after: 7 * time.Second, says: "larger than 16 MiB"},

		"throttled watch":       {watch: text(429, "text/plain", "slow"), refused: true, after: 7 * time.Second, says: "watch of"},
		"forbidden watch":       {watch: answer(403, status(403, "only list")), refused: true, denied: true, says: "only list"},
		"error in the stream":   {watch: func(w http.ResponseWriter, _ *http.Request) { sendEvent(w, watch.Error, status(500, "etcd")) }, refused: true, says: `status 500 "etcd"`},
		"garbage in the stream": {watch: text(200, kubeapi.JSONType, "\x00{["), says: "watch of"},
		"end within an event":   {watch: text(200, kubeapi.JSONType, `{"type":"ADDED"`), says: "unexpected EOF"},
		"type of an event":      {watch: text(200, kubeapi.JSONType, `{"type":"NOISE","object":{}}`), says: "NOISE"},
		"object of an event":    {watch: text(200, kubeapi.JSONType, `{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1"}}`), says: "Pod"},
		"endless event":         {watch: text(200, kubeapi.JSONType, `{"type":"`+strings.Repeat("x", kubeapi.MaxEvent)), refused: true, after: 7 * time.Second, says: "larger than"},
		"no port": {list: func(w http.ResponseWriter, _ *http.Request) {
			s := slice("a", "192.0.2.1")
			s.Ports = nil
			sendList(w, "1", s)
		}, refused: true, says: "no TCP ports"},
		"no port after a while": {watch: func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(http.StatusOK)
			time.Sleep(time.Minute)
			s := slice("a", "192.0.2.1")
			s.Ports = nil
			sendEvent(w, watch.Modified, s)
			<-req.Context().Done()
		}, refused: true, says: "no TCP ports"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := client(func(w http.ResponseWriter, req *http.Request) {
					switch {
					case watching(req) && tt.watch != nil:
						tt.watch(w, req)
					case watching(req):
						hang(w, req)
					case tt.list != nil:
						tt.list(w, req)
					default:
						sendList(w, "1", slice("a", "192.0.2.1"))
					}
				})
				c.api.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				sets, err := watchFor(t, time.Hour, Resolver{Client: c})
				if len(sets) > 1 || len(sets) > 0 && tt.list != nil {
					t.Errorf("sets %q", sets)
				}
				refused, ok := errors.AsType[*discovery.RefusedError](err)
				if ok != tt.refused || ok && (refused.Denied != tt.denied || refused.After != tt.after) {
					t.Errorf("Watch() = %#v, want refused %v, denied %v, after %v", err, tt.refused, tt.denied, tt.after)
				}
				if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), `"orders"`) || len(err.Error()) > 500 {
					t.Errorf("Watch() = %v, want %q and the service in it", err, tt.says)
				}
			})
		})
	}
}

// The token is read before each request, goes to the API server only and into no error.
func TestTokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	var got []string
	c := client(func(w http.ResponseWriter, req *http.Request) {
		got = append(got, req.Header.Get("Authorization"))
		w.WriteHeader(http.StatusForbidden)
	})
	c.api.TokenFile = file
	watch := func() error { return Resolver{Client: c}.Watch(t.Context(), "orders", nil) }
	if err := watch(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Watch() without a token = %v, want %v", err, os.ErrNotExist)
	}
	for _, token := range []string{"one", "two\n"} {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := watch(); err == nil || strings.Contains(err.Error(), strings.TrimSpace(token)) {
			t.Errorf("Watch() = %v, want an error without the token", err)
		}
	}
	compare(t, got, "Bearer one", "Bearer two")
}

func TestZoneOfNode(t *testing.T) {
	for name, tt := range map[string]struct {
		node, body, want, err string
	}{
		"label":     {"n", `{"metadata":{"labels":{"topology.kubernetes.io/zone":"a","failure-domain.beta.kubernetes.io/zone":"b"}}}`, "a", ""},
		"old label": {"n", `{"metadata":{"labels":{"failure-domain.beta.kubernetes.io/zone":"b"}}}`, "b", ""},
		"no label":  {"n", `{"metadata":{}}`, "", ""},
		"garbage":   {"n", `[`, "", `labels of node "n" at ` + serverAddr},
		"bad name":  {"../secrets", "", "", `"../secrets"`},
		"no name":   {"", "", "", "NODE_NAME"},
	} {
		t.Setenv("NODE_NAME", "")
		c := client(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path != "/api/v1/nodes/n" {
				t.Errorf("path %s", req.URL.Path)
			}
			_, _ = w.Write([]byte(tt.body))
		})
		got, err := Resolver{Client: c, NodeName: tt.node}.Zone(t.Context())
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: Zone() = %q, %v, want %q, %q", name, got, err, tt.want, tt.err)
		}
	}
	if _, err := (Resolver{}).Zone(t.Context()); !errors.Is(err, errNoClient) {
		t.Errorf("Zone() without a client = %v, want %v", err, errNoClient)
	}
}
