package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/consul/api"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/consul"
	"github.com/zerohop/zerohop/discovery/dns"
	"github.com/zerohop/zerohop/discovery/etcd"
	"github.com/zerohop/zerohop/discovery/file"
	"github.com/zerohop/zerohop/discovery/kubernetes"
	"github.com/zerohop/zerohop/discovery/xds"
)

// openConsul leaves what the source does not say to the variables that Consul's own programs read.
func openConsul(s *source) (discovery.Resolver, func(), error) {
	s.noPath()
	config := api.Config{Address: s.hosts, HttpAuth: api.DefaultConfig().HttpAuth}
	if s.flag("tls") {
		config.Scheme = "https"
	}
	r := consul.Resolver{
		TokenFile:      os.Getenv(api.HTTPTokenFileEnvName),
		Datacenter:     s.text("dc"),
		Tags:           s.all("tag"),
		Filter:         s.text("filter"),
		IncludeFailing: s.flag("failing"),
		AllowStale:     s.flag("stale"),
	}
	if err := s.check(); err != nil {
		return nil, nil, err
	}
	client, err := consul.NewClient(config)
	if err != nil {
		return nil, nil, err
	}
	r.Client = client
	return r, nil, nil
}

func openDNS(s *source) (discovery.Resolver, func(), error) {
	r := dns.Resolver{Port: s.port("port"), Network: s.choice("network", "ip", "ip4", "ip6"), TCP: s.flag("tcp"), Servers: s.hostList()}
	srv := s.text("srv")
	r.SRV = srv != ""
	switch {
	case r.SRV && r.Port != 0:
		s.mistake("both port and srv are given, but SRV records tell the port")
	case !r.SRV && !s.query.Has("port"):
		s.mistake("parameter port or srv is missing")
	}
	r.Name = s.path
	if !strings.Contains(r.Name, "{service}") {
		r.Name = strings.TrimSuffix("{service}."+s.path, ".")
	}
	if r.SRV {
		r.Name = strings.TrimSuffix(srv, ".") + "." + r.Name
	}
	return r, nil, nil
}

// openEtcd takes credentials from the variables that etcdctl reads.
func openEtcd(s *source) (discovery.Resolver, func(), error) {
	r := etcd.Resolver{Prefix: s.path, Scheme: s.choice("scheme", "grpc", "http")}
	layout := s.choice("layout", "zerohop", "kratos", "kitex")
	if r.Prefix == "" {
		r.Prefix = map[string]string{"kratos": etcd.KratosPrefix, "kitex": etcd.KitexPrefix}[layout]
	}
	config := clientv3.Config{Endpoints: s.hostList()}
	if len(config.Endpoints) == 0 {
		s.mistake("no host is given, want etcd://HOST:2379/...")
	}
	secure, userFile := s.flag("tls"), s.text("user-file")
	if err := s.check(); err != nil {
		return nil, nil, err
	}
	var err error
	if config.Username, config.Password, err = etcdUser(userFile); err != nil {
		return nil, nil, err
	}
	files := transport.TLSInfo{
		TrustedCAFile: os.Getenv("ETCDCTL_CACERT"),
		CertFile:      os.Getenv("ETCDCTL_CERT"),
		KeyFile:       os.Getenv("ETCDCTL_KEY"),
	}
	switch {
	case files.TrustedCAFile != "" || files.CertFile != "" || files.KeyFile != "":
		if config.TLS, err = files.ClientConfig(); err != nil {
			return nil, nil, err
		}
	case secure:
		config.TLS = &tls.Config{}
	}
	client, err := etcd.NewClient(config)
	if err != nil {
		return nil, nil, err
	}
	r.Client = client
	return r, func() { client.Close() }, nil
}

// etcdUser returns the user and password in a file, else in ETCDCTL_USER and ETCDCTL_PASSWORD. Its errors repeat neither.
func etcdUser(path string) (user, password string, err error) {
	text, from := os.Getenv("ETCDCTL_USER"), "ETCDCTL_USER"
	password = os.Getenv("ETCDCTL_PASSWORD")
	if path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			return "", "", fmt.Errorf("user-file: %w", err)
		}
		text, password, from = strings.TrimRight(string(content), "\r\n"), "", "user-file"
	}
	if password == "" {
		var found bool
		if text, password, found = strings.Cut(text, ":"); !found && text != "" {
			return "", "", fmt.Errorf("%s has no password, want name:password", from)
		}
	}
	return text, password, nil
}

func openFile(s *source) (discovery.Resolver, func(), error) {
	if s.hosts != "localhost" {
		s.noHosts()
	}
	if s.path == "" {
		s.mistake("no path is given, want file:///PATH")
	}
	return &file.Resolver{Path: s.path}, nil, nil
}

func openKubernetes(s *source) (discovery.Resolver, func(), error) {
	s.noHosts()
	s.noPath()
	config := kubernetes.ClientConfig{Kubeconfig: s.text("kubeconfig"), Context: s.text("context")}
	r := kubernetes.Resolver{Namespace: s.text("namespace"), Port: s.text("port"), IncludeNotReady: s.flag("not-ready")}
	if err := s.check(); err != nil {
		return nil, nil, err
	}
	client, err := kubernetes.NewClient(config)
	if err != nil {
		return nil, nil, err
	}
	r.Client = client
	return r, nil, nil
}

// static is a source whose endpoints are those of all services.
type static []discovery.Endpoint

// Watch implements discovery.Resolver.
func (s static) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	return discovery.Static{service: s}.Watch(ctx, service, update)
}

func openStatic(s *source) (discovery.Resolver, func(), error) {
	var list static
	for addr := range strings.SplitSeq(cmp.Or(s.hosts, s.path), ",") {
		list = append(list, discovery.Endpoint{Addr: addr})
		if err := (discovery.AddressPolicy{AllowLoopback: true}).Check(addr); err != nil && !isRefused(err) {
			s.mistakes = append(s.mistakes, err)
		}
	}
	if s.hosts != "" {
		s.noPath()
	}
	return list, nil, nil
}

func isRefused(err error) bool {
	var refused *discovery.AddressError
	return errors.As(err, &refused)
}

func openXDS(s *source) (discovery.Resolver, func(), error) {
	s.noPath()
	cluster, node, generator := s.text("cluster"), s.text("node"), s.text("generator")
	plaintext := s.flag("plaintext")
	if s.hosts == "" && (node != "" || generator != "" || plaintext) {
		s.mistake("parameters node, generator and plaintext are those of xds://HOST:PORT: a bootstrap says them itself")
	}
	if err := s.check(); err != nil {
		return nil, nil, err
	}
	config := xds.Config{Server: s.hosts, Node: xds.Node{ID: cmp.Or(node, "zerohop-endpoints")}}
	if s.hosts == "" {
		var err error
		if config, err = xds.Bootstrap(); err != nil {
			return nil, nil, err
		}
	}
	if generator != "" {
		config.Node.Metadata = map[string]any{"GENERATOR": generator}
	}
	if plaintext {
		config.Credentials = insecure.NewCredentials()
	}
	if cluster != "" {
		config.Cluster = func(service string) string { return strings.ReplaceAll(cluster, "{service}", service) }
	}
	r, err := xds.New(config)
	if err != nil {
		return nil, nil, err
	}
	return r, func() { r.Close() }, nil
}
