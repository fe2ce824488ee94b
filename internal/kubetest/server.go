//go:build unix

package kubetest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// Tokens that the server knows: one may do everything, the other nothing.
const (
	AdminToken    = "kubetest-admin"
	StrangerToken = "kubetest-stranger"
)

// startTimeout is how long the server may take. It takes 5 s on an idle machine.
const startTimeout = 90 * time.Second

// Server is an API server with an etcd of its own, which keeps the objects through Kill and Restart. It is not safe for
// concurrent use.
type Server struct {
	client          *http.Client
	apiServer, etcd string // binaries
	dir             string
	port            int
	etcdPort        int
	api, store      process
	apis, stores    chan process // to reap
}

type process struct {
	*exec.Cmd
	log    string        // file
	exited chan struct{} // closed when it has ended
}

// Start starts a server and waits until it is ready. It skips the test if there is none; see testenv.Need. The logs are
// shown if the test fails.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{client: newClient(), dir: t.TempDir(), apis: make(chan process), stores: make(chan process)}
	s.apiServer, s.etcd = binaries(t)
	// One goroutine for all processes of a kind: a restart within a test starts none, which a check for leaks would find.
	var reapers sync.WaitGroup
	for _, started := range []chan process{s.apis, s.stores} {
		reapers.Go(func() {
			for p := range started {
				_ = p.Wait()
				close(p.exited)
			}
		})
	}
	t.Cleanup(func() {
		s.end(t)
		s.client.CloseIdleConnections()
		close(s.apis)
		close(s.stores)
		reapers.Wait()
	})
	s.credentials(t)
	for range 5 {
		ports := freePorts(t, 2)
		s.etcdPort = ports[0]
		if s.runEtcd(t, ports[1]) {
			break
		}
	}
	for range 5 {
		s.port = freePorts(t, 1)[0]
		if s.run(t) {
			return s
		}
	}
	t.Fatalf("kubernetes: no free ports in 5 attempts:\n%s", s.api.text())
	return nil
}

// Addr returns the address of the API.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// CAFile returns the certificate of the server.
func (s *Server) CAFile() string { return filepath.Join(s.dir, "certs", "apiserver.crt") }

// Config returns the configuration of a client with the given token.
func (s *Server) Config(token string) *rest.Config {
	return &rest.Config{Host: "https://" + s.Addr(), BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAFile: s.CAFile()}}
}

// Kill ends the API server with SIGKILL and waits until it is gone. etcd goes on.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGKILL)
	<-s.api.exited
}

// Restart starts the API server again after Kill, on the same port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	for range 5 {
		if s.run(t) {
			return
		}
	}
	t.Fatalf("kubernetes: the port of the server was taken over:\n%s", s.api.text())
}

// Stop freezes the API server: its sockets stay open and nobody answers.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
	// The signal is on its way when it was sent: until every thread has it, the server may answer.
	for !stopped(s.api.Process.Pid) {
		runtime.Gosched()
	}
}

// Cont ends what Stop began.
func (s *Server) Cont(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGCONT) }

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

func (s *Server) signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := s.api.Process.Signal(sig); err != nil {
		t.Fatalf("kubernetes: %v: %v", sig, err)
	}
}

func (s *Server) end(t testing.TB) {
	for _, p := range []process{s.api, s.store} {
		if p.Cmd == nil {
			continue
		}
		_ = p.Process.Kill() // fails if it has ended before
		<-p.exited
		if t.Failed() {
			t.Logf("end of the log of %s:\n%s", filepath.Base(p.Path), p.text()[max(0, len(p.text())-4000):])
		}
	}
}

// credentials writes the key of service accounts and the list of tokens.
func (s *Server) credentials(t testing.TB) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"sa.key": pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		"sa.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"tokens": []byte(AdminToken + ",admin,admin,\"system:masters\"\n" + StrangerToken + ",stranger,stranger\n"),
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *Server) runEtcd(t testing.TB, peerPort int) bool {
	t.Helper()
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", s.etcdPort), fmt.Sprintf("http://127.0.0.1:%d", peerPort)
	return start(t, &s.store, s.stores, filepath.Join(s.dir, "etcd.log"), func() bool { return s.get(client+"/health", "") }, s.etcd,
		"--name=k", "--data-dir="+filepath.Join(s.dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=k="+peer)
}

// run starts the API server and waits until it is ready. It returns false if a port is in use.
func (s *Server) run(t testing.TB) bool {
	t.Helper()
	return start(t, &s.api, s.apis, filepath.Join(s.dir, "api.log"), func() bool { return s.get("https://"+s.Addr()+"/readyz", AdminToken) }, s.apiServer,
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", s.etcdPort),
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", s.port),
		"--cert-dir="+filepath.Join(s.dir, "certs"),
		"--service-account-key-file="+filepath.Join(s.dir, "sa.pub"),
		"--service-account-signing-key-file="+filepath.Join(s.dir, "sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--token-auth-file="+filepath.Join(s.dir, "tokens"), "--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.96.0.0/24", "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none")
}

// start starts a process and waits until it is ready. It returns false if a port is in use.
func start(t testing.TB, into *process, reap chan<- process, logFile string, ready func() bool, bin string, args ...string) bool {
	t.Helper()
	p := process{exec.Command(bin, args...), logFile, make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	before := len(p.text())
	p.Stdout, p.Stderr = log, log
	p.SysProcAttr = procAttr()
	p.Env = []string{"HOME=" + filepath.Dir(logFile), "PATH=" + os.Getenv("PATH")}
	if err := p.Start(); err != nil {
		t.Fatalf("kubernetes: %v", err)
	}
	*into = p
	reap <- p

	deadline := time.After(startTimeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if ready() {
				return true
			}
		case <-p.exited:
			if strings.Contains(p.text()[before:], "address already in use") {
				return false
			}
			t.Fatalf("kubernetes: %s ended:\n%s", filepath.Base(bin), p.text())
		case <-deadline:
			t.Fatalf("kubernetes: %s is not ready within %v:\n%s", filepath.Base(bin), startTimeout, p.text())
		}
	}
}

// text returns the log.
func (p process) text() string {
	data, _ := os.ReadFile(p.log)
	return string(data)
}

// freePorts returns ports that nobody listened on a moment ago. Another process may be faster: the caller retries.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // at the end, so that all differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}
