package incident

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"time"
)

// A codec writes entries in a few bytes, or reads them again: the same code describes both.
type codec struct {
	buf     []byte
	reading bool
	broken  bool // what was read is no entry
}

func (c *codec) uint(v *uint64) {
	if !c.reading {
		c.buf = binary.AppendUvarint(c.buf, *v)
		return
	}
	x, n := binary.Uvarint(c.buf)
	if n <= 0 {
		c.broken, c.buf = true, nil
		return
	}
	*v, c.buf = x, c.buf[n:]
}

func signed[T ~int | ~int64](c *codec, v *T) {
	u := uint64(*v)<<1 ^ uint64(int64(*v)>>63)
	if c.uint(&u); c.reading {
		*v = T(int64(u>>1) ^ -int64(u&1))
	}
}

func (c *codec) float(v *float64) {
	// Floats of few digits end in zero bits, which turned round make short numbers.
	u := reverse(math.Float64bits(*v))
	if c.uint(&u); c.reading {
		*v = math.Float64frombits(reverse(u))
	}
}

func reverse(u uint64) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], u)
	return binary.BigEndian.Uint64(b[:])
}

func (c *codec) bool(v *bool) {
	var u uint64
	if *v {
		u = 1
	}
	if c.uint(&u); c.reading {
		*v = u == 1
	}
}

func word[S ~string](c *codec, v *S) {
	n := uint64(len(*v))
	c.uint(&n)
	switch {
	case !c.reading:
		c.buf = append(c.buf, *v...)
	case n > uint64(len(c.buf)):
		c.broken, c.buf = true, nil
	default:
		*v, c.buf = S(c.buf[:n]), c.buf[n:]
	}
}

// oneOf codes a word that is most likely one of a list.
func oneOf[S ~string](c *codec, v *S, list []S) {
	i := uint64(slices.Index(list, *v) + 1)
	c.uint(&i)
	switch {
	case i == 0:
		word(c, v)
	case c.reading && i > uint64(len(list)):
		c.broken = true
	case c.reading:
		*v = list[i-1]
	}
}

// count codes the length of something whose items need a byte at least.
func (c *codec) count(n int) int {
	u := uint64(n)
	if c.uint(&u); c.reading && u > uint64(len(c.buf)) {
		c.broken, c.buf = true, nil
		return 0
	}
	return int(u)
}

func list[T any](c *codec, v *[]T, item func(*T)) {
	n := c.count(len(*v))
	if c.reading && n > 0 {
		*v = make([]T, n)
	}
	for i := range *v {
		item(&(*v)[i])
	}
}

func table[K ~string, V ~int | ~uint64](c *codec, v *map[K]V) {
	n := c.count(len(*v))
	if !c.reading {
		for k, x := range *v {
			u := uint64(x)
			word(c, &k)
			c.uint(&u)
		}
		return
	}
	for range n {
		var k K
		var u uint64
		word(c, &k)
		c.uint(&u)
		if *v == nil {
			*v = make(map[K]V, n)
		}
		(*v)[k] = V(u)
	}
}

// kinds are the kinds of entries that are frequent.
var kinds = []Kind{"", KindSecond, KindFailed, KindAttempt, KindRetry, KindBackup, KindRefused, KindFellBack, KindDiscovery}

func (e *Entry) code(c *codec) {
	c.uint(&e.Seq)
	signed(c, &e.At)
	oneOf(c, &e.Kind, kinds)
	word(c, &e.Service)
	word(c, &e.Route)
	// Of the rest most is empty: a bit for each field says what is there.
	var has uint64
	rest := e.rest()
	for i, f := range rest {
		if !c.reading && f.set {
			has |= 1 << i
		}
	}
	c.uint(&has)
	for i, f := range rest {
		if has&(1<<i) != 0 {
			f.code(c)
		}
	}
}

type field struct {
	set  bool
	code func(*codec)
}

