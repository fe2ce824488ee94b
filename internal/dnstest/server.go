//go:build unix

package dnstest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

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
	bin, dir string
	port     int
	process  process
	started  chan process // to reap
}

type process struct {
	*exec.Cmd
	exited chan struct{} // closed when it has ended
}

// Start starts a server on a free port of the loopback interface and waits until it answers. It skips the test if there
// is no knotd; see testenv.Need. The log of the server is shown if the test fails.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{bin: binary(t), dir: t.TempDir(), started: make(chan process)}
	s.write(t, "zone", fmt.Sprintf("$ORIGIN %s\n$TTL 1\n@ SOA ns root 1 60 60 600 %d\n@ NS ns\nns A 127.0.0.1\n", Zone, NegativeTTL))
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
	for range 5 {
		s.port = freePort(t)
		if s.run(t) {
			return s
		}
	}
	t.Fatalf("knotd: no free port in 5 attempts:\n%s", s.log())
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

// Kill ends the server with SIGKILL and waits until it is gone.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGKILL)
	<-s.process.exited
}

// Stop freezes the server: its sockets stay open, and it answers nothing that comes once Stop has returned.
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
		if i := bytes.LastIndexByte(stat, ')'); i >= 0 && !bytes.HasPrefix(stat[i:], []byte(") T")) && !bytes.HasPrefix(stat[i:], []byte(") Z")) {
			return false
		}
	}
	return true
}

// Cont ends what Stop began.
func (s *Server) Cont(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGCONT) }

// Restart starts the server again after Kill, on the same port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	for range 5 {
		if s.run(t) {
			return
		}
	}
	t.Fatalf("knotd: the port of the server was taken over:\n%s", s.log())
}

func (s *Server) signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := s.process.Process.Signal(sig); err != nil {
		t.Fatalf("knotd: %v: %v", sig, err)
	}
}

func (s *Server) end(t testing.TB) {
	if s.process.Cmd != nil {
		_ = s.process.Process.Kill() // fails if it has ended before
		<-s.process.exited
	}
	if t.Failed() {
		t.Logf("log of the DNS server at %s:\n%s", s.Addr(), s.log())
	}
}

// run starts the process and waits until it serves the zone. It returns false if the port is in use.
func (s *Server) run(t testing.TB) bool {
	t.Helper()
	s.write(t, "knot.conf", s.config())
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	before := len(s.log())

	p := process{exec.Command(s.bin, "-c", filepath.Join(s.dir, "knot.conf")), make(chan struct{})}
	p.Stdout, p.Stderr = log, log
	p.SysProcAttr = procAttr()
	p.Env = []string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH")}
	if err := p.Start(); err != nil {
		t.Fatalf("knotd: %v", err)
	}
	s.process = p
	s.started <- p

	deadline := time.After(startTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if s.ready() {
				return true
			}
		case <-p.exited:
			if strings.Contains(s.log()[before:], "in use") {
				return false
			}
			t.Fatalf("knotd: the server ended:\n%s", s.log())
		case <-deadline:
			t.Fatalf("knotd: no answer within %v:\n%s", startTimeout, s.log())
		}
	}
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
	if s.process.Cmd != nil {
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

func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

func (s *Server) log() string {
	text, _ := os.ReadFile(s.logFile()) // not there before the first start
	return string(text)
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
