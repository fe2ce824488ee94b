package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/consul"
	"github.com/zerohop/zerohop/discovery/dns"
	"github.com/zerohop/zerohop/discovery/etcd"
	"github.com/zerohop/zerohop/discovery/file"
	"github.com/zerohop/zerohop/discovery/kubernetes"
	"github.com/zerohop/zerohop/discovery/xds"
)

func TestOpenSourceReadsAllKinds(t *testing.T) {
	dir := t.TempDir()
	kubeconfig, user := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "user")
	write(t, kubeconfig, `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":"http://127.0.0.1:1"}}],
		"contexts":[{"name":"admin@c","context":{"cluster":"c"}}],"current-context":"admin@c"}`)
	write(t, user, "root:secret\n")
	t.Setenv("GRPC_XDS_BOOTSTRAP_CONFIG",
		`{"xds_servers":[{"server_uri":"127.0.0.1:1","channel_creds":[{"type":"insecure"}]}],"node":{"id":"n"}}`)
	for _, test := range []struct {
		text string
		want discovery.Resolver // without its client
	}{
		{"consul:", consul.Resolver{}},
		{
			"consul://127.0.0.1:8500?dc=dc1&tag=blue&tag=b&filter=Service.Port%3E1&failing=true&stale=1&tls=true",
			consul.Resolver{Datacenter: "dc1", Tags: []string{"blue", "b"}, Filter: "Service.Port>1", IncludeFailing: true, AllowStale: true},
		},
		{"dns://10.0.0.53/example.org?port=8080", dns.Resolver{Name: "{service}.example.org", Port: 8080, Servers: []string{"10.0.0.53"}}},
		{"dns:///?port=80", dns.Resolver{Name: "{service}", Port: 80}},
		{
			"dns://10.0.0.53:5353,[::1]:53/x.{service}.org?srv=_http._tcp&tcp=true&network=ip4",
			dns.Resolver{
				Name: "_http._tcp.x.{service}.org", SRV: true, TCP: true, Network: "ip4",
				Servers: []string{"10.0.0.53:5353", "[::1]:53"},
			},
		},
		{"etcd://127.0.0.1:2379,127.0.0.1:2380/a/b", etcd.Resolver{Prefix: "a/b"}},
		{"etcd://127.0.0.1:2379//a", etcd.Resolver{Prefix: "/a"}},
		{"etcd://127.0.0.1:2379?layout=kratos&scheme=grpc&tls=true", etcd.Resolver{Prefix: etcd.KratosPrefix, Scheme: "grpc"}},
		{"etcd://127.0.0.1:2379?layout=kitex&user-file=" + user, etcd.Resolver{Prefix: etcd.KitexPrefix}},
		{"file:///etc/@mesh/a%20b.yaml", &file.Resolver{Path: "/etc/@mesh/a b.yaml"}},
		{"file:endpoints.yaml", &file.Resolver{Path: "endpoints.yaml"}},
		{
			"kubernetes:///?namespace=shop&port=http&not-ready=true&context=admin@c&kubeconfig=" + kubeconfig,
			kubernetes.Resolver{Namespace: "shop", Port: "http", IncludeNotReady: true},
		},
		{"static:10.0.0.1:80,[::1]:80", static{{Addr: "10.0.0.1:80"}, {Addr: "[::1]:80"}}},
		{"xds://127.0.0.1:15010?cluster=outbound|80||{service}&plaintext=true&generator=grpc&node=n", &xds.Resolver{}},
		{"xds:", &xds.Resolver{}},
	} {
		got, done, err := openSource(test.text)
		if err != nil {
			t.Errorf("openSource(%q): %v", test.text, err)
			continue
		}
		done()
		switch r := got.(type) {
		case consul.Resolver:
			r.Client, got = nil, r
			got = r
		case etcd.Resolver:
			r.Client = nil
			got = r
		case kubernetes.Resolver:
			r.Client = nil
			got = r
		case *xds.Resolver: // keeps its fields to itself
			got = &xds.Resolver{}
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("openSource(%q) = %+v, want %+v", test.text, got, test.want)
		}
	}
}

func TestOpenSourceNamesAllMistakesAndNoSecret(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	t.Setenv("HOME", dir)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("GRPC_XDS_BOOTSTRAP_CONFIG", "")
	user := filepath.Join(dir, "user")
	write(t, user, "hunter2\n")
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", []string{"want KIND:", "consul, dns, etcd, file, kubernetes, static, xds"}},
		{"consul", []string{"want KIND:"}},
		{"hunter2://x", []string{"want KIND:"}},
		{"consul://user:hunter2@127.0.0.1:8500", []string{"no user or password"}},
		{"consul://user:hun/hunter2@127.0.0.1:8500", []string{"no user or password"}},
		{"consul:user:hunter2@127.0.0.1:8500", []string{"no user or password"}},
		{"file://user:hunter2@host/x", []string{"no user or password"}},
		{"consul://127.0.0.1:8500?token=hunter2", []string{`unknown parameter "token"`, "dc, failing, filter, stale, tag, tls"}},
		{"consul://127.0.0.1:8500?token=%hunter2", []string{"wrong %-escape"}},
		{"consul://127.0.0.1:8500?tag=a;token=hunter2", []string{"semicolon"}},
		{
			"consul://127.0.0.1:8500/path?dc=a&dc=b&failing=maybe&stale&tls=&x\x1b=1",
			[]string{
				`path "path"`, "dc is given 2 times", `failing is "maybe"`, "stale is empty", "tls is empty", `unknown parameter "x\x1b"`,
			},
		},
		{"dns:///x", []string{"port or srv is missing"}},
		{"dns:///x?port=0", []string{`port is "0", want a port`}},
		{"dns:///x?port=80&srv=_http._tcp&network=ip5", []string{"both port and srv", `network is "ip5"`}},
		{"dns://10.0.0.1,/x?port=80", []string{"a host of the list is empty"}},
		{"dns:///%zz?port=80", []string{"path has a wrong %-escape"}},
		{"etcd:///x?layout=eureka&scheme=ftp", []string{"no host", `layout is "eureka"`, `scheme is "ftp"`}},
		{"etcd://127.0.0.1:2379?user-file=" + user, []string{"user-file has no password"}},
		{"etcd://127.0.0.1:2379?user-file=" + user + ".none", []string{"user-file: open"}},
		{"file://", []string{"no path"}},
		{"file://host/path?x=1", []string{`host "host"`, `unknown parameter "x"`}},
		{"kubernetes://host/path?port=http&nodes=1", []string{`host "host"`, `path "path"`, `unknown parameter "nodes"`}},
		{"kubernetes:", []string{"kubernetes:"}},
		{"static:", []string{`not "host:port"`}},
		{"static:10.0.0.1,10.0.0.2:0", []string{`not "host:port"`, "port is not in 1..65535"}},
		{"xds:?node=n&tls=true", []string{"are those of xds://HOST:PORT", `unknown parameter "tls"`}},
		{"xds:", []string{"GRPC_XDS_BOOTSTRAP"}},
	} {
		_, _, err := openSource(test.text)
		if err == nil {
			t.Errorf("openSource(%q) succeeds", test.text)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("openSource(%q): %v, want %q in it", test.text, err, want)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("openSource(%q) repeats a secret: %v", test.text, err)
		}
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