func (e *Entry) rest() [16]field {
	return [16]field{
		{e.Addr != "", func(c *codec) { word(c, &e.Addr) }},
		{e.Zone != "", func(c *codec) { word(c, &e.Zone) }},
		{e.Cause != "", func(c *codec) { word(c, &e.Cause) }},
		{e.Text != "", func(c *codec) { word(c, &e.Text) }},
		{e.By != "", func(c *codec) { word(c, &e.By) }},
		{e.For != 0, func(c *codec) { signed(c, &e.For) }},
		{e.Value != 0, func(c *codec) { c.float(&e.Value) }},
		{e.Bound != 0, func(c *codec) { c.float(&e.Bound) }},
		{e.Out != 0, func(c *codec) { signed(c, &e.Out) }},
		{e.Endpoints != 0, func(c *codec) { signed(c, &e.Endpoints) }},
		{e.Number != 0, func(c *codec) { signed(c, &e.Number) }},
		{e.Status != 0, func(c *codec) { signed(c, &e.Status) }},
		{e.Took != 0, func(c *codec) { signed(c, &e.Took) }},
		{len(e.Fields) > 0, func(c *codec) { list(c, &e.Fields, func(s *string) { word(c, s) }) }},
		{e.Call != nil, func(c *codec) { pointed(&e.Call).code(c) }},
		{e.Second != nil, func(c *codec) { pointed(&e.Second).code(c) }},
	}
}

// pointed returns what p points to, which it makes if there is nothing.
func pointed[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

func (e *Call) code(c *codec) {
	word(c, &e.Protocol)
	word(c, &e.Method)
	word(c, &e.Flag)
	word(c, &e.Reason)
	word(c, &e.Detail)
	signed(c, &e.Took)
	signed(c, &e.Left)
	c.float(&e.Budget)
	signed(c, &e.Spec)
	signed(c, &e.Rule)
	list(c, &e.Tries, func(t *Try) { t.code(c) })
	list(c, &e.Refusals, func(s *string) { word(c, s) })
}

var causes, outcomes = []string{"first", "retry", "resend", "backup"}, []string{"success", "failure", "overload", "neutral"}

func (t *Try) code(c *codec) {
	word(c, &t.Addr)
	word(c, &t.Zone)
	oneOf(c, &t.Cause, causes)
	signed(c, &t.Start)
	signed(c, &t.Took)
	oneOf(c, &t.Outcome, outcomes)
	signed(c, &t.Status)
	word(c, &t.Flag)
	c.bool(&t.Running)
	word(c, &t.Text)
	signed(c, &t.Nodes)
	table(c, &t.Removed)
	c.bool(&t.Panicking)
	list(c, &t.Compared, func(s *string) { word(c, s) })
}

func (s *Second) code(c *codec) {
	for _, v := range []*uint64{&s.Calls, &s.Bad, &s.Canceled, &s.Slow, &s.Retries, &s.Backups, &s.Refused, &s.FellBack} {
		c.uint(v)
	}
	table(c, &s.Flags)
	table(c, &s.Attempts)
	table(c, &s.Addrs)
	list(c, &s.Latency, func(p *[2]uint64) { c.uint(&p[0]); c.uint(&p[1]) })
}

// decode returns the entry that a ring has.
func decode(b []byte) (e Entry, ok bool) {
	c := codec{buf: b, reading: true}
	e.code(&c)
	return e, !c.broken
}

// Buckets of Second.Latency: two for each power of two, from 65 µs to 69 s.
const (
	numBuckets  = 42
	bucketShift = 16
)

// bucketOf returns the position of the bucket that a latency belongs to.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0)) >> (bucketShift - 1)
	if v < 2 {
		return 0
	}
	exp := bits.Len64(v) - 2
	half := int(v>>exp) & 1
	return min(1+2*exp+half, numBuckets-1)
}

// Bounds returns the upper bounds of the buckets of Second.Latency; the last has none.
func Bounds() []time.Duration {
	list := make([]time.Duration, numBuckets-1)
	list[0] = 1 << bucketShift
	for i := range list[1:] {
		exp, half := i/2, i%2
		list[i+1] = time.Duration(3+half) << exp << (bucketShift - 1)
	}
	return list
}
