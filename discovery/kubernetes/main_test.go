package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/kubeapi"
)

func TestMain(m *testing.M) {
	// Connections outlive requests, and those of client-go belong to no test.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*ClientConn).readLoop"))
}

const serverAddr = "kube.test:6443"

// inProcess serves requests by calling a handler, so that tests in a bubble need no sockets. Bodies can be streams.
type inProcess struct {
	handler http.HandlerFunc
	proto   int // major version of HTTP; 0 means 2
}

func (p inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	body, writer := io.Pipe()
	w := &streamWriter{header: http.Header{"Content-Type": {kubeapi.JSONType}}, body: writer, begun: make(chan int, 1)}
	go func() {
		p.handler(w, req)
		w.WriteHeader(http.StatusOK)
		writer.Close()
	}()
	stop := context.AfterFunc(req.Context(), func() { writer.CloseWithError(req.Context().Err()) })
	select {
	case code := <-w.begun:
		proto := 2
		if p.proto > 0 {
			proto = p.proto
		}
		return &http.Response{StatusCode: code, Header: w.header, ProtoMajor: proto, Body: closer{body, stop}, Request: req}, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

type closer struct {
	*io.PipeReader
	stop func() bool
}

func (c closer) Close() error { c.stop(); return c.PipeReader.Close() }

type streamWriter struct {
	header http.Header
	body   io.Writer
	once   sync.Once
	begun  chan int
}

func (w *streamWriter) Header() http.Header { return w.header }

func (w *streamWriter) WriteHeader(code int) { w.once.Do(func() { w.begun <- code }) }

func (w *streamWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// client returns a client of the server at serverAddr, which handler is.
func client(handler http.HandlerFunc) *Client { return clientOf(inProcess{handler: handler}) }

func clientOf(transport http.RoundTripper) *Client {
	return &Client{api: kubeapi.Client{HTTP: &http.Client{Transport: transport}, Base: &url.URL{Scheme: "https", Host: serverAddr}}}
}

func watching(req *http.Request) bool { return req.URL.Query().Get("watch") == "true" }

// hang is what a server does that sends nothing more.
func hang(w http.ResponseWriter, req *http.Request) {
	w.WriteHeader(http.StatusOK)
	<-req.Context().Done()
}

// slice returns a slice of service "orders" in namespace "default" with ready endpoints.
func slice(name string, addresses ...string) discoveryv1.EndpointSlice {
	s := discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "default", ResourceVersion: "7",
			Labels: map[string]string{discoveryv1.LabelServiceName: "orders"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{port("http", 8080)},
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

func port(name string, number int32) discoveryv1.EndpointPort {
	return discoveryv1.EndpointPort{Name: &name, Port: &number}
}

func sendList(w io.Writer, version string, list ...discoveryv1.EndpointSlice) {
	send(w, &discoveryv1.EndpointSliceList{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSliceList"},
		ListMeta: metav1.ListMeta{ResourceVersion: version},
		Items:    list,
	})
}

func sendEvent(w io.Writer, kind watch.EventType, object any) {
	send(w, map[string]any{"type": kind, "object": object})
}

func status(code int, text string) *metav1.Status {
	return &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: int32(code), Message: text}
}

func send(w io.Writer, object any) {
	data, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(append(data, '\n')) // fails if the client has gone
}

// addrs returns the sorted addresses of a set.
func addrs(set []discovery.Endpoint) string {
	list := make([]string, len(set))
	for i, e := range set {
		list[i] = e.Addr
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// ref names the pod of this number.
func ref(i int) *corev1.ObjectReference {
	name := fmt.Sprintf("orders-%d", i)
	return &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: name, UID: types.UID("uid-" + name)}
}
