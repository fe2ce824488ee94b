package discovery

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// host parses "interface address" pairs.
func host(pairs ...string) []hostAddr {
	var found []hostAddr
	for i := 0; i < len(pairs); i += 2 {
		found = append(found, hostAddr{pairs[i], netip.MustParseAddr(pairs[i+1])})
	}
	return found
}

func TestAdvertiseChoosesTheAddress(t *testing.T) {
	office := []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("203.0.113.0/24")}
	usual := host("lo", "127.0.0.1", "lo", "::1", "eth0", "10.1.0.7", "eth0", "fe80::1", "docker0", "172.17.0.1", "br-2f", "172.18.0.1")
	two := append(host("eth1", "192.168.3.4"), usual...)
	for name, test := range map[string]struct {
		listen string
		with   Advertising
		env    string // "name=value"
		host   []hostAddr
		want   string
		err    []string // parts of the error
	}{
		"no host":             {listen: ":8080", host: usual, want: "10.1.0.7:8080"},
		"all of IPv4":         {listen: "0.0.0.0:8080", host: usual, want: "10.1.0.7:8080"},
		"all of IPv6":         {listen: "[::]:8080", host: usual, want: "10.1.0.7:8080"},
		"all, mapped":         {listen: "[::ffff:0.0.0.0]:8080", host: usual, want: "10.1.0.7:8080"},
		"shared network":      {listen: ":1", host: host("eth0", "100.64.3.4"), want: "100.64.3.4:1"},
		"only IPv6":           {listen: ":1", host: host("lo", "::1", "eth0", "fd00::7", "eth0", "fe80::1"), want: "[fd00::7]:1"},
		"IPv4 before IPv6":    {listen: ":1", host: host("eth0", "fd00::7", "eth0", "10.0.0.1"), want: "10.0.0.1:1"},
		"private first":       {listen: ":1", host: host("eth0", "203.0.113.9", "eth1", "10.0.0.1"), want: "10.0.0.1:1"},
		"IPv4 only, has IPv6": {listen: "0.0.0.0:1", host: host("eth0", "fd00::7"), err: []string{"no interface has one"}},

		"explicit":                {listen: ":1", with: Advertising{Addr: "192.0.2.1"}, host: two, want: "192.0.2.1:1"},
		"explicit with a port":    {listen: ":1", with: Advertising{Addr: "192.0.2.1:99"}, want: "192.0.2.1:99"},
		"explicit over listener":  {listen: "10.9.9.9:1", with: Advertising{Addr: "192.0.2.1"}, want: "192.0.2.1:1"},
		"explicit name":           {listen: ":1", with: Advertising{Addr: "Orders.Example"}, want: "orders.example:1"},
		"explicit IPv6":           {listen: ":1", with: Advertising{Addr: "2001:db8::1"}, want: "[2001:db8::1]:1"},
		"explicit bracketed IPv6": {listen: ":1", with: Advertising{Addr: "[2001:db8::1]"}, want: "[2001:db8::1]:1"},
		"explicit IPv6 and port":  {listen: ":1", with: Advertising{Addr: "[2001:db8::1]:99"}, want: "[2001:db8::1]:99"},
		"port of no listener":     {listen: "x", with: Advertising{Addr: "192.0.2.1:99"}, want: "192.0.2.1:99"},

		"listener on one address":  {listen: "10.9.9.9:1", env: "POD_IP=10.8.8.8", host: two, want: "10.9.9.9:1"},
		"listener on a public one": {listen: "203.0.113.9:1", want: "203.0.113.9:1"},
		"listener on IPv6":         {listen: "[2001:db8::1]:1", want: "[2001:db8::1]:1"},

		"pod":                  {listen: ":1", env: "POD_IP=10.8.8.8", host: two, want: "10.8.8.8:1"},
		"IPv6 pod":             {listen: ":1", env: "POD_IP=fd00::8", host: two, want: "[fd00::8]:1"},
		"environment and port": {listen: ":1", env: "ZEROHOP_ADDR=192.0.2.1:99", host: two, want: "192.0.2.1:99"},
		"public environment":   {listen: ":1", env: "ZEROHOP_ADDR=203.0.113.9", host: two, want: "203.0.113.9:1"},

		"preferred network":         {listen: ":1", with: Advertising{Prefer: office}, host: append(host("eth1", "10.2.5.5"), usual...), want: "10.2.5.5:1"},
		"second preferred network":  {listen: ":1", with: Advertising{Prefer: office}, host: append(host("eth1", "203.0.113.9"), usual...), want: "203.0.113.9:1"},
		"no preferred network":      {listen: ":1", with: Advertising{Prefer: office}, host: usual, err: []string{"none is in Advertising.Prefer", "10.1.0.7 of eth0"}},
		"two in one network":        {listen: ":1", with: Advertising{Prefer: office}, host: host("a", "10.2.0.1", "b", "10.2.0.2"), err: []string{"several are as good: 10.2.0.1 of a, 10.2.0.2 of b"}},
		"ignored":                   {listen: ":1", with: Advertising{Ignore: []string{"eth0", "docker*", "br-*"}}, host: two, want: "192.168.3.4:1"},
		"nothing ignored":           {listen: ":1", with: Advertising{Ignore: []string{}}, host: usual, err: []string{"several", "eth0", "docker0", "br-2f"}},
		"bad pattern":               {listen: ":1", with: Advertising{Ignore: []string{"a["}}, host: usual, err: []string{`Advertising.Ignore "a["`}},
		"several":                   {listen: ":1", host: two, err: []string{"several are as good: 192.168.3.4 of eth1, 10.1.0.7 of eth0", "Advertising.Addr", "ZEROHOP_ADDR"}},
		"public only":               {listen: ":1", host: host("eth0", "203.0.113.9"), err: []string{"none is private: 203.0.113.9 of eth0"}},
		"nothing":                   {listen: ":1", err: []string{"no interface has one"}},
		"loopback only":             {listen: ":1", host: host("lo", "127.0.0.1"), err: []string{"no interface has one"}},
		"loopback only and allowed": {listen: ":1", with: Advertising{AllowLoopback: true}, host: host("lo", "127.0.0.1", "lo", "::1"), want: "127.0.0.1:1"},
		"loopback last":             {listen: ":1", with: Advertising{AllowLoopback: true}, host: usual, want: "10.1.0.7:1"},

		"listener on loopback":      {listen: "127.0.0.1:1", env: "POD_IP=10.8.8.8", host: usual, err: []string{"address of the listener: only this host reaches 127.0.0.1:1", "AllowLoopback"}},
		"listener on some loopback": {listen: "127.8.9.1:1", err: []string{"only this host"}},
		"listener on ::1":           {listen: "[::1]:1", err: []string{"only this host"}},
		"listener on mapped":        {listen: "[::ffff:127.0.0.1]:1", err: []string{"only this host"}},
		"listener on localhost":     {listen: "LocalHost:1", err: []string{"only this host"}},
		"loopback, allowed":         {listen: "127.0.0.1:1", with: Advertising{AllowLoopback: true}, want: "127.0.0.1:1"},
		"explicit loopback":         {listen: ":1", with: Advertising{Addr: "127.0.0.1"}, err: []string{"Advertising.Addr: only this host"}},
		"loopback in environment":   {listen: ":1", env: "POD_IP=::1", err: []string{"environment variable POD_IP: only this host"}},
		"name below localhost":      {listen: ":1", with: Advertising{Addr: "a.localhost"}, err: []string{"only this host"}},

		"link-local":              {listen: "169.254.1.1:1", err: []string{"others cannot reach 169.254.1.1:1"}},
		"link-local IPv6":         {listen: ":1", with: Advertising{Addr: "fe80::1", AllowLoopback: true}, err: []string{"others cannot reach"}},
		"multicast":               {listen: "224.0.0.1:1", err: []string{"others cannot reach"}},
		"broadcast":               {listen: "255.255.255.255:1", err: []string{"others cannot reach"}},
		"explicit unspecified":    {listen: ":1", with: Advertising{Addr: "0.0.0.0"}, err: []string{"others cannot reach"}},
		"unspecified environment": {listen: ":1", env: "ZEROHOP_ADDR=[::]:80", err: []string{"ZEROHOP_ADDR: others cannot reach"}},
		"zone":                    {listen: "[fe80::1%eth0]:1", err: []string{"IPv6 zone"}},
		"port 0":                  {listen: ":0", host: usual, err: []string{"port is not in 1..65535"}},
		"name of a port":          {listen: "10.0.0.1:http", err: []string{"port is not in 1..65535"}},
		"no port":                 {listen: "10.0.0.1", err: []string{`discovery: address "10.0.0.1": address of the listener is not "host:port"`}},
		"nothing to listen on":    {listen: "", err: []string{"address of the listener"}},
		"port alone is not there": {listen: "x", with: Advertising{Addr: "192.0.2.1"}, err: []string{"address of the listener"}},
		"bad environment":         {listen: ":1", env: "POD_IP=10.0.0.256", host: usual, err: []string{"environment variable POD_IP"}},
	} {
		t.Run(name, func(t *testing.T) {
			key, value, _ := strings.Cut(test.env, "=")
			getenv := func(name string) string {
				if name == key {
					return value
				}
				return ""
			}
			got, err := test.with.choose(test.listen, getenv, func() ([]hostAddr, error) { return test.host, nil })
			if got != test.want || (err == nil) != (test.err == nil) {
				t.Errorf("address is %q (%v), want %q", got, err, test.want)
			}
			for _, part := range test.err {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("error is %v, want %q in it", err, part)
				}
			}
		})
	}
}

