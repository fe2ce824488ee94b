//go:build unix

package consultest

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
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
	bin, dir string
	opts     Options
	ports    ports
	member   *member // nil if it is alone
	process  process
	started  chan process // to reap
}

type process struct {
	*exec.Cmd
	exited chan struct{} // closed when it has ended
	log    int           // where its log begins
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
	t.Fatalf("consul: no free ports in 5 attempts:\n%s", a.log())
	return nil
}

// newAgent returns an agent that is ended with the test, once it runs.
func newAgent(t testing.TB, opts Options) *Agent {
	a := &Agent{bin: binary(t), dir: t.TempDir(), opts: opts, started: make(chan process)}
	reaped := make(chan struct{})
	// One goroutine for all processes: a restart within a test starts none, which a check for leaks would find.
	go func() {
		defer close(reaped)
		for p := range a.started {
			_ = p.Wait()
			close(p.exited)
		}
	}()
	t.Cleanup(func() {
		a.end(t)
		close(a.started)
		<-reaped
	})
	return a
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

// Kill ends the agent with SIGKILL and waits until it is gone.
func (a *Agent) Kill(t testing.TB) {
	t.Helper()
	a.signal(t, syscall.SIGKILL)
	<-a.process.exited
}

// Stop freezes the agent: its sockets stay open and nobody answers.
func (a *Agent) Stop(t testing.TB) {
	t.Helper()
	a.signal(t, syscall.SIGSTOP)
	// The signal is on its way when it was sent: until every thread has it, the agent may answer.
	for !stopped(a.process.Process.Pid) {
		runtime.Gosched()
	}
}

// stopped reports whether no thread of the process runs. Where there is no /proc, it is taken for granted.
func stopped(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range tasks {
		stat, _ := os.ReadFile(name) // fails if the thread has ended
		if i := bytes.LastIndexByte(stat, ')'); i >= 0 && !bytes.HasPrefix(stat[i:], []byte(") T")) && !bytes.HasPrefix(stat[i:], []byte(") Z")) {
			return false
		}
	}
	return true
}

// Cont ends what Stop began.
func (a *Agent) Cont(t testing.TB) { t.Helper(); a.signal(t, syscall.SIGCONT) }

// Restart starts the agent again after Kill, on the same ports. One that is alone has nothing registered then.
func (a *Agent) Restart(t testing.TB) {
	t.Helper()
	for range 5 {
		if a.run(t) {
			return
		}
	}
	t.Fatalf("consul: the ports of the agent were taken over:\n%s", a.log())
}

func (a *Agent) signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := a.process.Process.Signal(sig); err != nil {
		t.Fatalf("consul: %v: %v", sig, err)
	}
}

func (a *Agent) end(t testing.TB) {
	if a.process.Cmd != nil {
		_ = a.process.Process.Kill() // fails if it has ended before
		<-a.process.exited
	}
	if t.Failed() {
		t.Logf("log of the Consul agent at %s:\n%s", a.Addr(), a.log())
	}
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
	log, err := os.OpenFile(a.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	args := []string{"agent", "-config-file", config}
	if a.member == nil {
		args = append(args, "-dev")
	}
	p := process{exec.Command(a.bin, args...), make(chan struct{}), len(a.log())}
	p.Stdout, p.Stderr = log, log
	p.SysProcAttr = procAttr()
	p.Env = []string{"HOME=" + a.dir, "PATH=" + os.Getenv("PATH")}
	if err := p.Start(); err != nil {
		t.Fatalf("consul: %v", err)
	}
	a.process = p
	a.started <- p
}

// await waits until the process serves. It returns false if a port is in use, or if a cluster finds no leader: servers that
// cannot reach each other the first time they try wait for longer and longer before they elect one.
func (a *Agent) await(t testing.TB) bool {
	t.Helper()
	p := a.process
	limit := startTimeout
	if a.member != nil {
		limit = electionTimeout
	}
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if a.ready() {
				return true
			}
		case <-p.exited:
			if strings.Contains(a.log()[p.log:], "address already in use") {
				return false
			}
			t.Fatalf("consul: the agent ended:\n%s", a.log())
		case <-deadline:
			if a.member != nil {
				return false
			}
			t.Fatalf("consul: no leader within %v:\n%s", startTimeout, a.log())
		}
	}
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

func (a *Agent) logFile() string { return filepath.Join(a.dir, "agent.log") }

func (a *Agent) log() string {
	text, _ := os.ReadFile(a.logFile())
	return string(text)
}

// freePorts returns ports that nobody listened on a moment ago. Another process may be faster: the caller retries.
func freePorts(t testing.TB) ports {
	t.Helper()
	var p ports
	for _, port := range []*int{&p.http, &p.server, &p.serf, &p.wan} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // at the end, so that all differ
		*port = l.Addr().(*net.TCPAddr).Port
	}
	return p
}
