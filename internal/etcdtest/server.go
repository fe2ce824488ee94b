//go:build unix

package etcdtest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop/internal/servertest"
	"github.com/zerohop/zerohop/internal/testenv"
)

// startTimeout is how long servers may take to have a leader. It takes 0.3 s on an idle machine.
const startTimeout = 60 * time.Second

// Options are the options of Start and StartCluster.
type Options struct {
	// Args are further arguments of the servers.
	Args []string
}

// Server is an etcd server. It is not safe for concurrent use.
type Server struct {
	*servertest.Process
	bin, dir string
	name     string
	opts     Options
	ports    ports
	cluster  string // --initial-cluster
}

type ports struct{ client, peer int }

// Start starts a server and waits until it serves. It skips the test if there is no etcd; see testenv.Need. The log of the
// server is shown if the test fails.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	return StartCluster(t, 1, opts)[0]
}

// StartCluster starts a cluster of n servers and waits until it has a leader.
func StartCluster(t testing.TB, n int, opts Options) []*Server {
	t.Helper()
	bin := binary(t)
	for range 5 {
		servers := newCluster(t, n, bin, opts)
		for _, s := range servers {
			s.run(t)
		}
		if ready(t, servers) {
			return servers
		}
	}
	t.Fatal("etcd: no free ports in 5 attempts")
	return nil
}

func binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("ZEROHOP_ETCD"); path != "" {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("ZEROHOP_ETCD: %v", err)
		}
		return path
	}
	path, err := exec.LookPath("etcd")
	if err != nil {
		testenv.Need(t, "etcd", "no etcd server: install the package etcd-server, or name one in ZEROHOP_ETCD")
	}
	return path
}

func newCluster(t testing.TB, n int, bin string, opts Options) []*Server {
	t.Helper()
	var members []string
	free := servertest.FreePorts(t, 2*n)
	servers := make([]*Server, n)
	for i := range servers {
		dir := t.TempDir()
		s := &Server{
			Process: servertest.New(t, "etcd", dir), bin: bin, dir: dir, name: fmt.Sprintf("s%d", i), opts: opts,
			ports: ports{client: free[2*i], peer: free[2*i+1]},
		}
		servers[i] = s
		members = append(members, fmt.Sprintf("%s=http://127.0.0.1:%d", s.name, s.ports.peer))
	}
	for _, s := range servers {
		s.cluster = strings.Join(members, ",")
	}
	return servers
}

// Addr returns the address for clients, "127.0.0.1:port".
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.ports.client) }

// Wipe removes the data of a killed server.
func (s *Server) Wipe(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(s.data()); err != nil {
		t.Fatal(err)
	}
}

// Restart starts a killed server again on the same ports, with the data it has, and waits until it serves. In a cluster
// others must be there to elect a leader with.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	for range 5 {
		s.run(t)
		if ready(t, []*Server{s}) {
			return
		}
	}
	t.Fatalf("etcd: the ports of the server were taken over:\n%s", s.Log())
}

// run starts the process.
func (s *Server) run(t testing.TB) {
	t.Helper()
	client, peer := "http://"+s.Addr(), fmt.Sprintf("http://127.0.0.1:%d", s.ports.peer)
	args := append([]string{
		"--name", s.name, "--data-dir", s.data(), "--initial-cluster", s.cluster,
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--unsafe-no-fsync", "--heartbeat-interval", "25", "--election-timeout", "250",
		"--logger", "zap", "--log-level", "warn",
	}, s.opts.Args...)
	// etcd refuses to run where it is not well tested unless it is told so.
	s.Process.Start(t, s.bin, args, "ETCD_UNSUPPORTED_ARCH="+runtime.GOARCH)
}

// ready waits until all servers serve. It returns false, and has ended all of them, if a port is in use.
func ready(t testing.TB, servers []*Server) bool {
	t.Helper()
	for _, s := range servers {
		if !s.Up(t, startTimeout, s.healthy) {
			for _, s := range servers {
				s.End()
			}
			return false
		}
	}
	return true
}

// healthy reports whether the server has a leader and answers.
func (s *Server) healthy() bool {
	client := http.Client{Timeout: time.Second / 2, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.Addr() + "/health")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }
