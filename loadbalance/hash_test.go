package loadbalance

import "testing"

// The values are those of the reference implementation.
func TestHashIsXXH64(t *testing.T) {
	const long = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz"
	for _, c := range []struct {
		s           string
		zero, seed1 uint64
	}{
		{"", 0xef46db3751d8e999, 0xd5afba1336a3be4b},
		{"a", 0xd24ec4f1a98c6e5b, 0xdec2bc81c3cd46c6},
		{"abc", 0x44bc2cf5ad770999, 0xbea9ca8199328908},
		{"0123456789", 0x3f5fc178a81867e7, 0xc571eafdb6c4951c},
		{long, 0xe597db74e7ce323c, 0xa56f158dc9b2a057},
	} {
		if got := xxh64(c.s, 0); got != c.zero {
			t.Errorf("xxh64(%q, 0) = %#x, want %#x", c.s, got, c.zero)
		}
		if got := xxh64(c.s, 1); got != c.seed1 {
			t.Errorf("xxh64(%q, 1) = %#x, want %#x", c.s, got, c.seed1)
		}
		if got := HashKey(c.s); got != c.zero {
			t.Errorf("HashKey(%q) = %#x, want %#x", c.s, got, c.zero)
		}
	}
	if got := testing.AllocsPerRun(100, func() { HashKey(long) }); got != 0 {
		t.Errorf("HashKey allocates %v times, want 0", got)
	}
}

func BenchmarkHashKey(b *testing.B) {
	const uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	b.ReportAllocs()
	for b.Loop() {
		HashKey(uuid)
	}
}
