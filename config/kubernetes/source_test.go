package kubernetes_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"github.com/zerohop/zerohop/config/kubernetes"
	"github.com/zerohop/zerohop/discovery"
	discoverykubernetes "github.com/zerohop/zerohop/discovery/kubernetes"
)

// inProcess answers requests without sockets, so that tests can be in a bubble.
type inProcess func(req *http.Request) (status int, body io.Reader)

func (p inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	status, body := p(req)
	header := http.Header{"Content-Type": {"application/json"}}
	return &http.Response{StatusCode: status, Header: header, ProtoMajor: 2, Body: io.NopCloser(body), Request: req}, nil
}

func fakeSource(t *testing.T, server inProcess) kubernetes.Source {
	t.Helper()
	c, err := discoverykubernetes.NewClient(discoverykubernetes.ClientConfig{
		REST: &rest.Config{Host: "https://kube.test:6443", BearerToken: "t-secret", Transport: server},
	})
	if err != nil {
		t.Fatal(err)
	}
	return kubernetes.Source{Client: c, Namespace: "shop", Name: "mesh", Key: "mesh.yaml"}
}

// hung is the body of a stream in which nothing happens.
type hung struct{ context.Context }

func (h hung) Read([]byte) (int, error) { <-h.Done(); return 0, h.Err() }

const listed = `{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[%s]}`

func object(namespace, name, document string) string {
	return fmt.Sprintf(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"namespace":%q,"name":%q,"resourceVersion":"6"},"data":{"mesh.yaml":"%s"}}`,
		namespace, name, document)
}

func event(kind, object string) string {
	return fmt.Sprintf(`{"type":%q,"object":%s}`, kind, object) + "\n"
}

// A server that knows no field selectors sends all, and one whose history is gone says so; neither tells anything new.
func TestOtherObjectsAndLostHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests []string
		mine, others := object("shop", "mesh", "a"), object("other", "mesh", "x")+","+object("shop", "other", "y")
		s := fakeSource(t, func(req *http.Request) (int, io.Reader) {
			q := req.URL.Query()
			if got, want := req.URL.Path+" "+q.Get("fieldSelector"), "/api/v1/namespaces/shop/configmaps metadata.name=mesh"; got != want {
				t.Errorf("request for %s, want %s", got, want)
			}
			requests = append(requests, q.Get("watch")+q.Get("resourceVersion"))
			switch {
			case q.Get("watch") == "":
				return 200, strings.NewReader(fmt.Sprintf(listed, others+","+mine))
			case len(requests) == 2:
				return 200, strings.NewReader(event("ADDED", object("shop", "other", "z")) + event("DELETED", object("other", "mesh", "z")) +
					event("ERROR", `{"kind":"Status","apiVersion":"v1","code":410,"message":"too old"}`))
			}
			return 200, io.MultiReader(strings.NewReader(event("MODIFIED", object("shop", "mesh", "b"))+
				event("DELETED", object("shop", "mesh", "b"))+event("ADDED", object("shop", "mesh", "c"))), hung{req.Context()})
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var got []string
		_ = s.Watch(ctx, func(d []byte) { got = append(got, fmt.Sprintf("%s %v", d, d == nil)) })
		if want := []string{"a false", "b false", " true", "c false"}; !slices.Equal(got, want) {
			t.Errorf("documents %q, want %q", got, want)
		}
		if want := []string{"", "true5", "", "true5"}; !slices.Equal(requests, want) {
			t.Errorf("requests %q, want %q", requests, want)
		}
	})
}

func TestAnswersThatAreNoDocument(t *testing.T) {
	for name, tt := range map[string]struct {
		status  int
		body    string
		refused bool
		says    string
	}{
		"denied":         {403, "no role", true, "permission denied"},
		"redirected":     {302, "", true, "redirects are not followed"},
		"garbage":        {200, "\x00{[", false, "answer of 3 bytes"},
		"another list":   {200, `{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1"}`, false, "EndpointSliceList"},
		"large value":    {200, fmt.Sprintf(listed, object("shop", "mesh", strings.Repeat("x", 4<<20+1))), true, "larger than 4 MiB"},
		"endless answer": {200, strings.Repeat(" ", 16<<20+1), true, "larger than 16 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			s := fakeSource(t, func(*http.Request) (int, io.Reader) { return tt.status, strings.NewReader(tt.body) })
			err := s.Watch(t.Context(), func(d []byte) { t.Errorf("a document of %d bytes", len(d)) })
			if _, ok := errors.AsType[*discovery.RefusedError](err); ok != tt.refused {
				t.Errorf("Watch() = %#v, want refused %v", err, tt.refused)
			}
			if text := err.Error(); !strings.Contains(text, tt.says) || !strings.Contains(text, `"mesh"`) || strings.Contains(text, "t-secret") {
				t.Errorf("Watch() = %v, want %q and the name in it, and no token", err, tt.says)
			}
		})
	}
}

func TestSourceThatCannotWork(t *testing.T) {
	good := fakeSource(t, func(req *http.Request) (int, io.Reader) {
		t.Errorf("request for %s", req.URL)
		return 500, strings.NewReader("")
	})
	for says, change := range map[string]func(*kubernetes.Source){
		"Source.Client is nil": func(s *kubernetes.Source) { s.Client = nil },
		"Source.Namespace":     func(s *kubernetes.Source) { s.Namespace = "../kube-system" },
		"Source.Name:":         func(s *kubernetes.Source) { s.Name = "a,b" },
		"Source.Key":           func(s *kubernetes.Source) { s.Key = "" },
	} {
		s := good
		change(&s)
		if err := s.Watch(t.Context(), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Watch() = %v, want %q", err, says)
		}
	}
}
