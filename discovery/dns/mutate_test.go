package dns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/miekg/dns"

	"github.com/zerohop/zerohop/discovery"
)

// answersOf returns messages that a server sends to the questions of a watch.
func answersOf(t testing.TB) map[question][][]byte {
	all := map[question][][]byte{}
	add := func(q question, code int, records ...string) {
		m := message(t, q, code, records...)
		m.Compress = true
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		all[q] = append(all[q], b)
	}
	add(srvQuestion, 0, "_http._tcp.web.test. 5 SRV 1 2 80 w1.test.", "_http._tcp.web.test. 5 SRV 1 0 81 w2.test.",
		"_http._tcp.web.test. 5 SRV 9 7 82 w3.test.", "additional", "w1.test. 5 A 192.0.2.1", "w3.test. 5 AAAA 2001:db8::1")
	add(srvQuestion, 0, "_http._tcp.web.test. 5 CNAME x.test.", "x.test. 5 SRV 1 2 80 w1.test.")
	add(srvQuestion, 0, "_http._tcp.web.test. 5 SRV 0 0 0 .")
	add(srvQuestion, dns.RcodeNameError, "authority", "test. 60 SOA ns.test. root.test. 1 60 60 600 5")
	add(question{"w1.test.", dns.TypeA}, 0, "w1.test. 5 A 192.0.2.1")
	add(question{"w2.test.", dns.TypeA}, 0, "w2.test. 5 CNAME y.test.", "y.test. 5 A 192.0.2.2", "y.test. 5 A 192.0.2.3")
	add(question{"w2.test.", dns.TypeA}, 0, "authority", "test. 60 SOA ns.test. root.test. 1 60 60 600 5")
	return all
}

// mutate returns a message with a few random changes, the most of them behind the header.
func mutate(rng *rand.Rand, data []byte) []byte {
	out := append([]byte(nil), data...)
	for range 1 + rng.IntN(3) {
		at := min(rng.IntN(len(out)+1), len(out))
		switch rng.IntN(6) {
		case 0:
			if at < len(out) {
				out[at] ^= 1 << rng.IntN(8)
			}
		case 1: // another byte, often one that has a meaning
			if at < len(out) {
				out[at] = []byte{0, 0xff, 0xc0, 0x3f, 0x7f, 0x80, 127, 169}[rng.IntN(8)]
			}
		case 2: // the end is missing
			out = out[:max(at, 2)]
		case 3: // a part is missing
			end := min(at+rng.IntN(16), len(out))
			out = append(out[:at:at], out[end:]...)
		case 4: // a part is there many times
			end := min(at+rng.IntN(30), len(out))
			part := append([]byte(nil), out[at:end]...)
			for range rng.IntN(100) {
				out = append(out, part...)
			}
		case 5: // another count of records
			if len(out) > 12 {
				out[6+rng.IntN(6)] = byte(rng.IntN(256))
			}
		}
	}
	return out[:min(len(out), dns.MaxMsgSize)]
}

// Ten thousand answers that are nearly right go through the parsers and Run: whatever they say, there are endpoints, and
// the right answer counts again afterwards.
func TestMutatedAnswersDoNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rounds = 10_000
		rng := rand.New(rand.NewPCG(15, 7))
		right := answersOf(t)
		asked, refused, finished := 0, 0, make(chan struct{})
		reply := func(q question, _ int) (answer, error) {
			options := right[q]
			if len(options) == 0 { // a name that a mutation made up
				options = right[question{"w1.test.", dns.TypeA}]
			}
			data := options[0]
			if asked++; asked == rounds+200 { // time enough for Run to believe the right ones
				close(finished)
			}
			if asked <= rounds {
				data = mutate(rng, options[rng.IntN(len(options))])
			}
			m := new(dns.Msg)
			if err := m.Unpack(data); err != nil {
				refused++
				return answer{}, &failure{q: q, err: err, answered: true}
			}
			a, _, err := read(m, q)
			if err != nil {
				refused++
				return answer{}, &failure{q: q, err: err, answered: true}
			}
			return a, nil
		}
		r := watchFunc(func(ctx context.Context, _ string, update func([]discovery.Endpoint)) error {
			w := &watch{name: srvQuestion.name, srv: true}
			w.source = func() source { return &script{reply: reply} }
			return w.run(ctx, update)
		})
		ctx, cancel := context.WithCancel(t.Context())
		var last []discovery.Endpoint
		sets, done := 0, make(chan error)
		go func() {
			done <- discovery.Run(ctx, r, "web", discovery.RunOptions{}, func(set []discovery.Endpoint) { last, sets = set, sets+1 })
		}()
		<-finished
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v, want %v", err, context.Canceled)
		}
		if refused < rounds/10 || refused > rounds*95/100 {
			t.Errorf("%d of %d answers were refused: they are no test", refused, rounds)
		}
		var addrs []string
		for _, ep := range last {
			addrs = append(addrs, ep.Addr)
		}
		if got, want := fmt.Sprint(addrs), "[192.0.2.1:80 192.0.2.2:81 192.0.2.3:81 [2001:db8::1]:82]"; got != want {
			t.Errorf("after %d answers the set is %v, want %v", asked, got, want)
		}
		t.Logf("%d of %d answers refused, %d sets", refused, rounds, sets)
	})
}

