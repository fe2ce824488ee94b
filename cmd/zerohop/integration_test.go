//go:build unix

package main

import (
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zerohop/zerohop/discovery/etcd"
	"github.com/zerohop/zerohop/internal/consultest"
	"github.com/zerohop/zerohop/internal/dnstest"
	"github.com/zerohop/zerohop/internal/etcdtest"
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
	code, stdout, stderr := zerohop(t.Context(), "endpoints", "orders", "--from", from, "--once", "--timeout", "2s")
	if code != exitTimeout || stdout != "" || !strings.Contains(stderr, "ACL not found") || strings.Contains(stderr, wrong) {
		t.Errorf("wrong token: code %d, %q, %q, want %d and the answer of Consul without the token", code, stdout, stderr, exitTimeout)
	}

	t.Setenv("CONSUL_HTTP_TOKEN", consultest.ManagementToken)
	register("local", "127.0.0.1")
	code, stdout, stderr = zerohop(t.Context(), "endpoints", "orders", "--from", from, "--once")
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
