package discovery

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCanonicalAddr(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 49)+".", 5) // 250 bytes
	for _, tt := range []struct{ addr, want string }{
		{"127.0.0.1:80", "127.0.0.1:80"},
		{"127.0.0.1:0080", "127.0.0.1:80"},
		{"127.0.0.1:65535", "127.0.0.1:65535"},
		{"[::ffff:127.0.0.1]:80", "127.0.0.1:80"},
		{"[2001:DB8:0::1]:443", "[2001:db8::1]:443"},
		{"Orders.Example.COM:80", "orders.example.com:80"},
		{"orders.svc.:80", "orders.svc.:80"},
		{"my_container-1:80", "my_container-1:80"},
		{"0xzz:80", "0xzz:80"},
		{"3com:80", "3com:80"},
		{long + "abc:80", long + "abc:80"},

		{"", ""},
		{":80", ""},
		{".:80", ""},
		{"127.0.0.1", ""},
		{"127.0.0.1:", ""},
		{"127.0.0.1:0", ""},
		{"127.0.0.1:-1", ""},
		{"127.0.0.1:+80", ""},
		{"127.0.0.1:65536", ""},
		{"127.0.0.1:http", ""},
		{"127.0.0.1:80:80", ""},
		{"127.1:80", ""},
		{"127.0.0.256:80", ""},
		{"0x7f.0.0.0x1:80", ""},
		{"2130706433:80", ""},
		{"::1:80", ""},
		{"2001:db8::1", ""},
		{"[::1]", ""},
		{"[::1:80", ""},
		{"[127.0.0.1]:80", ""},
		{"[orders]:80", ""},
		{"[fe80::1%eth0]:80", ""},
		{"fe80::1%eth0:80", ""},
		{"host%eth0:80", ""},
		{" host:80", ""},
		{"host :80", ""},
		{"ho st:80", ""},
		{"host\n:80", ""},
		{"host\x00:80", ""},
		{"host: 80", ""},
		{"hóst:80", ""},
		{"a..b:80", ""},
		{"-a:80", ""},
		{"a-.b:80", ""},
		{"user@host:80", ""},
		{"host/path:80", ""},
		{strings.Repeat("a", 64) + ":80", ""},
		{long + "abcd:80", ""},
	} {
		got, err := canonicalAddr(tt.addr)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("canonicalAddr(%q) = %q, %v, want %q", tt.addr, got, err, tt.want)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("canonicalAddr(%q) has an error of %d bytes", tt.addr, len(err.Error()))
		}
	}
}

func TestNormalize(t *testing.T) {
	long := strings.Repeat("x", maxText+1)
	for _, tt := range []struct {
		name    string
		answer  []Endpoint
		want    []Endpoint
		dropped Dropped
	}{
		{name: "empty", want: []Endpoint{}},
		{
			name:   "sorted, with weights in range",
			answer: []Endpoint{{Addr: "b:1", Weight: 1e6}, {Addr: "a:1"}, {Addr: "c:1", Weight: 7}},
			want:   []Endpoint{{Addr: "a:1", Weight: 1}, {Addr: "b:1", Weight: 1e6}, {Addr: "c:1", Weight: 7}},
		},
		{
			name:    "weights that are too much, or negative",
			answer:  []Endpoint{{Addr: "a:1", Weight: 1e6 + 1}, {Addr: "b:1", Weight: math.MaxInt32}, {Addr: "c:1", Weight: math.MaxInt32 + 1}, {Addr: "d:1", Weight: math.MaxUint32}},
			want:    []Endpoint{{Addr: "a:1", Weight: 1e6}, {Addr: "b:1", Weight: 1e6}, {Addr: "c:1", Weight: 1}, {Addr: "d:1", Weight: 1}},
			dropped: Dropped{Weight: 4},
		},
		{
			name:    "one address in two spellings: the first stays",
			answer:  []Endpoint{{Addr: "127.0.0.1:80", Weight: 2}, {Addr: "[::ffff:127.0.0.1]:80", Weight: 3}},
			want:    []Endpoint{{Addr: "127.0.0.1:80", Weight: 2}},
			dropped: Dropped{Duplicate: 1},
		},
		{
			name: "duplicates: healthy beats unhealthy",
			answer: []Endpoint{{Addr: "a:1", Health: Unhealthy, Weight: 2}, {Addr: "a:1", Health: Draining, Weight: 3},
				{Addr: "A:1", Weight: 4}, {Addr: "a:1", Weight: 5}},
			want:    []Endpoint{{Addr: "a:1", Weight: 4}},
			dropped: Dropped{Duplicate: 3},
		},
		{
			name:   "unknown health is unhealthy",
			answer: []Endpoint{{Addr: "a:1", Health: 9}},
			want:   []Endpoint{{Addr: "a:1", Weight: 1, Health: Unhealthy}},
		},
		{
			name:   "terminating is kept",
			answer: []Endpoint{{Addr: "a:1", Health: Terminating}},
			want:   []Endpoint{{Addr: "a:1", Weight: 1, Health: Terminating}},
		},
		{
			name:    "invalid addresses",
			answer:  []Endpoint{{Addr: "a"}, {Addr: "b:1"}, {Addr: "c:0"}},
			want:    []Endpoint{{Addr: "b:1", Weight: 1}},
			dropped: Dropped{Addr: 2},
		},
		{
			name:    "zones",
			answer:  []Endpoint{{Addr: "a:1", Zone: long}, {Addr: "b:1", Zone: long[1:]}, {Addr: "c:1", Zone: "x\r\n"}},
			want:    []Endpoint{{Addr: "a:1", Weight: 1}, {Addr: "b:1", Weight: 1, Zone: long[1:]}, {Addr: "c:1", Weight: 1}},
			dropped: Dropped{Zone: 2},
		},
		{
			name: "metadata",
			answer: []Endpoint{{Addr: "a:1", Meta: map[string]string{
				"version": "1", long: "key", "value": long, "header\n": "", "control": "\x1b[1m", "bytes": "\xff", "long": long[1:],
			}}},
			want:    []Endpoint{{Addr: "a:1", Weight: 1, Meta: map[string]string{"version": "1", "long": long[1:]}}},
			dropped: Dropped{Meta: 5},
		},
	} {
		got, dropped, bad := normalize(tt.answer, nil)
		if diff := cmp.Diff(tt.want, got); diff != "" || dropped != tt.dropped {
			t.Errorf("%s: dropped %+v, want %+v; set (-want +got):\n%s", tt.name, dropped, tt.dropped, diff)
		}
		if (bad != nil) != (dropped.Addr+dropped.Weight > 0) {
			t.Errorf("%s: reason %v with %d invalid addresses and %d weights", tt.name, bad, dropped.Addr, dropped.Weight)
		}
	}
}

