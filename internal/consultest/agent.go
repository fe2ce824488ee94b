//go:build unix

package consultest

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/internal/servertest"
)

// ManagementToken may do everything at an agent with ACLs.
const ManagementToken = "5f0a1d3c-6c39-4d1c-9f50-2f0b1d6f6a11"

// startTimeout is how long an agent may take to have a leader. It takes 0.3 s on an idle machine.
const startTimeout = 60 * time.Second

// electionTimeout is how long a cluster may take, before it is started anew. It takes 2 s on an idle machine.
const electionTimeout = 10 * time.Second

// Options are the options of Start.
type Options struct {
	// ACL denies everything by default and makes ManagementToken valid.
	ACL bool
	// Datacenter is that of the agent. Empty means "dc1".
	Datacenter string
	// Zone is the zone in the metadata of the node, if not empty.
	Zone string
	// Join is an agent of another datacenter, which this one makes known. nil means none.
	Join *Agent
}

// Agent is a Consul agent, which is its own server. It keeps its state in memory: Kill and Restart lose it. That of a
// Cluster keeps it on disk.
// It is not safe for concurrent use.
type Agent struct {
	*servertest.Process
	bin, dir string
	opts     Options
	ports    ports
	member   *member // nil if it is alone
}

type ports struct{ http, server, serf, wan int }

// Start starts an agent and waits until it has a leader. It skips the test if there is no Consul server; see
// testenv.Need. The log of the agent is shown if the test fails.
func Start(t testing.TB, opts Options) *Agent {
	t.Helper()
	a := newAgent(t, opts)
	for range 5 {
		a.ports = freePorts(t)
		if a.run(t) {
			return a
		}
	}
	t.Fatalf("consul: no free ports in 5 attempts:\n%s", a.Log())
	return nil
}

// newAgent returns an agent that is ended with the test, once it runs.
func newAgent(t testing.TB, opts Options) *Agent {
	dir := t.TempDir()
	return &Agent{Process: servertest.New(t, "consul", dir), bin: binary(t), dir: dir, opts: opts}
}

// Addr returns the address of the HTTP API.
func (a *Agent) Addr() string { return fmt.Sprintf("127.0.0.1:%d", a.ports.http) }

// Config returns the configuration of a client with the given ACL token.
func (a *Agent) Config(token string) *api.Config {
	if a.member != nil {
		return &api.Config{Address: a.Addr(), Scheme: "https", Token: token, TLSConfig: a.member.tls()}
	}
	return &api.Config{Address: a.Addr(), Scheme: "http", Token: token}
}

// Restart starts the agent again after Kill, on the same ports. One that is alone has nothing registered then.
func (a *Agent) Restart(t testing.TB) {
	t.Helper()
	for range 5 {
		if a.run(t) {
			return
		}
	}
	t.Fatalf("consul: the ports of the agent were taken over:\n%s", a.Log())
}

// run starts the process and waits until it serves. It returns false if a port is in use.
func (a *Agent) run(t testing.TB) bool {
	t.Helper()
	a.launch(t)
	return a.await(t)
}

// launch starts the process.
func (a *Agent) launch(t testing.TB) {
	t.Helper()
	config := filepath.Join(a.dir, "agent.hcl")
	if err := os.WriteFile(config, []byte(a.config()), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"agent", "-config-file", config}
	if a.member == nil {
		args = append(args, "-dev")
	}
	a.Process.Start(t, a.bin, args)
}

// await waits until the process serves. It returns false if a port is in use, or if a cluster finds no leader: servers that
// cannot reach each other the first time they try wait for longer and longer before they elect one.
func (a *Agent) await(t testing.TB) bool {
	t.Helper()
	if a.member == nil {
		return a.Up(t, startTimeout, a.ready)
	}
	return a.Await(t, electionTimeout, a.ready) == nil
}

// ready reports whether the agent has a leader and, with ACLs, knows its token.
func (a *Agent) ready() bool {
	leader, ok := a.get("/v1/status/leader")
	if !ok || bytes.Equal(bytes.TrimSpace(leader), []byte(`""`)) {
		return false
	}
	if a.opts.ACL {
		_, ok = a.get("/v1/acl/token/self")
	}
	return ok
}

func (a *Agent) get(path string) ([]byte, bool) {
	transport, scheme := &http.Transport{DisableKeepAlives: true}, "http://"
	if a.member != nil {
		config := a.member.tls()
		tls, err := api.SetupTLSConfig(&config)
		if err != nil {
			return nil, false
		}
		transport.TLSClientConfig, scheme = tls, "https://"
	}
	client := http.Client{Timeout: time.Second, Transport: transport}
	req, err := http.NewRequest(http.MethodGet, scheme+a.Addr()+path, nil)
	if err != nil {
		return nil, false
	}
	req.Header.Set("X-Consul-Token", ManagementToken)
	if !a.opts.ACL {
		req.Header.Del("X-Consul-Token")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, false
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	return body.Bytes(), err == nil && resp.StatusCode == http.StatusOK
}

func (a *Agent) config() string {
	if a.member != nil {
		return a.member.config(a.ports, filepath.Join(a.dir, fmt.Sprint("data-", a.ports.http)))
	}
	config := fmt.Sprintf(`
bind_addr            = "127.0.0.1"
client_addr          = "127.0.0.1"
log_level            = "warn"
disable_update_check = true
ports {
  http = %d
  server = %d
  serf_lan = %d
  serf_wan = %d
  dns = -1
  grpc = -1
  grpc_tls = -1
}
node_name = "n%[1]d"
datacenter = %[5]q
`, a.ports.http, a.ports.server, a.ports.serf, a.ports.wan, cmp.Or(a.opts.Datacenter, "dc1"))
	if a.opts.Zone != "" {
		config += fmt.Sprintf("node_meta { zone = %q }\n", a.opts.Zone)
	}
	if a.opts.Join != nil {
		config += fmt.Sprintf("retry_join_wan = [\"127.0.0.1:%d\"]\nretry_interval_wan = \"1s\"\n", a.opts.Join.ports.wan)
	}
	if a.opts.ACL {
		config += fmt.Sprintf(`
acl {
  enabled        = true
  default_policy = "deny"
  tokens {
    initial_management = %[1]q
    agent              = %[1]q
  }
}
`, ManagementToken)
	}
	return config
}

func freePorts(t testing.TB) ports {
	t.Helper()
	list := servertest.FreePorts(t, 4)
	return ports{http: list[0], server: list[1], serf: list[2], wan: list[3]}
}
