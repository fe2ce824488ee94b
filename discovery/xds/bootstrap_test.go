package xds

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// istioBootstrap is what the agent of Istio writes for gRPC, but for the length of it.
const istioBootstrap = `{
	"xds_servers": [{
		"server_uri": "unix:///etc/istio/proxy/XDS",
		"channel_creds": [{"type": "google_default"}, {"type": "insecure"}],
		"server_features": ["xds_v3", "ignore_resource_deletion"]
	}, {"server_uri": "other:1"}],
	"node": {
		"id": "sidecar~10.1.2.3~orders-1.default~default.svc.cluster.local",
		"cluster": "orders",
		"metadata": {"GENERATOR": "grpc", "LABELS": {"app": "orders"}},
		"locality": {"region": "eu", "zone": "eu-1", "sub_zone": "a"},
		"something new": 1
	},
	"certificate_providers": {"default": {"plugin_name": "file_watcher"}},
	"server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s"
}`

func TestParseBootstrap(t *testing.T) {
	config, err := ParseBootstrap([]byte(istioBootstrap))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := config.Server, "unix:///etc/istio/proxy/XDS"; got != want {
		t.Errorf("Server = %q, want %q", got, want)
	}
	if got, want := config.Credentials.Info().SecurityProtocol, "insecure"; got != want {
		t.Errorf("Credentials are %q, want %q", got, want)
	}
	if config.DeleteGrace >= 0 {
		t.Errorf("DeleteGrace = %v, want it negative", config.DeleteGrace)
	}
	want := Node{
		ID: "sidecar~10.1.2.3~orders-1.default~default.svc.cluster.local", Cluster: "orders", Region: "eu", Zone: "eu-1", SubZone: "a",
		Metadata: map[string]any{"GENERATOR": "grpc", "LABELS": map[string]any{"app": "orders"}},
	}
	if diff := cmp.Diff(want, config.Node); diff != "" {
		t.Errorf("Node (-want +got):\n%s", diff)
	}
	r, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if zone, err := r.Zone(t.Context()); zone != "eu-1" || err != nil {
		t.Errorf("Zone() = %q, %v, want eu-1", zone, err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

func TestParseBootstrapNamesAllMistakes(t *testing.T) {
	for text, want := range map[string][]string{
		`{`:  {"xds: bootstrap: unexpected end"},
		`{}`: {"xds_servers is missing", "node.id is missing"},
		`{"xds_servers": [{"channel_creds": [{"type": "google_default"}]}], "node": {"id": 7}}`: {
			"xds_servers[0].server_uri is missing",
			`xds_servers[0].channel_creds: none of ["google_default"] is supported`,
			"bootstrap: node: ",
		},
		`{"xds_servers": [{"server_uri": "a:1"}], "node": {"id": "a"}}`: {"channel_creds: missing"},
		`{"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "tls", "config": {"certificate_file": "a"}}]}], "node": {"id": "a"}}`: {
			"channel_creds: [0].config: certificate_file and private_key_file belong together",
		},
	} {
		_, err := ParseBootstrap([]byte(text))
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("ParseBootstrap(%s) = %v, want %q in it", text, err, part)
			}
		}
	}
}

func TestBootstrapReadsEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, []byte(istioBootstrap), 0o600); err != nil {
		t.Fatal(err)
	}
	inline := strings.Replace(istioBootstrap, "unix:///etc/istio/proxy/XDS", "inline:1", 1)
	for name, tt := range map[string]struct{ file, text, server, err string }{
		"nothing":      {err: "neither GRPC_XDS_BOOTSTRAP nor GRPC_XDS_BOOTSTRAP_CONFIG is set"},
		"file":         {file: file, server: "unix:///etc/istio/proxy/XDS"},
		"text":         {text: inline, server: "inline:1"},
		"file first":   {file: file, text: inline, server: "unix:///etc/istio/proxy/XDS"},
		"no such file": {file: file + "x", text: inline, err: "xds: GRPC_XDS_BOOTSTRAP: open "},
		"bad text":     {text: "{}", err: "(GRPC_XDS_BOOTSTRAP_CONFIG)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(bootstrapFile, tt.file)
			t.Setenv(bootstrapText, tt.text)
			config, err := Bootstrap()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("Bootstrap() = %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || config.Server != tt.server {
				t.Errorf("Bootstrap() = %q, %v, want %q", config.Server, err, tt.server)
			}
		})
	}
}

func TestNewNamesAllMistakes(t *testing.T) {
	_, err := New(Config{Node: Node{Metadata: map[string]any{"x": make(chan int)}}})
	for _, want := range []string{"Config.Server is missing", "Config.Node.ID is missing", "Config.Node.Metadata: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New() = %v, want %q in it", err, want)
		}
	}
}

func FuzzParseBootstrap(f *testing.F) {
	f.Add([]byte(istioBootstrap))
	f.Fuzz(func(t *testing.T, text []byte) {
		config, err := ParseBootstrap(text)
		if err != nil {
			return
		}
		if err := config.check(); err != nil || config.Credentials == nil {
			t.Errorf("accepted a configuration that is not usable: %v", err)
		}
	})
}
