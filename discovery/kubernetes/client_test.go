package kubernetes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

const kubeconfig = `
apiVersion: v1
kind: Config
current-context: one
clusters: [{name: c, cluster: {server: "https://kube.test:6443/prefix"}}]
users: [{name: u, user: {tokenFile: TOKEN}}]
contexts:
- {name: one, context: {cluster: c, user: u}}
- {name: two, context: {cluster: c, user: u, namespace: shop}}
`

func TestClientConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	token := write("token", "t")
	good, bad := write("good", strings.Replace(kubeconfig, "TOKEN", token, 1)), write("bad", "{")
	own := &rest.Config{Host: "127.0.0.1:1", BearerToken: "t"}
	for name, tt := range map[string]struct {
		config          ClientConfig
		pod             string // KUBERNETES_SERVICE_HOST
		env             string // KUBECONFIG
		base, namespace string
		tokenFile, err  string
	}{
		"REST":                    {config: ClientConfig{REST: own}, base: "http://127.0.0.1:1"},
		"REST in a pod":           {config: ClientConfig{REST: own}, pod: "10.0.0.1", base: "http://127.0.0.1:1"},
		"REST and a file":         {config: ClientConfig{REST: own, Kubeconfig: good}, err: "REST and also"},
		"REST of a bad host":      {config: ClientConfig{REST: &rest.Config{Host: "http://[::1"}}, err: "address"},
		"file":                    {config: ClientConfig{Kubeconfig: good}, base: "https://kube.test:6443/prefix", namespace: "default", tokenFile: token},
		"file in a pod":           {config: ClientConfig{Kubeconfig: good}, pod: "10.0.0.1", base: "https://kube.test:6443/prefix", namespace: "default", tokenFile: token},
		"context":                 {config: ClientConfig{Kubeconfig: good, Context: "two"}, base: "https://kube.test:6443/prefix", namespace: "shop", tokenFile: token},
		"unknown context":         {config: ClientConfig{Kubeconfig: good, Context: "three"}, err: "three"},
		"bad file":                {config: ClientConfig{Kubeconfig: bad}, err: "kubernetes: kubeconfig:"},
		"missing file":            {config: ClientConfig{Kubeconfig: filepath.Join(dir, "none")}, err: "none"},
		"environment":             {env: good, base: "https://kube.test:6443/prefix", namespace: "default", tokenFile: token},
		"nothing":                 {env: filepath.Join(dir, "none"), err: "set ClientConfig.Kubeconfig"},
		"pod without an account":  {pod: "10.0.0.1", err: "service account"},
		"context of a pod":        {config: ClientConfig{Context: "two"}, pod: "10.0.0.1", err: "without Kubeconfig"},
		"certificate of no file":  {config: ClientConfig{REST: &rest.Config{Host: "https://a", TLSClientConfig: rest.TLSClientConfig{CAFile: bad + "x"}}}, err: "kubernetes: client for a"},
		"token and its own limit": {config: ClientConfig{REST: &rest.Config{Host: "https://a", BearerTokenFile: "f", Timeout: 1, QPS: 1}}, base: "https://a", tokenFile: "f"},
	} {
		t.Setenv("KUBERNETES_SERVICE_HOST", tt.pod)
		t.Setenv("KUBECONFIG", tt.env)
		c, err := NewClient(tt.config)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: NewClient() = %v, want %q", name, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: NewClient() = %v", name, err)
			continue
		}
		if got := strings.TrimSuffix(c.api.Base.String(), "/"); got != tt.base || c.namespace != tt.namespace || c.api.TokenFile != tt.tokenFile || c.api.HTTP.Timeout != 0 {
			t.Errorf("%s: %q, %q, %q, %v, want %q, %q, %q, 0", name, got, c.namespace, c.api.TokenFile, c.api.HTTP.Timeout, tt.base, tt.namespace, tt.tokenFile)
		}
	}
}

func TestPodConfig(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "6443")
	account := t.TempDir()
	for _, file := range []string{"ca.crt", "token", "namespace"} {
		if _, _, err := inCluster(account); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("without %s: %v, want an error that names it", file, err)
		}
		if err := os.WriteFile(filepath.Join(account, file), []byte("team\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, namespace, err := inCluster(account)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := config.Host, "https://[fd00::1]:6443"; got != want || namespace != "team" {
		t.Errorf("host %q, namespace %q, want %q, team", got, namespace, want)
	}
}
