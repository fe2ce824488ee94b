//go:build unix

package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	clientv3 "go.etcd.io/etcd/client/v3"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zerohop/zerohop/discovery/etcd"
	"github.com/zerohop/zerohop/internal/consultest"
	"github.com/zerohop/zerohop/internal/dnstest"
	"github.com/zerohop/zerohop/internal/etcdtest"
	"github.com/zerohop/zerohop/internal/kubetest"
)

func TestConsulIsAskedWithTheTokenOfTheEnvironment(t *testing.T) {
	agent := consultest.Start(t, consultest.Options{ACL: true})
	client, err := api.NewClient(agent.Config(consultest.ManagementToken))
	if err != nil {
		t.Fatal(err)
	}
	register := func(id, addr string, tags ...string) {
		t.Helper()
		err := client.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: id, Name: "orders", Address: addr, Port: 8080, Tags: tags})
		if err != nil {
			t.Fatal(err)
		}
	}
	from := "consul://" + agent.Addr()
	const wrong = "a1b2c3d4-0000-4000-8000-0123456789ab"
	t.Setenv("CONSUL_HTTP_TOKEN", wrong)
	if got := watching(t, "orders", "--from", from)(); !strings.Contains(got, "ACL not found") || strings.Contains(got, wrong) {
		t.Errorf("wrong token: line %q, want the answer of Consul without the token", got)
	}

	t.Setenv("CONSUL_HTTP_TOKEN", consultest.ManagementToken)
	register("local", "127.0.0.1")
	code, stdout, stderr := zerohop(t.Context(), "endpoints", "orders", "--from", from, "--once")
	if code != exitNone || stdout != "" || !strings.Contains(stderr, "--allow-loopback") {
		t.Errorf("loopback: code %d, %q, %q, want %d and how to allow it", code, stdout, stderr, exitNone)
	}
	for _, allow := range []string{"--allow-loopback", "--allow=127.0.0.0/8"} {
		code, stdout, _ = zerohop(t.Context(), "endpoints", "orders", "--from", from, "--once", allow)
		if code != exitOK || !strings.Contains(stdout, "127.0.0.1:8080") {
			t.Errorf("%s: code %d, %q, want the endpoint", allow, code, stdout)
		}
	}

	register("remote", "10.0.0.1", "blue")
	next := watching(t, "orders", "--from", from+"?tag=blue")
	if got, want := next(), "+ 10.0.0.1:8080 weight=1 health=healthy consul-tags=blue"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	register("another", "10.0.0.2", "blue", "version=2")
	if got, want := next(), "+ 10.0.0.2:8080 weight=1 health=healthy consul-tags=blue version=2"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}

	// What stands before the agent speaks TLS, and wants certificates of its clients.
	quiet := log.New(io.Discard, "", 0) // clients that go away, or do not trust it
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: agent.Addr()}) },
		ErrorLog: quiet,
	})
	proxy.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	proxy.EnableHTTP2 = true // as an agent does
	proxy.Config.ErrorLog = quiet
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	from = "consul://" + proxy.Listener.Addr().String() + "?tls=true&tag=blue"
	if got, want := watching(t, "orders", "--from", from)(), "certificate signed by unknown authority"; !strings.Contains(got, want) {
		t.Errorf("unknown authority: line %q, want %q in it", got, want)
	}
	cert, key := writePair(t, proxy.TLS.Certificates[0])
	t.Setenv("CONSUL_CACERT", cert)
	t.Setenv("CONSUL_CLIENT_CERT", cert)
	t.Setenv("CONSUL_CLIENT_KEY", key)
	next = watching(t, "orders", "--from", from)
	for _, want := range []string{"+ 10.0.0.1:8080", "+ 10.0.0.2:8080"} {
		if got := next(); !strings.HasPrefix(got, want) {
			t.Errorf("TLS: line %q, want %q", got, want)
		}
	}
}

// writePair writes a certificate and its key to files.
func writePair(t *testing.T, pair tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return cert, key
}

