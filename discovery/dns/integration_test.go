//go:build unix

package dns_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/discovery/dns"
	"github.com/zerohop/zerohop/internal/dnstest"
)

func TestServer(t *testing.T) {
	t.Run("Conformance", conformance) // by itself, as it looks for goroutines that are left
	for name, test := range map[string]func(*testing.T, *dnstest.Server){"SRV": srv, "Freeze": freeze, "Kill": kill, "Many": many} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, dnstest.Start(t))
		})
	}
}

func byAddress(server *dnstest.Server) dns.Resolver {
	return dns.Resolver{Name: "{service}." + dnstest.Zone, Port: 8080, Servers: []string{server.Addr()}}
}

// list makes the server list exactly set for service.
func list(t testing.TB, server *dnstest.Server, service string, set []discovery.Endpoint) {
	t.Helper()
	name := service + "." + dnstest.Zone
	var records []string
	for _, ep := range set {
		host, _, _ := net.SplitHostPort(ep.Addr)
		records = append(records, name+" 1 A "+host)
	}
	server.Set(t, name, records...)
}

func conformance(t *testing.T) {
	server := dnstest.Start(t)
	discoverytest.Test(t, discoverytest.Source{
		Resolver: byAddress(server),
		Set:      func(t testing.TB, service string, set []discovery.Endpoint) { list(t, server, service, set) },
		Break:    server.Kill,
		Heal:     server.Restart,
		Timeout:  30 * time.Second,
	})
}

func srv(t *testing.T, server *dnstest.Server) {
	const zone = dnstest.Zone
	server.Set(t, "w1."+zone, "w1."+zone+" 1 A 192.0.2.11")
	server.Set(t, "w2."+zone, "w2."+zone+" 1 AAAA 2001:db8::12")
	server.Set(t, "w3."+zone, "w3."+zone+" 1 A 192.0.2.13", "w3."+zone+" 1 A 192.0.2.14", "w3."+zone+" 1 AAAA 2001:db8::13")
	const name = "_http._tcp.orders." + zone
	server.Set(t, name, name+" 1 SRV 10 60 8080 w1."+zone, name+" 1 SRV 10 0 8081 w2."+zone, name+" 1 SRV 300 7 8082 w3."+zone)
	f := follow(t, dns.Resolver{Name: "_http._tcp.{service}." + zone, SRV: true, Servers: []string{server.Addr()}}, "orders", discovery.RunOptions{EmptyGrace: -1})

	target := func(name string) map[string]string {
		return map[string]string{"dns-target": name + "." + strings.TrimSuffix(zone, ".")}
	}
	got := f.until("192.0.2.11:8080", "192.0.2.13:8082", "192.0.2.14:8082", "[2001:db8::12]:8081")
	want := []discovery.Endpoint{
		{Addr: "192.0.2.11:8080", Weight: 720, Meta: target("w1")},
		{Addr: "192.0.2.13:8082", Weight: 42, Priority: 1, Meta: target("w3")},
		{Addr: "192.0.2.14:8082", Weight: 42, Priority: 1, Meta: target("w3")},
		{Addr: "[2001:db8::12]:8081", Weight: 12, Meta: target("w2")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("set (-want +got):\n%s", diff)
	}

	server.Set(t, "w3."+zone) // the record of a target goes first when an instance ends
	f.until("192.0.2.11:8080", "[2001:db8::12]:8081")
	server.Set(t, name, name+" 1 SRV 0 0 0 .")
	f.until()
}

// freeze stops the server: connections stay open and nobody answers.
func freeze(t *testing.T, server *dnstest.Server) {
	list(t, server, "frozen", []discovery.Endpoint{{Addr: "192.0.2.1:1"}})
	f := follow(t, byAddress(server), "frozen", discovery.RunOptions{})
	f.until("192.0.2.1:8080")
	server.Stop(t)
	if err := f.failure(); err == nil || !strings.Contains(err.Error(), server.Addr()+": no answer") {
		t.Errorf("error is %v, want one that names the silent server", err)
	}
	server.Cont(t)
	list(t, server, "frozen", []discovery.Endpoint{{Addr: "192.0.2.2:1"}})
	since := time.Now()
	f.until("192.0.2.2:8080")
	if got := time.Since(since); got > 2*time.Second+lag {
		t.Errorf("the change was seen after %v, want 2 s", got)
	}
}

func kill(t *testing.T, server *dnstest.Server) {
	list(t, server, "killed", []discovery.Endpoint{{Addr: "192.0.2.1:1"}})
	f := follow(t, byAddress(server), "killed", discovery.RunOptions{})
	f.until("192.0.2.1:8080")
	server.Kill(t)
	for range 4 { // long enough for the pauses to grow
		if err := f.failure(); errors.Is(err, discovery.ErrUnknownService) {
			t.Errorf("error is %v, want that the server is not reached", err)
		}
	}
	server.Restart(t)
	list(t, server, "killed", []discovery.Endpoint{{Addr: "192.0.2.2:1"}})
	since := time.Now()
	f.until("192.0.2.2:8080")
	if got := time.Since(since); got > 2*time.Second+lag {
		t.Errorf("the change was seen after %v, want 2 s", got)
	}
}

// many is about answers that do not fit into a datagram.
func many(t *testing.T, server *dnstest.Server) {
	const name, count = "many." + dnstest.Zone, 2000
	var records, want []string
	for i := range count {
		ip := fmt.Sprintf("198.18.%d.%d", i/250, i%250+1)
		records = append(records, name+" 1 A "+ip)
		want = append(want, ip+":8080")
	}
	server.Set(t, name, records[:count/2]...)
	server.Add(t, records[count/2:]...) // one message would be too long for DNS
	slices.Sort(want)
	f := follow(t, byAddress(server), "many", discovery.RunOptions{})
	f.until(want...)
}

// lag is what a loaded machine may add.
const lag = 500 * time.Millisecond

const patience = 15 * time.Second

type follower struct {
	t      testing.TB
	sets   chan []discovery.Endpoint
	events chan discovery.Event
}

// follow runs discovery of service until the test ends.
func follow(t testing.TB, r discovery.Resolver, service string, opts discovery.RunOptions) *follower {
	f := &follower{t: t, sets: make(chan []discovery.Endpoint, 1000), events: make(chan discovery.Event, 1000)}
	opts.Observe = func(e discovery.Event) {
		select {
		case f.events <- e:
		default:
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ended and awaited by the cleanup
		defer close(done)
		_ = discovery.Run(ctx, r, service, opts, func(set []discovery.Endpoint) { f.sets <- set })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// until reads sets until one has exactly the given addresses, and returns it.
func (f *follower) until(want ...string) []discovery.Endpoint {
	f.t.Helper()
	late := time.After(patience)
	var last []string
	for {
		select {
		case set := <-f.sets:
			last = last[:0]
			for _, ep := range set {
				last = append(last, ep.Addr)
			}
			if slices.Equal(last, want) {
				return set
			}
		case <-late:
			f.t.Fatalf("the set is %.300v after %v, want %.300v", last, patience, want)
		}
	}
}

// failure waits for the next failed watch and returns its error.
func (f *follower) failure() error {
	f.t.Helper()
	late := time.After(patience)
	for {
		select {
		case e := <-f.events:
			if e.Kind == discovery.EventWatchFailed {
				return e.Err
			}
		case <-late:
			f.t.Fatalf("no failure within %v", patience)
		}
	}
}
