//go:build unix

package dnstest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zerohop/zerohop/internal/servertest"
	"github.com/zerohop/zerohop/internal/testenv"
)

const (
	// Zone is the name that all names of the server end in.
	Zone = "zerohop.test."
	// NegativeTTL is how many seconds the zone lets resolvers remember that a name does not exist.
	NegativeTTL = 2
	// startTimeout is how long a server may take to answer. It takes 0.1 s on an idle machine.
	startTimeout = 30 * time.Second
)

// Server is an authoritative DNS server for Zone. It keeps what it has in files: Kill and Restart lose nothing.
// It is not safe for concurrent use.
type Server struct {
	*servertest.Process
	bin, dir string
	port     int
}

// Start starts a server on a free port of the loopback interface and waits until it answers. It skips the test if there
// is no knotd; see testenv.Need. The log of the server is shown if the test fails.
func Start(t testing.TB) *Server {
	t.Helper()
	dir := t.TempDir()
	s := &Server{Process: servertest.New(t, "knotd", dir), bin: binary(t), dir: dir}
	s.write(t, "zone", fmt.Sprintf("$ORIGIN %s\n$TTL 1\n@ SOA ns root 1 60 60 600 %d\n@ NS ns\nns A 127.0.0.1\n", Zone, NegativeTTL))
	for range 5 {
		s.port = freePort(t)
		if s.run(t) {
			return s
		}
	}
	t.Fatalf("knotd: no free port in 5 attempts:\n%s", s.Log())
	return nil
}

// binary returns the path of knotd, which is not in the PATH of everybody.
func binary(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"knotd", "/usr/sbin/knotd", "/usr/local/sbin/knotd"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	testenv.Need(t, "dns", "there is no knotd (Debian package knot)")
	return ""
}

// Addr returns the address of the server, for UDP and TCP.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Set makes the server list exactly the records for name, in one step. Records are in the form of zone files; names end
// in Zone.
func (s *Server) Set(t testing.TB, name string, records ...string) {
	t.Helper()
	m := new(dns.Msg)
	m.SetUpdate(Zone)
	m.RemoveName([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: dns.Fqdn(name)}}})
	s.update(t, m, records)
}

// Add makes the server list further records, in one step.
func (s *Server) Add(t testing.TB, records ...string) {
	t.Helper()
	m := new(dns.Msg)
	m.SetUpdate(Zone)
	s.update(t, m, records)
}

func (s *Server) update(t testing.TB, m *dns.Msg, records []string) {
	t.Helper()
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatalf("dnstest: record %q: %v", text, err)
		}
		m.Insert([]dns.RR{rr})
	}
	// TCP, as many records make a large message.
	reply, _, err := (&dns.Client{Net: "tcp", Timeout: 10 * time.Second}).Exchange(m, s.Addr())
	if err != nil {
		t.Fatalf("dnstest: update to %q: %v", records, err)
	}
	if reply.Rcode != dns.RcodeSuccess {
		t.Fatalf("dnstest: update to %q: %s", records, dns.RcodeToString[reply.Rcode])
	}
}

// Restart starts the server again after Kill, on the same port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	for range 5 {
		if s.run(t) {
			return
		}
	}
	t.Fatalf("knotd: the port of the server was taken over:\n%s", s.Log())
}

// run starts the process and waits until it serves the zone. It returns false if the port is in use.
func (s *Server) run(t testing.TB) bool {
	t.Helper()
	s.write(t, "knot.conf", s.config())
	s.Process.Start(t, s.bin, []string{"-c", filepath.Join(s.dir, "knot.conf")})
	return s.Up(t, startTimeout, s.ready)
}

// ready reports whether the zone is served.
func (s *Server) ready() bool {
	m := new(dns.Msg)
	m.SetQuestion(Zone, dns.TypeSOA)
	reply, _, err := (&dns.Client{Timeout: time.Second}).Exchange(m, s.Addr())
	return err == nil && reply.Rcode == dns.RcodeSuccess && len(reply.Answer) == 1
}

// config takes the zone from its file the first time, and then from the journal, which has all that was changed.
func (s *Server) config() string {
	load := "whole"
	if s.Started() {
		load = "none"
	}
	return fmt.Sprintf(`server:
    listen: 127.0.0.1@%d
    rundir: %[2]q
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: %[2]q
control:
    listen: %[3]q
log:
  - target: stderr
    any: warning
acl:
  - id: update
    address: 127.0.0.1
    action: update
zone:
  - domain: %[4]s
    file: %[5]q
    zonefile-sync: -1
    journal-content: all
    zonefile-load: %[6]s
    acl: update
`, s.port, s.dir, filepath.Join(s.dir, "knot.sock"), Zone, filepath.Join(s.dir, "zone"), load)
}

func (s *Server) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// freePort returns a port that is free for UDP and TCP.
func freePort(t testing.TB) int {
	t.Helper()
	for {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			udp.Close()
		}
		tcp.Close()
		if err == nil {
			return tcp.Addr().(*net.TCPAddr).Port
		}
	}
}
