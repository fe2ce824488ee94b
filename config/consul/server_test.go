//go:build unix

package consul_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/config/configtest"
	"github.com/zerohop/zerohop/config/consul"
	"github.com/zerohop/zerohop/discovery"
	discoveryconsul "github.com/zerohop/zerohop/discovery/consul"
	"github.com/zerohop/zerohop/internal/consultest"
	"github.com/zerohop/zerohop/internal/livetest"
)

const key = "mesh/orders.yaml"

func newClient(t testing.TB, agent *consultest.Agent, token string) *api.Client {
	t.Helper()
	config := agent.Config(token)
	config.Transport = &http.Transport{}
	t.Cleanup(config.Transport.CloseIdleConnections)
	c, err := discoveryconsul.NewClient(*config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// set makes value that of key, or deletes it if it is nil.
func set(t testing.TB, c *api.Client, value []byte) {
	t.Helper()
	var err error
	if value == nil {
		_, err = c.KV().Delete(key, nil)
	} else {
		_, err = c.KV().Put(&api.KVPair{Key: key, Value: value}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	agent := consultest.Start(t, consultest.Options{})
	c := newClient(t, agent, "")
	configtest.Test(t, configtest.Source{
		Source: consul.Source{Client: c, Key: key},
		Set:    func(t testing.TB, document []byte) { set(t, c, document) },
		Break:  agent.Kill,
		Heal:   agent.Restart, // without its data
		Size:   500 << 10,     // Consul takes 512 KiB
	})
}

// The rules that the package comment gives are enough, and needed.
func TestToken(t *testing.T) {
	agent := consultest.Start(t, consultest.Options{ACL: true})
	admin := newClient(t, agent, consultest.ManagementToken)
	set(t, admin, []byte("a"))
	reader := token(t, admin, `key "mesh/orders.yaml" { policy = "read" }`)
	other := token(t, admin, `key "mesh/other.yaml" { policy = "write" }`)

	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	err := consul.Source{Client: newClient(t, agent, reader), Key: key}.Watch(ctx, func(document []byte) {
		if string(document) != "a" {
			t.Errorf("document %q, want a", document)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Watch() of a reader = %v, want %v", err, context.Canceled)
	}
	for name, secret := range map[string]string{"another key": other, "unknown token": "5f0a1d3c-6c39-4d1c-9f50-2f0b1d6f6a12", "no token": ""} {
		err := consul.Source{Client: newClient(t, agent, secret), Key: key}.Watch(t.Context(), func([]byte) { t.Errorf("%s: a document", name) })
		refused, ok := errors.AsType[*discovery.RefusedError](err)
		if !ok || !refused.Denied || !strings.Contains(err.Error(), agent.Addr()) || secret != "" && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: Watch() = %v, want it denied, with the address and without the token", name, err)
		}
	}
}

// token makes a token with the given rules and returns its secret.
func token(t testing.TB, admin *api.Client, rules string) string {
	t.Helper()
	policy, _, err := admin.ACL().PolicyCreate(&api.ACLPolicy{Name: strings.ToLower(rand.Text()), Rules: rules}, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, _, err := admin.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made.SecretID
}

func TestLiveChange(t *testing.T) {
	agent := consultest.Start(t, consultest.Options{})
	c := newClient(t, agent, "")
	livetest.Test(t, livetest.Store{
		Source:  consul.Source{Client: c, Key: key},
		Set:     func(t testing.TB, document []byte) { set(t, c, document) },
		Kill:    agent.Kill,
		Restart: agent.Restart, // without its data
	})
}
