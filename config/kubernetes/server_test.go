//go:build unix

package kubernetes_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zerohop/zerohop/config/configtest"
	"github.com/zerohop/zerohop/config/kubernetes"
	"github.com/zerohop/zerohop/discovery"
	discoverykubernetes "github.com/zerohop/zerohop/discovery/kubernetes"
	"github.com/zerohop/zerohop/internal/kubetest"
	"github.com/zerohop/zerohop/internal/livetest"
)

const (
	folder = "/api/v1/namespaces/default/configmaps"
	name   = "mesh"
	key    = "mesh.yaml"
	// patience is how long things may take that have no bound of their own.
	patience = 15 * time.Second
)

func newClient(t testing.TB, server *kubetest.Server, token string) *discoverykubernetes.Client {
	t.Helper()
	c, err := discoverykubernetes.NewClient(discoverykubernetes.ClientConfig{REST: server.Config(token)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// set makes value that of the key, or deletes the ConfigMap if it is nil.
func set(t testing.TB, server *kubetest.Server, value []byte) {
	t.Helper()
	if value == nil {
		server.Do(t, http.MethodDelete, folder+"/"+name, nil)
		return
	}
	put(t, server, &corev1.ConfigMap{Data: map[string]string{key: string(value)}})
}

func put(t testing.TB, server *kubetest.Server, object *corev1.ConfigMap) {
	t.Helper()
	object.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
	object.Name = name
	if server.Do(t, http.MethodPut, folder+"/"+name, object) == http.StatusNotFound {
		server.Do(t, http.MethodPost, folder, object)
	}
}

func TestServer(t *testing.T) {
	server := kubetest.Start(t)
	source := kubernetes.Source{Client: newClient(t, server, kubetest.AdminToken), Name: name, Key: key}
	t.Run("Conformance", func(t *testing.T) {
		configtest.Test(t, configtest.Source{
			Source: source,
			Set:    func(t testing.TB, document []byte) { set(t, server, document) },
			Size:   1000 << 10, // Kubernetes takes 1 MiB
		})
	})
	t.Run("Keys", func(t *testing.T) { checkKeys(t, server, source) })
	t.Run("Role", func(t *testing.T) { checkRole(t, server) })
	t.Run("LiveChange", func(t *testing.T) {
		livetest.Test(t, livetest.Store{
			Source:  source,
			Set:     func(t testing.TB, document []byte) { set(t, server, document) },
			Kill:    server.Kill,
			Restart: server.Restart,
		})
	})
}

// checkKeys checks what of a ConfigMap is a document.
func checkKeys(t *testing.T, server *kubetest.Server, source kubernetes.Source) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	steps := []*corev1.ConfigMap{
		{Data: map[string]string{key: "a"}},
		{Data: map[string]string{key: "a", "other": "x"}}, // tells nothing
		{BinaryData: map[string][]byte{key: []byte("b")}},
		{Data: map[string]string{key: ""}},
		{Data: map[string]string{"other": "x"}},
		{Data: map[string]string{key: "c"}, BinaryData: map[string][]byte{"other": {0}}},
	}
	set(t, server, nil)
	var got []string
	_ = source.Watch(ctx, func(d []byte) {
		got = append(got, fmt.Sprintf("%s %v", d, d == nil))
		for len(steps) > 0 {
			put(t, server, steps[0])
			steps = steps[1:]
			if len(steps) != 4 {
				return
			}
		}
		cancel()
	})
	if want := []string{" true", "a false", "b false", " false", " true", "c false"}; !slices.Equal(got, want) {
		t.Errorf("documents %q, want %q", got, want)
	}
}

// checkRole checks that the Role that the package comment gives is enough, and needed.
func checkRole(t *testing.T, server *kubetest.Server) {
	set(t, server, []byte("a"))
	source := kubernetes.Source{Client: newClient(t, server, kubetest.StrangerToken), Name: name, Key: key}
	denied := func(s kubernetes.Source) {
		t.Helper()
		err := s.Watch(t.Context(), func([]byte) { t.Error("a document") })
		refused, ok := errors.AsType[*discovery.RefusedError](err)
		if !ok || !refused.Denied || !strings.Contains(err.Error(), server.Addr()) || strings.Contains(err.Error(), kubetest.StrangerToken) {
			t.Errorf("Watch() = %v, want it denied, with the address and without the token", err)
		}
	}
	denied(source)
	const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/"
	for resource, object := range map[string]any{
		"roles": &rbacv1.Role{
			ObjectMeta: metav1.ObjectMeta{Name: "mesh-reader"},
			Rules: []rbacv1.PolicyRule{{
				APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{name}, Verbs: []string{"list", "watch"},
			}},
		},
		"rolebindings": &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "mesh-reader"},
			Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "stranger"}},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "mesh-reader"},
		},
	} {
		if code := server.Do(t, http.MethodPost, rbac+resource, object); code != http.StatusCreated {
			t.Fatalf("create %s: status %d", resource, code)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []string
	for len(got) == 0 && ctx.Err() == nil { // the server learns of a new role a moment later
		_ = source.Watch(ctx, func(d []byte) {
			switch got = append(got, string(d)); len(got) {
			case 1:
				set(t, server, []byte("b"))
			case 2:
				cancel()
			}
		})
	}
	if want := []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("documents for a reader %q, want %q", got, want)
	}
	source.Name = "other"
	denied(source)
}
