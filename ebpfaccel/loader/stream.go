//go:build linux

package loader

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
)

// streamPeriod is after how many bytes a stream repeats itself: a prime, as no fault moves bytes by just that.
const streamPeriod = 1<<20 + 7

// streamBytes are random bytes, of which a few tell where they are from.
var streamBytes = sync.OnceValue(func() []byte {
	b := make([]byte, streamPeriod)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
})

// A stream is a sequence of bytes each of which tells its position, so that what is lost, doubled, out of order or from another
// stream shows up at once.
type stream struct {
	seed uint64 // which stream this is
	at   uint64 // the position of the next byte
}

// each calls f with pieces of b and what they ought to be, while it returns true, and moves on.
func (s *stream) each(b []byte, f func(got, want []byte) bool) bool {
	const apart = 104_729 // what the streams are apart
	for len(b) > 0 {
		want := streamBytes()[(s.seed*apart+s.at)%streamPeriod:]
		n := min(len(b), len(want))
		if !f(b[:n], want[:n]) {
			return false
		}
		b = b[n:]
		s.at += uint64(n)
	}
	return true
}

// fill writes the next bytes into b and returns it.
func (s *stream) fill(b []byte) []byte {
	s.each(b, func(b, want []byte) bool { copy(b, want); return true })
	return b
}

// check returns an error if b are not the next bytes.
func (s *stream) check(b []byte) error {
	from := *s
	if s.each(b, bytes.Equal) {
		return nil
	}
	return fmt.Errorf("%d bytes from %d of stream %d are not what was sent, but %s", len(b), from.at, from.seed, from.find(b))
}

// find says from where near the position the bytes are.
func (s *stream) find(b []byte) string {
	const near = 8 << 20
	b = b[:min(len(b), 8)]
	at := stream{s.seed, s.at - min(s.at, near)}
	around := at.fill(make([]byte, 2*near))
	if i := bytes.Index(around, b); i >= 0 {
		return fmt.Sprintf("begin with those from %d", s.at-min(s.at, near)+uint64(i))
	}
	return fmt.Sprintf("begin with %x, which is of no place near", b)
}