func TestEtcdIsReadInItsLayouts(t *testing.T) {
	server := etcdtest.Start(t, etcdtest.Options{})
	client, err := etcd.NewClient(clientv3.Config{Endpoints: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for key, value := range map[string]string{
		"/microservices/orders/1":             `{"id":"1","endpoints":["grpc://10.0.0.1:9000","http://10.0.0.1:8000"]}`,
		"kitex/registry-etcd/orders/10.0.0.2": `{"network":"tcp","address":"10.0.0.2:8888","weight":10}`,
		"shop/orders/3":                       `{"Op":0,"Addr":"10.0.0.3:8080","Zone":"eu-1"}`,
	} {
		if _, err := client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string]string{
		"?layout=kratos&scheme=http": "10.0.0.1:8000  1",
		"?layout=kitex":              "10.0.0.2:8888  10",
		"/shop":                      "10.0.0.3:8080  1       eu-1",
	} {
		code, stdout, stderr := zerohop(t.Context(), "endpoints", "orders", "--from", "etcd://"+server.Addr()+query, "--once")
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("%s: code %d, %q, %q, want %q", query, code, stdout, stderr, want)
		}
	}
}

func TestEtcdIsAskedAsTheUserOfTheEnvironmentOrAFile(t *testing.T) {
	server := etcdtest.Start(t, etcdtest.Options{Args: []string{"--bcrypt-cost", "4"}})
	root, err := etcd.NewClient(clientv3.Config{Endpoints: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	ctx := t.Context()
	_, err1 := root.Put(ctx, "shop/orders/1", `{"Op":0,"Addr":"10.0.0.1:8080"}`)
	_, err2 := root.UserAdd(ctx, "root", "r")
	_, err3 := root.UserGrantRole(ctx, "root", "root")
	_, err4 := root.UserAdd(ctx, "mesh", "m:n")
	_, err5 := root.RoleAdd(ctx, "reader")
	_, err6 := root.RoleGrantPermission(ctx, "reader", "shop/", clientv3.GetPrefixRangeEnd("shop/"), clientv3.PermissionType(clientv3.PermRead))
	_, err7 := root.UserGrantRole(ctx, "mesh", "reader")
	_, err8 := root.AuthEnable(ctx)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, err8); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "user")
	write(t, file, "mesh:m:n\n")
	const refused = "! failed, again in "
	for _, test := range []struct{ name, user, password, query, want string }{
		{"both in one", "mesh:m:n", "", "", "+ 10.0.0.1:8080"},
		{"one each", "mesh", "m:n", "", "+ 10.0.0.1:8080"},
		{"file", "mesh", "hunter2", "?user-file=" + file, "+ 10.0.0.1:8080"},
		{"wrong password", "mesh:hunter2", "", "", refused},
		{"nobody", "", "", "", refused},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("ETCDCTL_USER", test.user)
			t.Setenv("ETCDCTL_PASSWORD", test.password)
			got := watching(t, "orders", "--from", "etcd://"+server.Addr()+"/shop"+test.query)()
			if !strings.HasPrefix(got, test.want) || strings.Contains(got, "hunter2") {
				t.Errorf("line %q, want %q and no password", got, test.want)
			}
		})
	}
}

