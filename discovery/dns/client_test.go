package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// server answers over UDP and TCP until the test ends. handle may be called for several questions at a time.
func server(t testing.TB, handle dns.HandlerFunc) (addr string) {
	t.Helper()
	tcp, udp := listen(t)
	for _, s := range []*dns.Server{{Listener: tcp, Handler: handle}, {PacketConn: udp, Handler: handle}} {
		started, done := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { // ended and awaited by the cleanup
			defer close(done)
			_ = s.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return tcp.Addr().String()
}

// listen listens on one port for UDP and TCP.
func listen(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	for {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			t.Cleanup(func() { tcp.Close(); udp.Close() })
			return tcp, udp
		}
		tcp.Close()
	}
}

// raw is a server whose answers are bytes: reply gets each question, with its network, and returns the messages to send.
func raw(t testing.TB, reply func(network string, query []byte) [][]byte) (addr string) {
	t.Helper()
	tcp, udp := listen(t)
	var wg sync.WaitGroup
	t.Cleanup(func() { tcp.Close(); udp.Close(); wg.Wait() })
	wg.Go(func() {
		buf := make([]byte, 1024)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, m := range reply("udp", buf[:n]) {
				_, _ = udp.WriteTo(m, from)
			}
		}
	})
	wg.Go(func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			var size [2]byte
			_, _ = io.ReadFull(conn, size[:])
			query := make([]byte, binary.BigEndian.Uint16(size[:]))
			_, _ = io.ReadFull(conn, query)
			for _, m := range reply("tcp", query) {
				_, _ = conn.Write(m)
			}
			conn.Close()
		}
	})
	return tcp.Addr().String()
}

// silent is a server that takes questions and never answers.
func silent(t testing.TB) string {
	return raw(t, func(string, []byte) [][]byte { return nil })
}

// closed is an address where nobody listens.
func closed(t testing.TB) string {
	tcp, udp := listen(t)
	tcp.Close()
	udp.Close()
	return tcp.Addr().String()
}

