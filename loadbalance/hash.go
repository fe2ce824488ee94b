package loadbalance

import "math/bits"

// HashKey returns the hash of a key for Info.Hash: XXH64 of its bytes, which every process computes alike, and Envoy
// and gRPC, too. It is never 0, which stands for no key.
func HashKey(key string) uint64 { return max(xxh64(key, 0), 1) }

const (
	prime1 = 0x9e3779b185ebca87
	prime2 = 0xc2b2ae3d27d4eb4f
	prime3 = 0x165667b19e3779f9
	prime4 = 0x85ebca77c2b2ae63
	prime5 = 0x27d4eb2f165667c5
)

// xxh64 is the 64-bit xxHash: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md.
func xxh64(s string, seed uint64) uint64 {
	length := uint64(len(s))
	h := seed + prime5
	if len(s) >= 32 {
		a, b, c, d := seed, seed+prime2, seed, seed
		a += prime1 // in two steps: the constants' sum overflows
		for a, d = a+prime2, d-prime1; len(s) >= 32; s = s[32:] {
			a, b = round(a, word(s)), round(b, word(s[8:]))
			c, d = round(c, word(s[16:])), round(d, word(s[24:]))
		}
		h = bits.RotateLeft64(a, 1) + bits.RotateLeft64(b, 7) + bits.RotateLeft64(c, 12) + bits.RotateLeft64(d, 18)
		for _, v := range [...]uint64{a, b, c, d} {
			h = (h^round(0, v))*prime1 + prime4
		}
	}
	h += length
	for ; len(s) >= 8; s = s[8:] {
		h = bits.RotateLeft64(h^round(0, word(s)), 27)*prime1 + prime4
	}
	if len(s) >= 4 {
		h = bits.RotateLeft64(h^half(s)*prime1, 23)*prime2 + prime3
		s = s[4:]
	}
	for i := range len(s) {
		h = bits.RotateLeft64(h^uint64(s[i])*prime5, 11) * prime1
	}
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}

func round(acc, v uint64) uint64 { return bits.RotateLeft64(acc+v*prime2, 31) * prime1 }

func word(s string) uint64 { return half(s) | half(s[4:])<<32 }

func half(s string) uint64 {
	_ = s[3]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24
}

// mix spreads every bit over all: the finaliser of SplitMix64 (G. L. Steele et al., "Fast Splittable Pseudorandom Number
// Generators", 2014; constants of D. Stafford's variant 13).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