func TestKubernetesIsAskedAsTheKubeconfigSays(t *testing.T) {
	server := kubetest.Start(t)
	kubeconfig := filepath.Join(t.TempDir(), "config")
	write(t, kubeconfig, fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: admin
clusters: [{name: test, cluster: {server: "https://%s", certificate-authority: %q}}]
users:
- {name: admin, user: {token: %s}}
- {name: stranger, user: {token: %s}}
- {name: nobody, user: {token: hunter2}}
contexts:
- {name: admin, context: {cluster: test, user: admin}}
- {name: empty, context: {cluster: test, user: admin, namespace: empty}}
- {name: stranger, context: {cluster: test, user: stranger}}
- {name: nobody, context: {cluster: test, user: nobody}}
`, server.Addr(), server.CAFile(), kubetest.AdminToken, kubetest.StrangerToken))
	t.Setenv("KUBECONFIG", kubeconfig)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	put := func(addrs ...string) {
		t.Helper()
		http, admin, port, metrics, zone := "http", "admin", int32(8080), int32(9090), "eu-1a"
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: "orders-1", Labels: map[string]string{discoveryv1.LabelServiceName: "orders"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &http, Port: &port}, {Name: &admin, Port: &metrics}},
			Endpoints:   []discoveryv1.Endpoint{},
		}
		for _, addr := range addrs {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr}, Zone: &zone})
		}
		server.PutSlice(t, slice)
	}

	put("10.0.0.1")
	next := watching(t, "orders", "--from", "kubernetes:")
	if got, want := next(), "+ 10.0.0.1:8080 weight=1 zone=eu-1a health=healthy"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	put("10.0.0.1", "10.0.0.2")
	if got, want := next(), "+ 10.0.0.2:8080 weight=1 zone=eu-1a health=healthy"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	put("10.0.0.2")
	if got, want := next(), "- 10.0.0.1:8080"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}

	for _, test := range []struct {
		service, query string
		code           int
		stdout         string
	}{
		{"orders", "?port=admin", exitOK, "10.0.0.2:9090  1       eu-1a"},
		{"orders.default.svc.cluster.local:admin", "?namespace=other", exitOK, "10.0.0.2:9090"},
		{"orders", "?context=empty", exitNone, "(no endpoints)"},
		{"orders", "?namespace=other", exitNone, "(no endpoints)"},
		{"orders", "?context=empty&namespace=default", exitOK, "10.0.0.2:8080"},
	} {
		code, stdout, stderr := zerohop(t.Context(), "endpoints", test.service, "--from", "kubernetes:"+test.query, "--once")
		if code != test.code || !strings.Contains(stdout, test.stdout) || stderr != "" {
			t.Errorf("%s%s: code %d, %q, %q, want %d, %q", test.service, test.query, code, stdout, stderr, test.code, test.stdout)
		}
	}
	for query, want := range map[string]string{
		"?context=nobody":         "permission denied: status 401",
		"?context=stranger":       "permission denied: status 403",
		"?namespace=no+namespace": `namespace "no namespace"`,
		"?port=grpc":              `no port "grpc": there is "admin" (9090), "http" (8080)`,
	} {
		got := watching(t, "orders", "--from", "kubernetes:"+query)()
		if !strings.HasPrefix(got, "! failed, again in ") || !strings.Contains(got, want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s: line %q, want a failure with %q and no token in it", query, got, want)
		}
	}
	const want = "zerohop: --from 1: kubernetes: kubeconfig: "
	code, _, stderr := zerohop(t.Context(), "endpoints", "orders", "--from", "kubernetes:?context=none", "--once")
	if code != exitUsage || !strings.HasPrefix(stderr, want) || !strings.Contains(stderr, "context: none") {
		t.Errorf("unknown context: code %d, %q, want %d, %q and its name", code, stderr, exitUsage, want)
	}
}

func TestDNSIsAskedForTheServiceInItsDomain(t *testing.T) {
	server := dnstest.Start(t)
	server.Add(t, "orders.shop.zerohop.test. 30 A 10.0.0.1", "_http._tcp.orders.shop.zerohop.test. 30 SRV 0 5 8081 orders.shop.zerohop.test.")
	for query, want := range map[string]string{
		"/shop.zerohop.test?port=8080":           "10.0.0.1:8080  1",
		"/{service}.shop.zerohop.test.?port=80":  "10.0.0.1:80  1",
		"/shop.zerohop.test?srv=_http._tcp":      "10.0.0.1:8081  5",
		"/shop.zerohop.test?port=80&network=ip6": "(no endpoints)",
	} {
		_, stdout, stderr := zerohop(t.Context(), "endpoints", "orders", "--from", "dns://"+server.Addr()+query, "--once")
		if !strings.Contains(stdout, want) {
			t.Errorf("%s: %q, %q, want %q", query, stdout, stderr, want)
		}
	}
}
