//go:build unix

package etcd_test

import (
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/discovery/etcd"
	"github.com/zerohop/zerohop/internal/etcdtest"
)

func TestResolverConformance(t *testing.T) {
	server := etcdtest.Start(t, etcdtest.Options{})
	c := newClient(t, server)
	discoverytest.Test(t, discoverytest.Source{
		Resolver: etcd.Resolver{Client: c},
		Set:      func(t testing.TB, service string, set []discovery.Endpoint) { list(t, c, service+"/", set) },
		Break:    server.Kill,
		Heal:     server.Restart,
		Timeout:  30 * time.Second,
	})
}
