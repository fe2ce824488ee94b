//go:build unix

package etcd_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zerohop/zerohop/config/configtest"
	"github.com/zerohop/zerohop/config/etcd"
	"github.com/zerohop/zerohop/discovery"
	discoveryetcd "github.com/zerohop/zerohop/discovery/etcd"
	"github.com/zerohop/zerohop/internal/etcdtest"
	"github.com/zerohop/zerohop/internal/livetest"
)

const (
	key = "/mesh/orders.yaml"
	// patience is how long things may take that have no bound of their own.
	patience = 15 * time.Second
)

func newClient(t testing.TB, config clientv3.Config, server *etcdtest.Server) *clientv3.Client {
	t.Helper()
	config.Endpoints = []string{server.Addr()}
	c, err := discoveryetcd.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // fails with the reason it was given: closed
	return c
}

// set makes value that of key, or deletes it if it is nil.
func set(t testing.TB, c *clientv3.Client, value []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	if value == nil {
		_, err = c.Delete(ctx, key)
	} else {
		_, err = c.Put(ctx, key, string(value))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	c := newClient(t, clientv3.Config{}, etcdtest.Start(t, etcdtest.Options{}))
	configtest.Test(t, configtest.Source{
		Source: etcd.Source{Client: c, Key: key},
		Set:    func(t testing.TB, document []byte) { set(t, c, document) },
	})
}

// The role that the package comment gives is enough, and needed.
func TestRole(t *testing.T) {
	server := etcdtest.Start(t, etcdtest.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := newClient(t, clientv3.Config{}, server)
	set(t, admin, []byte("a"))
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const password = "p-secret"
	must(admin.RoleAdd(ctx, "mesh-reader"))
	must(admin.RoleGrantPermission(ctx, "mesh-reader", key, "", clientv3.PermissionType(clientv3.PermRead)))
	for user, role := range map[string]string{"root": "root", "orders": "mesh-reader", "other": ""} {
		must(admin.UserAdd(ctx, user, password))
		if role != "" {
			must(admin.UserGrantRole(ctx, user, role))
		}
	}
	must(admin.AuthEnable(ctx))

	reader := newClient(t, clientv3.Config{Username: "orders", Password: password}, server)
	root := newClient(t, clientv3.Config{Username: "root", Password: password}, server)
	var got []string
	err := etcd.Source{Client: reader, Key: key}.Watch(ctx, func(document []byte) {
		switch got = append(got, string(document)); len(got) {
		case 1:
			set(t, root, []byte("b"))
		case 2:
			cancel()
		}
	})
	if want := []string{"a", "b"}; !errors.Is(err, context.Canceled) || !slices.Equal(got, want) {
		t.Errorf("Watch() of a reader = %v after %q, want %v after %q", err, got, context.Canceled, want)
	}
	for name, config := range map[string]clientv3.Config{
		"no role": {Username: "other", Password: password}, "wrong password": {Username: "orders", Password: "q-secret"}, "nobody": {},
	} {
		err := etcd.Source{Client: newClient(t, config, server), Key: key}.Watch(t.Context(), func([]byte) { t.Errorf("%s: a document", name) })
		refused, ok := errors.AsType[*discovery.RefusedError](err)
		if !ok || !refused.Denied || !strings.Contains(err.Error(), server.Addr()) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: Watch() = %v, want it denied, with the address and without the password", name, err)
		}
	}
}

func TestLiveChange(t *testing.T) {
	server := etcdtest.Start(t, etcdtest.Options{})
	writer := newClient(t, clientv3.Config{}, server)
	livetest.Test(t, livetest.Store{
		Source:  etcd.Source{Client: newClient(t, clientv3.Config{}, server), Key: key},
		Set:     func(t testing.TB, document []byte) { set(t, writer, document) },
		Kill:    server.Kill,
		Restart: server.Restart,
	})
}
