package dns

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zerohop/zerohop/discovery"
)

func TestSystemResolver(t *testing.T) {
	t.Parallel()
	addr := server(t, func(w dns.ResponseWriter, query *dns.Msg) {
		if query.Question[0].Name == "failing.test." {
			replyWith(dns.RcodeServerFailure)(w, query)
			return
		}
		m := new(dns.Msg).SetReply(query)
		m.RecursionAvailable = true
		for _, text := range []string{
			"web.test. 20 A 192.0.2.1", "srv.test. 20 SRV 3 7 80 web.test.", "srv.test. 20 SRV 4 7 81 bad!name.test.",
		} {
			rr, _ := dns.NewRR(text)
			if h := rr.Header(); h.Name == query.Question[0].Name && h.Rrtype == query.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if len(m.Answer) == 0 {
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})
	lookup := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	for name, want := range map[string]string{"web": "192.0.2.1:80", "none": "", "srv": "192.0.2.1:80 7 0"} {
		r := Resolver{Name: "{service}.test", Port: 80, System: lookup}
		if name == "srv" {
			r.SRV, r.Port = true, 0
		}
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		err := r.Watch(ctx, name, func(set []discovery.Endpoint) {
			for _, ep := range set {
				got = append(got, ep.Addr)
				if r.SRV && (ep.Weight != 7 || ep.Priority != 0) {
					t.Errorf("endpoint is %+v", ep)
				}
			}
			cancel()
		})
		if !errors.Is(err, context.Canceled) || strings.Join(got, " ") != strings.TrimSuffix(want, " 7 0") {
			t.Errorf("Watch(%s) = %v with %q, want %q", name, err, got, want)
		}
	}
	if _, err := (system{lookup}).ask(t.Context(), question{"failing.test.", dns.TypeA}); err == nil {
		t.Error("ask() of a failing server = nil, want an error")
	}
}

func TestServersAreReadAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	save := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string][]string{
		"nameserver 192.0.2.1\n":                           {"192.0.2.1:53"},
		"search a\nnameserver ::1\nnameserver fe80::1%e\n": {"[::1]:53", "[fe80::1%e]:53"},
		"nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4": {"192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"},
		"nameserver\nnameserver ns.test\n\x00\xff":                                               nil,
		"": nil,
	} {
		save(text)
		if got := configured(file); !slices.Equal(got, want) {
			t.Errorf("servers of %q are %q, want %q", text, got, want)
		}
	}
	if got := configured(file + "x"); got != nil {
		t.Errorf("servers of no file are %q", got)
	}
}

func TestWatchRejectsWhatItCannotAsk(t *testing.T) {
	long := strings.Repeat("a.", 130)
	for name, tt := range map[string]struct {
		r       Resolver
		service string
		want    []string
	}{
		"no port":      {Resolver{}, "web", []string{"Resolver.Port is 0"}},
		"both":         {Resolver{Port: 1, SRV: true}, "web", []string{"Resolver.Port and Resolver.SRV"}},
		"all at once":  {Resolver{Network: "tcp", Servers: []string{"ns.test", "1.2.3.4:0", "1.2.3.4"}}, "web", []string{"Resolver.Port", `Resolver.Network is "tcp"`, `Resolver.Servers[0] is "ns.test"`, `Resolver.Servers[1] is "1.2.3.4:0"`}},
		"many servers": {Resolver{Port: 1, Servers: make([]string, 9)}, "web", []string{"Resolver.Servers has 9 entries"}},
		"empty":        {Resolver{Port: 1}, "", []string{"service name"}},
		"not a name":   {Resolver{Port: 1}, "a b", []string{"service name"}},
		"empty label":  {Resolver{Port: 1}, "a..b", []string{"service name"}},
		"long":         {Resolver{Port: 1}, long, []string{"service name"}},
		"too long":     {Resolver{Port: 1, Name: "{service}." + long[:248]}, "much.too.long", []string{"Resolver.Name"}},
		"bad pattern":  {Resolver{Port: 1, Name: "{service}..test"}, "web", []string{"Resolver.Name"}},
		"address":      {Resolver{Port: 1}, "192.0.2.1", []string{"is an address"}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := tt.r.Watch(ctx, tt.service, func([]discovery.Endpoint) { t.Errorf("%s: a set", name) })
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: Watch() = %v, want an error with %q", name, err, want)
			}
		}
	}
	for pattern, want := range map[string]string{
		"": "shop.web.", "{service}.Test.": "shop.web.test.", "_http._tcp.{service}.test": "_http._tcp.shop.web.test.", "fixed.test": "fixed.test.",
	} {
		if got, err := (Resolver{Name: pattern}).name("Shop.web"); got != want || err != nil {
			t.Errorf("name with %q = %q, %v, want %q", pattern, got, err, want)
		}
	}
	if !(Resolver{}).Remote() {
		t.Error("DNS is not remote")
	}
}
