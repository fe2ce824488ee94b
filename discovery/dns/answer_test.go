package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"
)

// message makes an answer of records in the form of zone files. Those after "authority" and "additional" go there.
func message(t testing.TB, q question, code int, records ...string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.kind)
	m.Response, m.RecursionAvailable, m.Rcode = true, true, code
	section := &m.Answer
	for _, text := range records {
		switch text {
		case "authority":
			section = &m.Ns
			continue
		case "additional":
			section = &m.Extra
			continue
		}
		rr, err := dns.NewRR(text)
		if err != nil || rr == nil {
			t.Fatalf("record %q: %v", text, err)
		}
		*section = append(*section, rr)
	}
	return m
}

var (
	hostQuestion = question{"web.test.", dns.TypeA}
	srvQuestion  = question{"_http._tcp.web.test.", dns.TypeSRV}
)

func addrsOf(list ...string) (addrs []netip.Addr) {
	for _, s := range list {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	return addrs
}

func TestRead(t *testing.T) {
	const soa = "test. 60 SOA ns.test. root.test. 1 60 60 600 5"
	for name, tt := range map[string]struct {
		q       question
		code    int
		records []string
		want    answer
		next    string
	}{
		"addresses": {hostQuestion, 0, []string{"web.test. 20 A 192.0.2.1", "WEB.test. 10 A 192.0.2.2"}, answer{addrs: addrsOf("192.0.2.1", "192.0.2.2"), ttl: 10 * time.Second}, ""},
		"IPv6": {
			question{"web.test.", dns.TypeAAAA}, 0, []string{"web.test. 20 AAAA 2001:db8::1", "web.test. 1 A 192.0.2.1"},
			answer{addrs: addrsOf("2001:db8::1"), ttl: 20 * time.Second}, "",
		},
		"other names":     {hostQuestion, 0, []string{"web.test. 20 A 192.0.2.1", "evil.test. 10 A 192.0.2.2"}, answer{addrs: addrsOf("192.0.2.1"), ttl: 20 * time.Second}, ""},
		"other classes":   {hostQuestion, 0, []string{"web.test. 20 CH A 192.0.2.1", "authority", soa}, answer{ttl: 5 * time.Second}, ""},
		"a day":           {hostQuestion, 0, []string{"web.test. 86400 A 192.0.2.1"}, answer{addrs: addrsOf("192.0.2.1"), ttl: longestLife}, ""},
		"no time":         {hostQuestion, 0, []string{"web.test. 0 A 192.0.2.1"}, answer{addrs: addrsOf("192.0.2.1")}, ""},
		"a negative time": {hostQuestion, 0, []string{"web.test. 2147483648 A 192.0.2.1"}, answer{addrs: addrsOf("192.0.2.1")}, ""},
		"aliases": {
			hostQuestion, 0, []string{"B.test. 7 CNAME c.test.", "web.test. 9 CNAME b.test.", "c.test. 20 A 192.0.2.1"},
			answer{addrs: addrsOf("192.0.2.1"), ttl: 7 * time.Second}, "",
		},
		"alias elsewhere":  {hostQuestion, 0, []string{"web.test. 9 CNAME B.example."}, answer{ttl: 9 * time.Second}, "b.example."},
		"alias of nothing": {hostQuestion, 0, []string{"web.test. 9 CNAME b.test.", "authority", soa}, answer{ttl: 5 * time.Second}, ""},
		"no such name":     {hostQuestion, dns.RcodeNameError, []string{"authority", soa}, answer{ttl: 5 * time.Second}, ""},
		"no such name, long": {
			hostQuestion, dns.RcodeNameError, []string{"authority", "test. 3 SOA ns.test. root.test. 1 60 60 600 86400"}, answer{ttl: 3 * time.Second}, "",
		},
		"no such name, no time": {hostQuestion, dns.RcodeNameError, nil, answer{}, ""},
		"no records":            {hostQuestion, 0, []string{"authority", soa}, answer{ttl: 5 * time.Second}, ""},
		"no records, no time":   {hostQuestion, 0, nil, answer{}, ""},
		"instances": {
			srvQuestion, 0,
			[]string{
				"_http._tcp.web.test. 20 SRV 1 2 80 W1.test.", "_http._tcp.web.test. 20 SRV 3 4 81 w2.test.",
				"additional", "w1.test. 15 A 192.0.2.1", "w1.test. 15 AAAA 2001:db8::1", "evil.test. 1 A 192.0.2.9",
			},
			answer{
				targets: []record{{"w1.test.", 80, 1, 2}, {"w2.test.", 81, 3, 4}},
				glue:    map[string][]netip.Addr{"w1.test.": addrsOf("192.0.2.1", "2001:db8::1"), "w2.test.": nil},
				ttl:     15 * time.Second,
			},
			"",
		},
		"not available": {srvQuestion, 0, []string{"_http._tcp.web.test. 20 SRV 0 0 0 ."}, answer{targets: []record{{".", 0, 0, 0}}, ttl: 20 * time.Second}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, next, err := read(message(t, tt.q, tt.code, tt.records...), tt.q)
			if err != nil || next != tt.next {
				t.Errorf("read() = %q, %v, want %q", next, err, tt.next)
			}
			opts := []cmp.Option{cmp.AllowUnexported(answer{}, record{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()}
			if diff := cmp.Diff(tt.want, got, opts...); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadRejects(t *testing.T) {
	var chain []string
	for i := range maxAliases {
		chain = append(chain, fmt.Sprintf("a%d.test. 1 CNAME a%d.test.", i, i+1))
	}
	chain = append(chain, "web.test. 1 CNAME a0.test.", fmt.Sprintf("a%d.test. 1 A 192.0.2.1", maxAliases))
	for name, tt := range map[string]struct {
		code    int
		records []string
		want    error
	}{
		"failing server":   {dns.RcodeServerFailure, []string{"web.test. 1 A 192.0.2.1"}, codeError(dns.RcodeServerFailure)},
		"refusing server":  {dns.RcodeRefused, nil, codeError(dns.RcodeRefused)},
		"unknown code":     {3841, nil, codeError(3841)},
		"circle":           {0, []string{"web.test. 1 CNAME b.test.", "b.test. 1 CNAME web.test."}, errAliases},
		"alias of itself":  {0, []string{"web.test. 1 CNAME web.test."}, errAliases},
		"many aliases":     {0, chain, errAliases},
		"referral":         {0, []string{"authority", "test. 60 NS ns.test."}, errReferral},
		"records and none": {dns.RcodeNameError, []string{"web.test. 1 A 192.0.2.1"}, errContradicts},
	} {
		m := message(t, hostQuestion, tt.code, tt.records...)
		if got, next, err := read(m, hostQuestion); !errors.Is(err, tt.want) || next != "" || !got.empty() {
			t.Errorf("%s: read() = %v, %q, %v, want %v", name, got, next, err, tt.want)
		}
	}
	if got, want := codeError(3841).Error(), "response code 3841"; got != want {
		t.Errorf("error is %q, want %q", got, want)
	}
}

func TestInstances(t *testing.T) {
	addresses := func(target string) []netip.Addr {
		switch target {
		case "one.":
			return addrsOf("192.0.2.1")
		case "two.":
			return addrsOf("192.0.2.2", "192.0.2.3")
		case "six.":
			return addrsOf("2001:db8::1")
		}
		return nil
	}
	show := func(records ...record) string {
		var list []string
		for _, ep := range instances(available(records), addresses) {
			list = append(list, fmt.Sprintf("%s*%d@%d %s", ep.Addr, ep.Weight, ep.Priority, ep.Meta[targetKey]))
		}
		return strings.Join(list, ", ")
	}
	for name, tt := range map[string]struct {
		records []record
		want    string
	}{
		"weights":         {[]record{{"one.", 1, 0, 10}, {"six.", 2, 0, 65535}}, "192.0.2.1:1*10@0 one, [2001:db8::1]:2*65535@0 six"},
		"no weights":      {[]record{{"one.", 1, 0, 0}, {"six.", 2, 0, 0}}, "192.0.2.1:1*1@0 one, [2001:db8::1]:2*1@0 six"},
		"weight 0 beside": {[]record{{"one.", 1, 0, 0}, {"six.", 2, 0, 99}}, "192.0.2.1:1*1@0 one, [2001:db8::1]:2*99@0 six"},
		"two addresses":   {[]record{{"two.", 1, 0, 65535}, {"one.", 2, 0, 1}}, "192.0.2.2:1*393210@0 two, 192.0.2.3:1*393210@0 two, 192.0.2.1:2*12@0 one"},
		"priorities":      {[]record{{"six.", 2, 65535, 1}, {"one.", 1, 10, 1}}, "192.0.2.1:1*1@0 one, [2001:db8::1]:2*1@1 six"},
		"no address":      {[]record{{"none.", 1, 0, 1}, {"one.", 1, 5, 1}}, "192.0.2.1:1*1@1 one"},
		"not available":   {[]record{{".", 0, 0, 0}}, ""},
		"no port":         {[]record{{"one.", 0, 0, 0}}, ""},
		"first stays":     {[]record{{"one.", 1, 9, 7}, {"one.", 1, 2, 3}}, "192.0.2.1:1*3@0 one, 192.0.2.1:1*7@1 one"},
	} {
		if got := show(tt.records...); got != tt.want {
			t.Errorf("%s: instances are %q, want %q", name, got, tt.want)
		}
	}
	var many []record
	for i := range 300 {
		many = append(many, record{"one.", uint16(i + 1), uint16(i), 1})
	}
	if set := instances(many, addresses); set[255].Priority != 255 || set[299].Priority != 255 {
		t.Errorf("levels %d and %d, want 255", set[255].Priority, set[299].Priority)
	}
}

func TestPick(t *testing.T) {
	both, six := addrsOf("192.0.2.1", "2001:db8::1", "192.0.2.2"), addrsOf("2001:db8::1")
	for network, want := range map[string][2]int{"": {2, 1}, "ip": {3, 1}, "ip4": {2, 0}, "ip6": {1, 1}} {
		if got := [2]int{len(pick(network, both)), len(pick(network, six))}; got != want {
			t.Errorf("pick(%q) leaves %v, want %v", network, got, want)
		}
	}
}
