//go:build unix

package outage

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	dnsmsg "github.com/miekg/dns"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery/dns"
	"github.com/zerohop/zerohop/internal/dnstest"
)

func dnsFaults(t *testing.T) map[string]build {
	shared := dnstest.Start(t)
	// with returns a cell whose relay has a fault.
	with := func(f func(*relay, dnsmsg.ResponseWriter, *dnsmsg.Msg), trust zerohop.Discovery) build {
		return func(t *testing.T, service string) *cell {
			r := newRelay(t, shared)
			c := dnsCell(shared, service, r.addr)
			c.requests, c.trust = &r.questions, trust
			c.begin, c.heal = func(testing.TB) { r.fault.Store(&f) }, func(testing.TB) { r.fault.Store(nil) }
			return c
		}
	}
	return map[string]build{
		"killed": func(t *testing.T, service string) *cell {
			server := dnstest.Start(t)
			c := dnsCell(server, service, server.Addr())
			c.begin, c.heal, c.mute = server.Kill, server.Restart, true
			return c
		},
		"frozen": func(t *testing.T, service string) *cell {
			server := dnstest.Start(t)
			r := newRelay(t, server)
			c := dnsCell(server, service, r.addr)
			c.requests = &r.questions
			c.begin, c.heal, c.mute = server.Stop, server.Cont, true
			return c
		},
		"silent": with(func(*relay, dnsmsg.ResponseWriter, *dnsmsg.Msg) {}, zerohop.Discovery{}),
		"garbage": with(func(r *relay, w dnsmsg.ResponseWriter, m *dnsmsg.Msg) {
			reply, err := r.ask(m)
			if err != nil {
				return
			}
			data, err := reply.Pack()
			if err != nil {
				return
			}
			switch n := int(r.questions.Load()); n % 4 {
			case 0:
				data = data[:len(data)/2]
			case 1:
				data = append(data[:12:12], strings.Repeat("\xff", 100)...)
			case 2:
				for i := 12 + n%7; i < len(data); i += 7 {
					data[i] ^= byte(n)
				}
			case 3:
				data = []byte("garbage")
			}
			_, _ = w.Write(data)
		}, zerohop.Discovery{}),
		"empty": with(func(r *relay, w dnsmsg.ResponseWriter, m *dnsmsg.Msg) { r.answerAs("-unknown", w, m) },
			zerohop.Discovery{EmptyGrace: 2 * lasting}),
		"stale": func(t *testing.T, service string) *cell {
			c := with(func(r *relay, w dnsmsg.ResponseWriter, m *dnsmsg.Msg) { r.answerAs("-old", w, m) }, zerohop.Discovery{})(t, service)
			begin := c.begin
			c.begin = func(t testing.TB) {
				setDNS(t, shared, service+"-old", c.addrs)
				begin(t)
			}
			return c
		},
		// Servers that are asked too much say no, keep silent, or send who asks to TCP and say no there.
		"throttled": with(func(r *relay, w dnsmsg.ResponseWriter, m *dnsmsg.Msg) {
			reply := new(dnsmsg.Msg)
			switch _, udp := w.LocalAddr().(*net.UDPAddr); {
			case udp && r.questions.Load()%3 == 0:
				return
			case udp && r.questions.Load()%3 == 1:
				reply.SetReply(m)
				reply.Truncated = true
			default:
				reply.SetRcode(m, dnsmsg.RcodeRefused)
			}
			_ = w.WriteMsg(reply)
		}, zerohop.Discovery{}),
		"failing": with(func(_ *relay, w dnsmsg.ResponseWriter, m *dnsmsg.Msg) {
			_ = w.WriteMsg(new(dnsmsg.Msg).SetRcode(m, dnsmsg.RcodeServerFailure))
		}, zerohop.Discovery{}),
	}
}

// dnsCell returns a cell without a fault that asks at addr.
func dnsCell(server *dnstest.Server, service, addr string) *cell {
	return &cell{
		resolver: dns.Resolver{Name: "_http._tcp.{service}." + dnstest.Zone, SRV: true, Servers: []string{addr}},
		list:     func(t testing.TB, addrs []string) { setDNS(t, server, service, addrs) },
	}
}

// setDNS makes the server list exactly the addresses, which are on 127.0.0.1, for service.
func setDNS(t testing.TB, server *dnstest.Server, service string, addrs []string) {
	t.Helper()
	name := "_http._tcp." + service + "." + dnstest.Zone
	var records []string
	for _, addr := range addrs {
		_, port, _ := net.SplitHostPort(addr)
		records = append(records, fmt.Sprintf("%s 1 SRV 0 1 %s ns.%s", name, port, dnstest.Zone))
	}
	server.Set(t, name, records...)
}

// relay is a DNS server that asks another one.
type relay struct {
	addr      string
	server    *dnstest.Server
	questions atomic.Int64
	// fault answers in place of the server; nil while there is none.
	fault atomic.Pointer[func(*relay, dnsmsg.ResponseWriter, *dnsmsg.Msg)]
}

func newRelay(t *testing.T, server *dnstest.Server) *relay {
	t.Helper()
	r := &relay{server: server}
	tcp, udp := listenBoth(t)
	r.addr = tcp.Addr().String()
	for _, s := range []*dnsmsg.Server{{Listener: tcp, Handler: r}, {PacketConn: udp, Handler: r}} {
		up, down := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { // ended and awaited by the cleanup
			defer close(down)
			_ = s.ActivateAndServe()
		}()
		<-up
		t.Cleanup(func() { _ = s.Shutdown(); <-down })
	}
	return r
}

// listenBoth listens on the same port for TCP and UDP.
func listenBoth(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	for {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if udp, err := net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			return tcp, udp
		}
		tcp.Close()
	}
}

// ServeDNS implements dns.Handler.
func (r *relay) ServeDNS(w dnsmsg.ResponseWriter, m *dnsmsg.Msg) {
	if _, udp := w.LocalAddr().(*net.UDPAddr); udp { // over TCP a question goes on that was cut off
		r.questions.Add(1)
	}
	if f := r.fault.Load(); f != nil {
		(*f)(r, w, m)
		return
	}
	if reply, err := r.ask(m); err == nil {
		_ = w.WriteMsg(reply)
	}
}

func (r *relay) ask(m *dnsmsg.Msg) (*dnsmsg.Msg, error) {
	reply, _, err := (&dnsmsg.Client{Timeout: 2 * time.Second}).Exchange(m, r.server.Addr())
	return reply, err
}

// answerAs answers for another service: the one whose name goes on with suffix.
func (r *relay) answerAs(suffix string, w dnsmsg.ResponseWriter, m *dnsmsg.Msg) {
	asked := m.Question[0].Name
	other := m.Copy()
	other.Question[0].Name = strings.TrimSuffix(asked, "."+dnstest.Zone) + suffix + "." + dnstest.Zone
	reply, err := r.ask(other)
	if err != nil {
		return
	}
	reply.Question = m.Question
	for _, rr := range reply.Answer {
		rr.Header().Name = asked
	}
	_ = w.WriteMsg(reply)
}
