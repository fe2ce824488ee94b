//go:build unix

package consultest

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
)

// Cluster is three Consul servers that deny everything without ManagementToken and everybody without a certificate.
// It is not safe for concurrent use.
type Cluster struct {
	agents []*Agent
}

// member is what the servers of a cluster share.
type member struct {
	certs string // folder
	serf  []int  // ports of all
}

// StartCluster starts a cluster and waits until it has a leader. It skips the test if there is no Consul server.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	certs := t.TempDir()
	for _, args := range [][]string{
		{"ca", "create"}, {"cert", "create", "-server", "-additional-ipaddress", "127.0.0.1"}, {"cert", "create", "-client"},
	} {
		cmd := exec.Command(binary(t), append([]string{"tls"}, args...)...)
		cmd.Dir = certs
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("consul tls %v: %v\n%s", args, err, out)
		}
	}
	c := &Cluster{}
	for range 3 {
		c.agents = append(c.agents, newAgent(t, Options{ACL: true}))
	}
	for range 5 {
		if c.run(t, certs) {
			return c
		}
	}
	t.Fatalf("consul: no leader, or no free ports, in 5 attempts:\n%s", c.agents[0].Log())
	return nil
}

// run starts all servers. It returns false if a port is in use or nobody is elected, with none running.
func (c *Cluster) run(t testing.TB, certs string) bool {
	t.Helper()
	m := &member{certs: certs}
	for _, a := range c.agents {
		a.member, a.ports = m, freePorts(t)
		m.serf = append(m.serf, a.ports.serf)
	}
	for _, a := range c.agents {
		a.launch(t)
	}
	for _, a := range c.agents {
		if !a.await(t) {
			for _, a := range c.agents {
				a.End()
			}
			return false
		}
	}
	return true
}

// Leader returns the server that leads and the other two.
func (c *Cluster) Leader(t testing.TB) (leader *Agent, others []*Agent) {
	t.Helper()
	text, _ := c.agents[0].get("/v1/status/leader")
	addr := strings.Trim(string(bytes.TrimSpace(text)), `"`)
	for _, a := range c.agents {
		if addr == fmt.Sprintf("127.0.0.1:%d", a.ports.server) {
			leader = a
		} else {
			others = append(others, a)
		}
	}
	if leader == nil {
		t.Fatalf("consul: leader %q is none of the cluster", addr)
	}
	return leader, others
}

func (m *member) tls() api.TLSConfig {
	return api.TLSConfig{
		Address:  "127.0.0.1",
		CAFile:   filepath.Join(m.certs, "consul-agent-ca.pem"),
		CertFile: filepath.Join(m.certs, "dc1-client-consul-0.pem"),
		KeyFile:  filepath.Join(m.certs, "dc1-client-consul-0-key.pem"),
	}
}

func (m *member) config(p ports, data string) string {
	var join []string
	for _, port := range m.serf {
		join = append(join, fmt.Sprintf(`"127.0.0.1:%d"`, port))
	}
	return fmt.Sprintf(`
node_name            = "s%[1]d"
server               = true
bootstrap_expect     = 3
data_dir             = %[2]q
bind_addr            = "127.0.0.1"
client_addr          = "127.0.0.1"
advertise_addr       = "127.0.0.1"
log_level            = "warn"
disable_update_check = true
retry_join           = [%[3]s]
retry_interval       = "1s"
ports {
  http = -1
  https = %[1]d
  server = %[4]d
  serf_lan = %[5]d
  serf_wan = -1
  dns = -1
  grpc = -1
  grpc_tls = -1
}
performance {
  raft_multiplier  = 1
  leave_drain_time = "0s"
}
acl {
  enabled                  = true
  default_policy           = "deny"
  enable_token_persistence = true
  tokens {
    initial_management = %[6]q
    agent              = %[6]q
  }
}
tls {
  defaults {
    ca_file         = "%[7]s/consul-agent-ca.pem"
    cert_file       = "%[7]s/dc1-server-consul-0.pem"
    key_file        = "%[7]s/dc1-server-consul-0-key.pem"
    verify_incoming = true
    verify_outgoing = true
  }
  internal_rpc {
    verify_server_hostname = true
  }
}
`, p.http, data, strings.Join(join, ", "), p.server, p.serf, ManagementToken, m.certs)
}
