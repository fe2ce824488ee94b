//go:build unix

package dnstest

import (
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestServerKeepsRecordsThroughKill(t *testing.T) {
	s := Start(t)
	const name = "web." + Zone
	s.Set(t, name, name+" 1 A 192.0.2.1", name+" 1 A 192.0.2.2")
	check := func(want int) {
		t.Helper()
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		reply, _, err := (&dns.Client{Timeout: 10 * time.Second}).Exchange(m, s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if got := len(reply.Answer); got != want {
			t.Errorf("%d records, want %d: %v", got, want, reply)
		}
	}
	check(2)
	s.Kill(t)
	s.Restart(t)
	check(2)
	s.Set(t, name, name+" 1 A 192.0.2.3")
	check(1)
	s.Set(t, name)
	check(0)
}
