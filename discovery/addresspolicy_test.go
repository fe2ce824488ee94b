package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/zerohop/zerohop/internal/addrtest"
)

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func TestAddressPolicyRefusesEverySpelling(t *testing.T) {
	if got, want := len(addrtest.Refused), 200; got < want {
		t.Fatalf("%d spellings, want at least %d", got, want)
	}
	for _, addr := range addrtest.Refused {
		if err := (AddressPolicy{}).Check(addr); err == nil {
			t.Errorf("Check(%q) = nil, want an error", addr)
		} else if len(err.Error()) > 500 {
			t.Errorf("Check(%q) has an error of %d bytes", addr, len(err.Error()))
		}
	}
}

func TestAddressPolicyAllowsServices(t *testing.T) {
	for _, addr := range []string{
		"10.0.0.1:80", "172.16.0.1:80", "192.168.0.1:80", "100.64.0.1:80", "100.100.100.201:80", "192.0.2.1:80", "198.18.0.1:80",
		"8.8.8.8:443", "1.0.0.0:1", "126.255.255.255:80", "128.0.0.1:80", "169.253.255.255:80", "169.255.0.1:80", "223.255.255.255:80",
		"[::ffff:10.0.0.1]:80", "[fd00::1]:80", "[fd00:ec1::254]:80", "[fc00::1]:80", "[2001:db8::1]:80", "[2600:1f00::1]:80",
		"[64:ff9b::a00:1]:80", "[64:ff9b:1::a00:1]:80", "[64:ff9b:1:a00:0:100::]:80", "[2002:a00:1::1]:80", "[2001:0:a00:1::f5ff:fffe]:80",
		"[2001:1::7f00:1]:80", "[64:ff9b:2::7f00:1]:80", "[2003:7f00:1::1]:80", "orders:80", "orders.example.com.:80", "localhosts:80",
		"localhost.example.com:80", "notlocalhost:80", "127-0-0-1.example.com:80",
	} {
		if err := (AddressPolicy{}).Check(addr); err != nil {
			t.Errorf("Check(%q) = %v, want nil", addr, err)
		}
	}
}

func TestAddressPolicyFields(t *testing.T) {
	for _, tt := range []struct {
		policy        AddressPolicy
		allow, refuse []string
	}{
		{
			AddressPolicy{AllowLoopback: true},
			[]string{"127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "localhost:80", "a.localhost:80"},
			[]string{"[64:ff9b::7f00:1]:80", "0.0.0.0:80", "169.254.169.254:80", "[2002:7f00:1::1]:80"},
		},
		{
			AddressPolicy{Allow: prefixes("127.0.0.0/8")}, []string{"127.0.0.1:80", "[::ffff:127.0.0.1]:80", "localhost:80"}, []string{"[::1]:80", "[64:ff9b::7f00:1]:80"},
		},
		{AddressPolicy{Allow: prefixes("::1/128")}, []string{"[::1]:80", "localhost:80"}, []string{"127.0.0.1:80"}},
		{AddressPolicy{Allow: prefixes("64:ff9b::/96")}, []string{"[64:ff9b::7f00:1]:80"}, []string{"127.0.0.1:80"}},
		{AddressPolicy{Allow: prefixes("169.254.20.0/24")}, []string{"169.254.20.10:80"}, []string{"169.254.169.254:80", "localhost:80"}},
		{
			AddressPolicy{Only: prefixes("10.0.0.0/8", "fd00::/8")},
			[]string{"10.255.0.1:80", "[fd12::1]:80", "[::ffff:10.0.0.1]:80", "orders:80"},
			[]string{"11.0.0.1:80", "[fc00::1]:80", "[64:ff9b::a00:1]:80", "[fd00:ec2::254]:80", "localhost:80"},
		},
		{AddressPolicy{Only: prefixes("0.0.0.0/0")}, []string{"10.0.0.1:80"}, []string{"127.0.0.1:80", "169.254.169.254:80", "[2001:db8::1]:80"}},
		{
			AddressPolicy{Ports: []PortRange{{First: 80}, {First: 8000, Last: 8100}}},
			[]string{"10.0.0.1:80", "10.0.0.1:8000", "10.0.0.1:8100", "orders:8080"},
			[]string{"10.0.0.1:22", "10.0.0.1:7999", "10.0.0.1:8101", "orders:81"},
		},
		{AddressPolicy{NoNames: true, AllowLoopback: true}, []string{"10.0.0.1:80"}, []string{"orders:80", "localhost:80"}},
	} {
		for _, addr := range tt.allow {
			if err := tt.policy.Check(addr); err != nil {
				t.Errorf("%+v.Check(%q) = %v, want nil", tt.policy, addr, err)
			}
		}
		for _, addr := range tt.refuse {
			var refused *AddressError
			if err := tt.policy.Check(addr); !errors.As(err, &refused) {
				t.Errorf("%+v.Check(%q) = %v, want an *AddressError", tt.policy, addr, err)
			}
		}
	}
}

func TestAddressErrorSaysHowToAllow(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:80":       `address "127.0.0.1:80": refused: it is a loopback address; AllowLoopback in`,
		"LOCALHOST:80":       `address "localhost:80": refused: it is the loopback; AllowLoopback in`,
		"169.254.169.254:80": "where clouds hand out credentials; a prefix in Allow of",
	} {
		if err := (AddressPolicy{}).Check(addr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check(%q) = %v, want it to say %q", addr, err, want)
		}
	}
}