func FuzzRead(f *testing.F) {
	for _, list := range answersOf(f) {
		for _, data := range list {
			f.Add(data, true)
			f.Add(data, false)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, srv bool) {
		m := new(dns.Msg)
		if len(data) > dns.MaxMsgSize || m.Unpack(data) != nil {
			return
		}
		q := hostQuestion
		if srv {
			q = srvQuestion
		}
		a, next, err := read(m, q)
		if err != nil {
			if !a.empty() || next != "" {
				t.Errorf("read() = %+v, %q and %v, want one of them", a, next, err)
			}
			return
		}
		if a.ttl < 0 || a.ttl > longestLife || next != "" && !a.empty() || srv && len(a.addrs) > 0 || !srv && len(a.targets) > 0 {
			t.Errorf("read() = %+v, %q", a, next)
		}
		set := instances(available(a.targets), func(name string) []netip.Addr { return a.glue[name] })
		for _, ep := range append(set, hosts(a.addrs, 80)...) {
			if ap, err := netip.ParseAddrPort(ep.Addr); err != nil || ap.Port() == 0 || ep.Weight > 1_000_000 {
				t.Errorf("endpoint %+v: %v", ep, err)
			}
		}
	})
}

func TestManyWatchesCostOneGoroutineEach(t *testing.T) {
	const services = 200
	addr := server(t, replyWith(0, "web.test. 20 A 192.0.2.1"))
	r := Resolver{Name: "web.test", Port: 80, Servers: []string{addr}}
	ctx, cancel := context.WithCancel(t.Context())
	known, done := make(chan int, services), make(chan error, services)
	before := runtime.NumGoroutine()
	for i := range services {
		go func() {
			done <- discovery.Run(ctx, r, fmt.Sprint("s", i), discovery.RunOptions{}, func(set []discovery.Endpoint) { known <- len(set) })
		}()
	}
	for range services {
		if n := <-known; n != 1 {
			t.Errorf("%d endpoints, want 1", n)
		}
	}
	// The server may still have a few of its own for what it has just answered.
	if got, want := runtime.NumGoroutine()-before, services+20; got > want {
		t.Errorf("%d goroutines for %d services, want at most %d", got, services, want)
	}
	cancel()
	for range services {
		<-done
	}
}

// The largest answers that DNS can give, and 10,000 endpoints of such records.
func BenchmarkAnswer(b *testing.B) {
	for _, n := range []int{4000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := new(dns.Msg)
			m.SetQuestion(hostQuestion.name, hostQuestion.kind)
			m.Response, m.Compress = true, true
			for i := range 4000 {
				m.Answer = append(m.Answer, &dns.A{
					Hdr: dns.RR_Header{Name: hostQuestion.name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5},
					A:   []byte{10, byte(i >> 16), byte(i >> 8), byte(i)},
				})
			}
			data, err := m.Pack()
			if err != nil || len(data) > dns.MaxMsgSize {
				b.Fatalf("%d bytes, %v", len(data), err)
			}
			b.ReportAllocs()
			for b.Loop() {
				for left := n; left > 0; left -= 4000 {
					m := new(dns.Msg)
					if err := m.Unpack(data); err != nil {
						b.Fatal(err)
					}
					a, _, err := read(m, hostQuestion)
					if set := hosts(a.addrs[:min(left, 4000)], 80); err != nil || len(set) != min(left, 4000) {
						b.Fatalf("%d endpoints, %v", len(set), err)
					}
				}
			}
		})
	}
}