func TestNormalizeKeepsTheFirstOfManyDuplicates(t *testing.T) {
	var answer []Endpoint
	for i := range uint32(100) {
		answer = append(answer, Endpoint{Addr: fmt.Sprintf("h%d:1", i%3), Weight: i + 1})
	}
	got, _, _ := normalize(answer, nil)
	want := []Endpoint{{Addr: "h0:1", Weight: 1}, {Addr: "h1:1", Weight: 2}, {Addr: "h2:1", Weight: 3}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("set (-want +got):\n%s", diff)
	}
}

func TestNormalizeLimitsMetadataTheSameWayEachTime(t *testing.T) {
	meta := map[string]string{}
	for i := range maxMetaKeys + 10 {
		meta[fmt.Sprintf("key-%03d", i)] = "v"
	}
	first, dropped, _ := normalize([]Endpoint{{Addr: "a:1", Meta: meta}}, nil)
	if got := len(first[0].Meta); got != maxMetaKeys || dropped.Meta != 10 {
		t.Fatalf("normalize() keeps %d keys and drops %d, want %d and 10", got, dropped.Meta, maxMetaKeys)
	}
	if got := len(meta); got != maxMetaKeys+10 {
		t.Errorf("normalize() changed the map of the answer: %d keys", got)
	}
	if second, _, _ := normalize([]Endpoint{{Addr: "a:1", Meta: meta}}, nil); !equal(first, second) {
		t.Error("normalize() of the same answer gives two sets")
	}
}

func FuzzNormalize(f *testing.F) {
	f.Add("127.0.0.1:80", "[::ffff:127.0.0.1]:80", "zone", "key", "value", uint32(0), uint8(0))
	f.Add("a:1", "A:1", "\x00", "k\n", "\xff", uint32(math.MaxUint32), uint8(3))
	f.Add("[fe80::1%eth0]:80", "0x7f.1:80", strings.Repeat("z", 300), "", "", uint32(5), uint8(1))
	f.Fuzz(func(t *testing.T, a, b, zone, key, value string, weight uint32, health uint8) {
		answer := []Endpoint{
			{Addr: b, Weight: weight, Zone: zone, Health: Health(health), Meta: map[string]string{key: value}},
			{Addr: a, Weight: weight / 2, Meta: map[string]string{value: key, zone: zone}},
			{Addr: b, Weight: 1},
		}
		before := slices.Clone(answer)
		set, dropped, bad := normalize(answer, nil)
		if !equal(answer, before) {
			t.Fatal("normalize() changed the answer")
		}
		if len(set)+dropped.Addr+dropped.Duplicate != len(answer) || (bad != nil) != (dropped.Addr+dropped.Weight > 0) {
			t.Fatalf("normalize() = %d endpoints, %+v, %v of %d", len(set), dropped, bad, len(answer))
		}
		for i, e := range set {
			if i > 0 && set[i-1].Addr >= e.Addr {
				t.Errorf("%q is not before %q", set[i-1].Addr, e.Addr)
			}
			if again, err := canonicalAddr(e.Addr); err != nil || again != e.Addr {
				t.Errorf("canonicalAddr(%q) = %q, %v, want no change", e.Addr, again, err)
			}
			if e.Weight < 1 || e.Weight > maxWeight || e.Health > Terminating || !printable(e.Zone) {
				t.Errorf("endpoint out of range: %+v", e)
			}
			for k, v := range e.Meta {
				if !printable(k) || !printable(v) {
					t.Errorf("metadata %q=%q is not printable", k, v)
				}
			}
		}
		if again, dropped, _ := normalize(set, nil); !equal(again, set) || dropped != (Dropped{}) {
			t.Errorf("normalize() of its own result drops %+v", dropped)
		}
	})
}

func BenchmarkNormalize(b *testing.B) {
	answer := make([]Endpoint, maxEndpoints)
	for i := range answer {
		answer[i] = Endpoint{
			Addr: fmt.Sprintf("10.%d.%d.%d:8080", i*7919%251, i/256, i%256), Zone: "a", Meta: map[string]string{"version": "1"},
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		normalize(answer, new(AddressPolicy))
	}
}

func equal(a, b []Endpoint) bool { return slices.EqualFunc(a, b, Endpoint.Equal) }