func TestAddressPolicyValidate(t *testing.T) {
	good := AddressPolicy{Allow: prefixes("127.0.0.0/8"), Only: prefixes("10.1.2.3/8"), Ports: []PortRange{{First: 1}, {1, 65535}}}
	if err := good.Validate(); err != nil {
		t.Errorf("Validate() = %v, want nil", err)
	}
	bad := AddressPolicy{
		Allow: append(prefixes("127.0.0.0/8", "::ffff:127.0.0.0/104"), netip.Prefix{}),
		Only:  []netip.Prefix{{}}, Ports: []PortRange{{First: 80}, {}, {80, 79}},
	}
	err := bad.Validate()
	for _, field := range []string{"allow[1]:", "allow[2]:", "only[0]:", "ports[1]:", "ports[2]:"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("Validate() = %v, want it to name %s", err, field)
		}
	}
}

func TestAddressPolicyControlGuardsDials(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost"} { // the name is resolved by the dialer
		d := net.Dialer{ControlContext: AddressPolicy{}.Control}
		conn, err := d.Dial("tcp", net.JoinHostPort(host, port))
		if err == nil {
			conn.Close()
		}
		var refused *AddressError
		var op *net.OpError
		if !errors.As(err, &refused) || !errors.As(err, &op) || op.Op != "dial" {
			t.Errorf("Dial(%s) = %v, want an *AddressError in a dial error", host, err)
		}
		d.ControlContext = AddressPolicy{AllowLoopback: true}.Control
		if conn, err = d.Dial("tcp", net.JoinHostPort(host, port)); err != nil {
			t.Errorf("Dial(%s) with AllowLoopback = %v", host, err)
			continue
		}
		conn.Close()
	}
	if err := (AddressPolicy{}).Control(t.Context(), "unix", "/run/a.sock", nil); err != nil {
		t.Errorf("Control() of a socket = %v, want nil", err)
	}
	if err := (AddressPolicy{}).Control(t.Context(), "tcp6", "[fe80::1%eth0]:80", nil); err == nil {
		t.Error("Control() of a zone = nil, want an error")
	}
}

func TestRunChecksAddressesOfRemoteSources(t *testing.T) {
	answer := []Endpoint{{Addr: "127.0.0.1:80"}, {Addr: "10.0.0.1:80"}, {Addr: "169.254.169.254:80"}}
	for _, tt := range []struct {
		resolver Resolver
		policy   AddressPolicy
		want     int
	}{
		{sourced{Static{"a": answer}, true}, AddressPolicy{}, 1},
		{sourced{Static{"a": answer}, true}, AddressPolicy{AllowLoopback: true}, 2},
		{Static{"a": answer}, AddressPolicy{}, 3},
		{Static{"a": answer}, AddressPolicy{Everywhere: true}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			got, refused := -1, 0
			opts := RunOptions{Addresses: tt.policy, Observe: func(e Event) { refused += e.Dropped.Refused }}
			go Run(ctx, tt.resolver, "a", opts, func(set []Endpoint) { got = len(set) })
			synctest.Wait()
			cancel()
			synctest.Wait()
			if got != tt.want || refused != len(answer)-tt.want {
				t.Errorf("%T with %+v: %d endpoints and %d refused, want %d", tt.resolver, tt.policy, got, refused, tt.want)
			}
		})
	}
}

func TestRunSaysThatAllAddressesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var events []Event
		opts := RunOptions{Observe: func(e Event) { events = append(events, e) }}
		r := sourced{Static{"a": {{Addr: "127.0.0.1:80"}, {Addr: "[::1]:80"}}}, true}
		go Run(ctx, r, "a", opts, func(set []Endpoint) { t.Errorf("set %v", set) })
		synctest.Wait()
		cancel()
		synctest.Wait()
		if len(events) == 0 || events[0].Kind != EventAnswerRejected || events[0].Dropped.Refused != 2 {
			t.Fatalf("events = %+v, want a rejected answer", events)
		}
		var refused *AddressError
		if !errors.As(events[0].Err, &refused) || !strings.Contains(events[0].Err.Error(), "AllowLoopback") {
			t.Errorf("error = %v, want an *AddressError that says how to allow it", events[0].Err)
		}
	})
}

// FuzzAddressPolicy compares the policy with an oracle that knows nothing of netip: it compares bits of one large number.
func FuzzAddressPolicy(f *testing.F) {
	for _, addr := range addrtest.Refused {
		if ap, err := netip.ParseAddrPort(addr); err == nil {
			b := ap.Addr().As16()
			f.Add(b[:], uint8(len(addr)))
		}
	}
	for _, s := range []string{"10.0.0.1", "2001:db8::1", "64:ff9b::a00:1", "64:ff9b:1:a00:0:100::", "2002:a00:1::1"} {
		b := netip.MustParseAddr(s).As16()
		f.Add(b[:], uint8(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, spelling uint8) {
		if len(b) < 16 {
			b = append(bytes.Repeat([]byte{0}, 16-len(b)), b...)
		}
		b = b[:16]
		addr := spell(b, spelling)
		err := (AddressPolicy{}).Check(addr)
		if want := oracleRefuses(b); (err != nil) != want {
			t.Errorf("Check(%q) = %v, want refused = %v", addr, err, want)
		}
		ip, _ := netip.AddrFromSlice(b)
		alone := AddressPolicy{Allow: []netip.Prefix{netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())}}
		if alone.Check(addr) != nil {
			t.Errorf("Check(%q) with a prefix for it alone is an error", addr)
		}
	})
}

// spell writes an address in one of several ways.
func spell(b []byte, how uint8) string {
	ip := net.IP(b)
	groups := make([]string, 8)
	for i := range groups {
		groups[i] = fmt.Sprintf([]string{"%x", "%04x", "%04X"}[how%3], int(b[2*i])<<8|int(b[2*i+1]))
	}
	switch {
	case how%5 == 0 && ip.To4() != nil:
		return net.JoinHostPort(ip.String(), "80")
	case how%5 == 1:
		return fmt.Sprintf("[%s:%d.%d.%d.%d]:80", strings.Join(groups[:6], ":"), b[12], b[13], b[14], b[15])
	case how%5 == 2 && ip.To4() == nil:
		return "[" + strings.ToUpper(ip.String()) + "]:0080"
	}
	return "[" + strings.Join(groups, ":") + "]:80"
}

// oracleRefuses says what the zero value of AddressPolicy must do.
func oracleRefuses(b []byte) bool {
	n := new(big.Int).SetBytes(b)
	top := func(bits uint) string { return new(big.Int).Rsh(n, 128-bits).Text(16) }
	v4 := func(at uint) uint32 { return uint32(new(big.Int).Rsh(n, at).Uint64()) }
	switch {
	case top(96) == "ffff":
		return oracleRefuses4(v4(0))
	case n.BitLen() <= 32, top(96) == "ffff0000", top(96) == "64ff9b0000000000000000":
		return oracleRefuses4(v4(0))
	case top(16) == "2002":
		return oracleRefuses4(v4(80))
	case top(32) == "20010000":
		return oracleRefuses4(v4(64)) || oracleRefuses4(^v4(0))
	case top(10) == "3fa", top(8) == "ff", top(32) == "fd000ec2":
		return true
	case n.Text(16) == "fd2000ce000000000000000000000254", n.Text(16) == "fd0000c10000000000000000a9fea9fe":
		return true
	case top(48) == "64ff9b0001":
		places := []uint32{
			uint32(b[6])<<24 | uint32(b[7])<<16 | v4(40)&0xffff, uint32(b[7])<<24 | v4(32)&0xffffff, v4(24), v4(0),
		}
		empty := true
		for _, p := range places {
			if p > 0xffffff {
				empty = false
				if oracleRefuses4(p) {
					return true
				}
			}
		}
		return empty
	}
	return false
}

func oracleRefuses4(n uint32) bool {
	first, second := n>>24, n>>16&0xff
	return first == 0 || first == 127 || first == 169 && second == 254 || first >= 224 ||
		n == 100<<24|100<<16|100<<8|200 || n == 168<<24|63<<16|129<<8|16 || n == 192<<24|192
}