// replyWith answers with a code and records.
func replyWith(code int, records ...string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, query *dns.Msg) {
		m := new(dns.Msg)
		m.SetRcode(query, code)
		m.RecursionAvailable = true
		for _, text := range records {
			rr, _ := dns.NewRR(text)
			if dns.CanonicalName(rr.Header().Name) == dns.CanonicalName(query.Question[0].Name) {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	}
}

const webRecord = "web.test. 20 A 192.0.2.1"

func good(t testing.TB) string { return server(t, replyWith(0, webRecord)) }

// askFor asks servers for the address of web.test and checks that it is right.
func askFor(t *testing.T, c *client) error {
	t.Helper()
	a, err := c.ask(t.Context(), hostQuestion)
	if err == nil && (!slices.Equal(a.addrs, addrsOf("192.0.2.1")) || a.ttl != 20*time.Second) {
		t.Errorf("answer is %+v, want 192.0.2.1 for 20 s", a)
	}
	return err
}

func TestClientGoesOnToTheServerThatAnswers(t *testing.T) {
	for name, bad := range map[string]func(testing.TB) string{
		"closed":  closed,
		"silent":  silent,
		"failing": func(t testing.TB) string { return server(t, replyWith(dns.RcodeServerFailure)) },
		"refuses": func(t testing.TB) string { return server(t, replyWith(dns.RcodeRefused)) },
		"refers": func(t testing.TB) string {
			return server(t, func(w dns.ResponseWriter, query *dns.Msg) {
				m := new(dns.Msg).SetReply(query)
				ns, _ := dns.NewRR("test. 60 NS ns.test.")
				m.Ns = []dns.RR{ns}
				_ = w.WriteMsg(m)
			})
		},
		"garbage": func(t testing.TB) string {
			return raw(t, func(_ string, query []byte) [][]byte {
				return [][]byte{append(query[:2:2], 0x80, 0, 0, 1, 0, 9, 0, 0, 0, 0, 0xc0, 0x0c, 0xff)}
			})
		},
		"a loop of names": func(t testing.TB) string {
			return raw(t, func(_ string, query []byte) [][]byte { // a name that is a pointer to itself
				return [][]byte{append(query[:2:2], 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c, 0, 1, 0, 1)}
			})
		},
		"cut off, and no TCP": func(t testing.TB) string {
			return raw(t, func(network string, query []byte) [][]byte {
				if network == "tcp" {
					return nil
				}
				m := new(dns.Msg)
				_ = m.Unpack(query)
				m.Response, m.Truncated, m.Extra = true, true, nil
				b, _ := m.Pack()
				return [][]byte{b}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &client{servers: []string{bad(t), good(t)}}
			start := time.Now()
			if err := askFor(t, c); err != nil {
				t.Errorf("ask() = %v", err)
			}
			if d := time.Since(start); d > tryTime {
				t.Errorf("ask() took %v, want at most %v", d, tryTime)
			}
			if got, want := c.first.Load(), int32(1); got != want {
				t.Errorf("the next question begins with server %d, want %d", got, want)
			}
			// With nobody else to ask, the error names the server, and it comes in time.
			bad := &client{servers: c.servers[:1]}
			start = time.Now()
			err := askFor(t, bad)
			if err == nil || !strings.Contains(err.Error(), `dns: A of "web.test.": `+bad.servers[0]+": ") {
				t.Errorf("ask() = %v, want an error that names the question and %s", err, bad.servers[0])
			}
			if d := time.Since(start); d > tryTime+time.Second {
				t.Errorf("ask() took %v, want at most %v", d, tryTime)
			}
			f, ok := errors.AsType[*failure](err)
			if wants := name != "closed" && name != "silent"; !ok || f.answered != wants {
				t.Errorf("error %v says answered %v, want %v", err, ok && f.answered, wants)
			}
		})
	}
}

func TestClientTakesNoAnswersToOtherQuestions(t *testing.T) {
	t.Parallel()
	addr := server(t, func(w dns.ResponseWriter, query *dns.Msg) {
		send := func(change func(m *dns.Msg)) {
			m := new(dns.Msg).SetReply(query)
			rr, _ := dns.NewRR("web.test. 20 A 192.0.2.66")
			m.Answer = []dns.RR{rr}
			change(m)
			_ = w.WriteMsg(m)
		}
		send(func(m *dns.Msg) { m.Id++ })
		send(func(m *dns.Msg) { m.Question[0].Name = "evil.test." })
		send(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA })
		send(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
		send(func(m *dns.Msg) { m.Question = nil })
		send(func(m *dns.Msg) { m.Response = false })
		send(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify })
		send(func(m *dns.Msg) {
			m.Question[0].Name = "WEB.test."
			rr, _ := dns.NewRR(webRecord)
			m.Answer = []dns.RR{rr}
		})
	})
	if err := askFor(t, &client{servers: []string{addr}}); err != nil {
		t.Errorf("ask() = %v", err)
	}
}

func TestClientUsesTCPForWhatIsCutOff(t *testing.T) {
	t.Parallel()
	for _, tcp := range []bool{false, true} {
		var mu sync.Mutex
		var networks []string
		addr := server(t, func(w dns.ResponseWriter, query *dns.Msg) {
			mu.Lock()
			defer mu.Unlock()
			networks = append(networks, w.LocalAddr().Network())
			if w.LocalAddr().Network() == "udp" {
				m := new(dns.Msg).SetReply(query)
				m.Truncated = true
				_ = w.WriteMsg(m)
				return
			}
			replyWith(0, webRecord)(w, query)
		})
		if err := askFor(t, &client{servers: []string{addr}, tcp: tcp}); err != nil {
			t.Errorf("ask() = %v", err)
		}
		want := []string{"udp", "tcp"}
		if tcp {
			want = want[1:]
		}
		mu.Lock()
		if !slices.Equal(networks, want) {
			t.Errorf("asked over %v, want %v", networks, want)
		}
		mu.Unlock()
	}
}

func TestClientAsksAsItShould(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var queries []*dns.Msg
	addr := server(t, func(w dns.ResponseWriter, query *dns.Msg) {
		mu.Lock()
		queries = append(queries, query)
		mu.Unlock()
		if query.IsEdns0() != nil { // a server of the last century
			m := new(dns.Msg).SetRcodeFormatError(query)
			m.Question = nil
			_ = w.WriteMsg(m)
			return
		}
		replyWith(0, webRecord)(w, query)
	})
	if err := askFor(t, &client{servers: []string{addr}}); err != nil {
		t.Errorf("ask() = %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(queries) != 2 {
		t.Fatalf("%d questions, want one with EDNS and one without", len(queries))
	}
	if opt := queries[0].IsEdns0(); opt.UDPSize() != udpSize || !queries[0].RecursionDesired {
		t.Errorf("question is %v, want recursion and answers of up to %d bytes", queries[0], udpSize)
	}
}

func TestClientFollowsAliasesOneByOne(t *testing.T) {
	t.Parallel()
	addr := server(t, replyWith(0, "web.test. 20 CNAME b.test.", "b.test. 50 CNAME c.test.", "c.test. 60 A 192.0.2.1"))
	if err := askFor(t, &client{servers: []string{addr}}); err != nil {
		t.Errorf("ask() = %v", err)
	}
	addr = server(t, replyWith(0, "web.test. 20 CNAME b.test.", "b.test. 50 CNAME web.test."))
	if err := askFor(t, &client{servers: []string{addr}}); !errors.Is(err, errAliases) {
		t.Errorf("ask() = %v, want %v", err, errAliases)
	}
}

func TestClientRejectsBrokenTCP(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]func(query []byte) []byte{
		"nothing":          func([]byte) []byte { return nil },
		"half a length":    func([]byte) []byte { return []byte{1} },
		"part":             func(query []byte) []byte { return append([]byte{0xff, 0xff}, query...) },
		"garbage":          func([]byte) []byte { return []byte{0, 3, 1, 2, 3} },
		"another question": func(query []byte) []byte { return append([]byte{0, byte(len(query)), query[0] + 1}, query[1:]...) },
	} {
		addr := raw(t, func(_ string, query []byte) [][]byte { return [][]byte{reply(query)} })
		if err := askFor(t, &client{servers: []string{addr}, tcp: true}); err == nil {
			t.Errorf("%s: ask() = nil, want an error", name)
		}
	}
}

func TestClientStopsWhenTheContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	addr := raw(t, func(string, []byte) [][]byte { cancel(); return nil })
	start := time.Now()
	if _, err := (&client{servers: []string{addr}}).ask(ctx, hostQuestion); !errors.Is(err, context.Canceled) {
		t.Errorf("ask() = %v, want %v", err, context.Canceled)
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("ask() took %v", d)
	}
}
