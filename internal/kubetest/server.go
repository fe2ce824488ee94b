//go:build unix

package kubetest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/zerohop/zerohop/internal/servertest"
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
	*servertest.Process
	store           *servertest.Process
	client          *http.Client
	apiServer, etcd string // binaries
	dir             string
	port            int
	etcdPort        int
}

// Start starts a server and waits until it is ready. It skips the test if there is none; see testenv.Need. The logs are
// shown if the test fails.
func Start(t testing.TB) *Server {
	t.Helper()
	dir := t.TempDir()
	s := &Server{client: newClient(), dir: dir}
	s.apiServer, s.etcd = binaries(t)
	s.store, s.Process = servertest.New(t, "etcd", dir), servertest.New(t, "kube-apiserver", dir)
	t.Cleanup(s.client.CloseIdleConnections)
	s.credentials(t)
	for range 5 {
		ports := servertest.FreePorts(t, 2)
		s.etcdPort = ports[0]
		if s.runEtcd(t, ports[1]) {
			break
		}
	}
	for range 5 {
		s.port = servertest.FreePorts(t, 1)[0]
		if s.run(t) {
			return s
		}
	}
	t.Fatalf("kubernetes: no free ports in 5 attempts:\n%s", s.Log())
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

// Restart starts the API server again after Kill, on the same port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	for range 5 {
		if s.run(t) {
			return
		}
	}
	t.Fatalf("kubernetes: the port of the server was taken over:\n%s", s.Log())
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
	s.store.Start(t, s.etcd, []string{
		"--name=k", "--data-dir=" + filepath.Join(s.dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=k=" + peer,
	})
	return s.store.Up(t, startTimeout, func() bool { return s.get(client+"/health", "") })
}

// run starts the API server and waits until it is ready. It returns false if a port is in use.
func (s *Server) run(t testing.TB) bool {
	t.Helper()
	s.Process.Start(t, s.apiServer, []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", s.etcdPort),
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", s.port),
		"--cert-dir=" + filepath.Join(s.dir, "certs"),
		"--service-account-key-file=" + filepath.Join(s.dir, "sa.pub"),
		"--service-account-signing-key-file=" + filepath.Join(s.dir, "sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--token-auth-file=" + filepath.Join(s.dir, "tokens"), "--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.96.0.0/24", "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
	})
	return s.Up(t, startTimeout, func() bool { return s.get("https://"+s.Addr()+"/readyz", AdminToken) })
}