func TestAdvertiseReportsHostsWithoutInterfaces(t *testing.T) {
	broken := errors.New("broken")
	_, err := Advertising{}.choose(":1", func(string) string { return "" }, func() ([]hostAddr, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("error is %v, want %v", err, broken)
	}
}

func TestAdvertiseTakesListeners(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got, err := Advertise(l.Addr().String(), Advertising{AllowLoopback: true})
	if want := l.Addr().String(); got != want || err != nil {
		t.Errorf("Advertise() = %q, %v, want %q", got, err, want)
	}
	if got, err := Advertise(l.Addr().String(), Advertising{}); err == nil {
		t.Errorf("Advertise() = %q, want an error: nobody else reaches loopback", got)
	}
	t.Setenv("POD_IP", "192.0.2.1")
	if got, err := Advertise(":8080", Advertising{}); got != "192.0.2.1:8080" || err != nil {
		t.Errorf("Advertise() = %q, %v, want that of POD_IP", got, err)
	}
}

func TestHostAddrsListsLoopback(t *testing.T) {
	found, err := hostAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range found {
		if h.IsLoopback() && h.Interface != "" {
			return
		}
	}
	t.Errorf("addresses are %v, want one of loopback among them", found)
}

func FuzzAdvertise(f *testing.F) {
	f.Add(":8080", "", "10.0.0.1")
	f.Add("[::]:80", "[2001:db8::1]:99", "::1")
	f.Add("127.0.0.1:1", "a.localhost", "x")
	f.Fuzz(func(t *testing.T, listen, addr, env string) {
		got, err := Advertising{Addr: addr}.choose(listen, func(string) string { return env }, func() ([]hostAddr, error) {
			return host("eth0", "10.0.0.1"), nil
		})
		if err != nil {
			return
		}
		if again, err := canonicalAddr(got); again != got || err != nil {
			t.Errorf("%q is not canonical: %q, %v", got, again, err)
		}
		name, _, _ := net.SplitHostPort(got)
		ip, _ := netip.ParseAddr(name)
		if name == "localhost" || ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
			t.Errorf("%q is advertised", got)
		}
	})
}
