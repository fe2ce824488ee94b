//go:build unix

package outage

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/kubernetes"
	"github.com/zerohop/zerohop/internal/kubetest"
)

// era is the label that says which slices a request gets: those of now, unless a fault says otherwise.
const era = "era"

func kubernetesFaults(t *testing.T) map[string]build {
	shared := kubetest.Start(t)
	// of makes the server answer with the slices of another era.
	of := func(name string) fault {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), eraKey{}, name)))
		}
	}
	return map[string]build{
		"stopped": func(t *testing.T, service string) *cell {
			c, g := kubernetesCell(t, shared, service)
			c.begin, c.heal = g.door.shut, g.door.reopen
			return c
		},
		"killed": func(t *testing.T, service string) *cell {
			server := kubetest.Start(t)
			c, _ := kubernetesCell(t, server, service)
			c.begin, c.heal, c.mute = server.Kill, server.Restart, true
			return c
		},
		"frozen": func(t *testing.T, service string) *cell {
			server := kubetest.Start(t)
			c, _ := kubernetesCell(t, server, service)
			// The gate would answer the pings that find a server which does not.
			c.resolver, c.requests = kubernetesAt(t, server.Addr()), nil
			c.begin, c.heal, c.mute = server.Stop, server.Cont, true
			return c
		},
		"deaf": func(t *testing.T, service string) *cell {
			c, g := kubernetesCell(t, shared, service)
			c.begin, c.over, c.bound = g.door.deafen, true, unnoticed
			return c
		},
		"garbage": func(t *testing.T, service string) *cell {
			c, g := kubernetesCell(t, shared, service)
			c.begin, c.heal = g.begin(garble(
				"\x00\xff\x17garbage", "<html>no registry</html>", `[]`, `{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","items":[{"me`,
				`{"kind":"PodList","apiVersion":"v1","items":[]}`, `{"items":7}`, "null", "",
			)), g.heal
			return c
		},
		"empty": func(t *testing.T, service string) *cell {
			c, g := kubernetesCell(t, shared, service)
			c.begin, c.heal = g.begin(of("none")), g.heal
			c.trust = zerohop.Discovery{EmptyGrace: 2 * lasting}
			return c
		},
		"stale": func(t *testing.T, service string) *cell {
			c, g := kubernetesCell(t, shared, service)
			c.begin, c.heal = func(t testing.TB) {
				putSlices(t, shared, service, "old", nil, c.addrs)
				g.begin(of("old"))(t)
			}, g.heal
			return c
		},
		"throttled": func(t *testing.T, service string) *cell {
			c, g := kubernetesCell(t, shared, service)
			c.begin, c.heal = g.begin(throttle(http.Header{"Retry-After": {"1"}})), g.heal // as API servers do it
			c.bound = refused + time.Second
			return c
		},
	}
}

type eraKey struct{}

// kubernetesCell returns a cell without a fault, and the gate before the server.
func kubernetesCell(t *testing.T, server *kubetest.Server, service string) (*cell, *gate) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	g := newGate(t, &url.URL{Scheme: "https", Host: server.Addr()}, transport, func(r *http.Request) {
		name, _ := r.Context().Value(eraKey{}).(string)
		if name == "" {
			name = "now"
		}
		query := r.URL.Query()
		query.Set("labelSelector", query.Get("labelSelector")+","+era+"="+name)
		r.URL.RawQuery = query.Encode()
	})
	g.EnableHTTP2 = true
	g.StartTLS()
	var last []string
	return &cell{
		resolver: kubernetesAt(t, g.door.addr.String()),
		list: func(t testing.TB, addrs []string) {
			putSlices(t, server, service, "now", last, addrs)
			last = addrs
		},
		requests: &g.requests,
	}, g
}

// kubernetesAt returns a resolver that asks at addr.
func kubernetesAt(t *testing.T, addr string) local {
	t.Helper()
	client, err := kubernetes.NewClient(kubernetes.ClientConfig{REST: &rest.Config{
		Host: "https://" + addr, BearerToken: kubetest.AdminToken, TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return local{kubernetes.Resolver{Client: client}}
}

// foreign stands for 127.0.0.1, which Kubernetes does not allow in slices.
const foreign = "192.0.2.1"

// local is a resolver whose addresses are those of backends on this machine.
type local struct{ kubernetes.Resolver }

func (r local) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	return r.Resolver.Watch(ctx, service, func(set []discovery.Endpoint) {
		for i := range set {
			set[i].Addr = strings.Replace(set[i].Addr, foreign, "127.0.0.1", 1)
		}
		update(set)
	})
}

// putSlices makes the server have slices for addrs and no more for the rest of last. Each address has one, because
// the port is that of the slice.
func putSlices(t testing.TB, server *kubetest.Server, service, name string, last, addrs []string) {
	t.Helper()
	for _, addr := range append(slices.Clone(last), addrs...) {
		_, port, _ := net.SplitHostPort(addr)
		n, _ := strconv.Atoi(port)
		slice := service + "-" + name + "-" + port
		switch gone := !slices.Contains(addrs, addr); {
		case gone:
			server.DeleteSlice(t, "", slice)
		case !slices.Contains(last, addr):
			number := int32(n)
			server.PutSlice(t, &discoveryv1.EndpointSlice{
				ObjectMeta:  metav1.ObjectMeta{Name: slice, Labels: map[string]string{discoveryv1.LabelServiceName: service, era: name}},
				AddressType: discoveryv1.AddressTypeIPv4,
				Ports:       []discoveryv1.EndpointPort{{Port: &number}},
				Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{foreign}}},
			})
		}
	}
}
