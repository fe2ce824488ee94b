//go:build unix

package etcdtest

import (
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
	bin, dir string
	name     string
	opts     Options
	ports    ports
	cluster  string // --initial-cluster
	process  process
	started  chan process // to reap
}

type process struct {
	*exec.Cmd
	exited chan struct{} // closed when it has ended
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
	free := freePorts(t, 2*n)
	servers := make([]*Server, n)
	for i := range servers {
		s := &Server{
			bin: bin, dir: t.TempDir(), name: fmt.Sprintf("s%d", i), opts: opts,
			ports: ports{client: free[2*i], peer: free[2*i+1]}, started: make(chan process),
		}
		servers[i] = s
		members = append(members, fmt.Sprintf("%s=http://127.0.0.1:%d", s.name, s.ports.peer))
		reaped := make(chan struct{})
		// One goroutine for all processes: a restart within a test starts none, which a check for leaks would find.
		go func() {
			defer close(reaped)
			for p := range s.started {
				_ = p.Wait()
				close(p.exited)
			}
		}()
		t.Cleanup(func() {
			s.end(t)
			close(s.started)
			<-reaped
		})
	}
	for _, s := range servers {
		s.cluster = strings.Join(members, ",")
	}
	return servers
}

// Addr returns the address for clients, "127.0.0.1:port".
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.ports.client) }

// Kill ends the server with SIGKILL and waits until it is gone. Its data stays.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGKILL)
	<-s.process.exited
}

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
	t.Fatalf("etcd: the ports of the server were taken over:\n%s", s.log())
}

// Stop freezes the server: its sockets stay open and nobody answers.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
	// The signal is on its way when it was sent: until every thread has it, the server may answer.
	for !stopped(s.process.Process.Pid) {
		runtime.Gosched()
	}
}

// stopped reports whether no thread of the process runs. Where there is no /proc, it is taken for granted.
func stopped(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range tasks {
		stat, _ := os.ReadFile(name) // fails if the thread has ended
		_, state, ok := strings.Cut(string(stat), ") ")
		if ok && state[0] != 'T' && state[0] != 'Z' {
			return false
		}
	}
	return true
}

// Cont ends what Stop began.
func (s *Server) Cont(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGCONT) }

func (s *Server) signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := s.process.Process.Signal(sig); err != nil {
		t.Fatalf("etcd: %v: %v", sig, err)
	}
}

func (s *Server) end(t testing.TB) {
	if s.process.Cmd != nil {
		_ = s.process.Process.Kill() // fails if it has ended before
		<-s.process.exited
	}
	if t.Failed() {
		t.Logf("log of the etcd server at %s:\n%s", s.Addr(), s.log())
	}
}

// run starts the process.
func (s *Server) run(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	client, peer := "http://"+s.Addr(), fmt.Sprintf("http://127.0.0.1:%d", s.ports.peer)
	p := process{exec.Command(s.bin, append([]string{
		"--name", s.name, "--data-dir", s.data(), "--initial-cluster", s.cluster,
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--unsafe-no-fsync", "--heartbeat-interval", "25", "--election-timeout", "250",
		"--logger", "zap", "--log-level", "warn",
	}, s.opts.Args...)...), make(chan struct{})}
	p.Stdout, p.Stderr = log, log
	p.SysProcAttr = procAttr()
	// etcd refuses to run where it is not well tested unless it is told so.
	p.Env = []string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH"), "ETCD_UNSUPPORTED_ARCH=" + runtime.GOARCH}
	if err := p.Start(); err != nil {
		t.Fatalf("etcd: %v", err)
	}
	s.process = p
	s.started <- p
}

// ready waits until all servers serve. It returns false, and has ended all of them, if a port is in use.
func ready(t testing.TB, servers []*Server) bool {
	t.Helper()
	deadline := time.After(startTimeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, s := range servers {
		for !s.healthy() {
			select {
			case <-tick.C:
			case <-s.process.exited:
				if !strings.Contains(s.log(), "address already in use") {
					t.Fatalf("etcd: the server ended:\n%s", s.log())
				}
				for _, s := range servers {
					_ = s.process.Process.Kill() // fails if it has ended before
					<-s.process.exited
				}
				return false
			case <-deadline:
				t.Fatalf("etcd: no leader within %v:\n%s", startTimeout, s.log())
			}
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

func (s *Server) data() string    { return filepath.Join(s.dir, "data") }
func (s *Server) logFile() string { return filepath.Join(s.dir, "etcd.log") }

func (s *Server) log() string {
	text, _ := os.ReadFile(s.logFile())
	return string(text)
}

// freePorts returns ports that nobody listened on a moment ago. Another process may be faster: the caller retries.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	list := make([]int, n)
	for i := range list {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // at the end, so that all differ
		list[i] = l.Addr().(*net.TCPAddr).Port
	}
	return list
}
