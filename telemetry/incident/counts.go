package incident

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/zerohop/zerohop"
)

// other stands for the services and routes that are not told apart.
const other = "_OTHER"

const (
	maxSeries = 1000 // services times routes
	maxShards = 8
)

// A seriesKey says whose calls are counted together.
type seriesKey struct{ service, route string }

// A series counts the calls to a service by a route. Two seconds are counted at a time, so that calls which end at their turn need not
// wait; numbers move to a ring when the second after the next begins, or when somebody looks.
type series struct {
	seriesKey
	slow  time.Duration // more than that is slow; 0 if nothing is
	watch []*watch      // objectives that its calls count for
	// explained counts the failed calls that Hooks.Explained has told of, and Hooks.CallDone has not yet.
	explained atomic.Int64
	slots     [2]slot
	mu        sync.Mutex // held by who moves numbers
}

// A slot counts a second.
type slot struct {
	second atomic.Int64 // number of the second, from 1; 0 if it was never used
	shards []latencies
	rare   rare
	where  culprits
	// kept is how many entries of each class were kept in this second.
	kept [keptClasses]atomic.Uint32
}

// latencies are counted in several places, so that processors do not wait for each other.
type latencies struct {
	buckets [numBuckets]atomic.Uint32
	_       [cacheLine - numBuckets*4%cacheLine]byte
}

const cacheLine = 64

// rare counts what does not happen to most calls.
type rare struct {
	bad, canceled, slow, retries, backups, refused, fellBack atomic.Uint32
	flags                                                    [len(flags)]atomic.Uint32
	failures                                                 [len(failures)]atomic.Uint32
}

// culprits counts the attempts that failed by endpoint.
type culprits struct {
	mu   sync.Mutex // guards all below
	n    int
	list [16]struct {
		addr  string
		count uint32
	}
}

func (c *culprits) add(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.list[:c.n] {
		if c.list[i].addr == addr {
			c.list[i].count++
			return
		}
	}
	if c.n < len(c.list) {
		c.list[c.n].addr, c.list[c.n].count = addr, 1
		c.n++
	}
}

func (c *culprits) sum(empty bool) (m map[string]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.list[:c.n] {
		if m == nil {
			m = make(map[string]uint64, c.n)
		}
		m[x.addr] = uint64(x.count)
	}
	if empty {
		c.n = 0
	}
	return m
}

// Classes of entries of which so many are kept a second: of each way to fail apart, so that a noisy one hides no other.
const (
	keptFailed = iota
	keptRetry
	keptRefused
	keptFellBack
	keptAttempts
	keptClasses = keptAttempts + len(failures)
)

// shardsNeeded is a power of two.
func shardsNeeded() int {
	n := 1
	for n < runtime.GOMAXPROCS(0) && n < maxShards {
		n *= 2
	}
	return n
}

// seriesSize is what one needs at most, its name included.
func seriesSize(shards int) int {
	const inMap = 128
	return int(unsafe.Sizeof(series{})) + 2*shards*int(unsafe.Sizeof(latencies{})) + 2*maxName + inMap
}

func newSeries(k seriesKey, shards int) *series {
	s := &series{seriesKey: k}
	for i := range s.slots {
		s.slots[i].shards = make([]latencies, shards)
	}
	return s
}

// slot returns where to count what happens in a second, which others may already have left behind.
func (s *series) slot(r *Recorder, second int64) *slot {
	at := &s.slots[second&1]
	if at.second.Load() < second {
		s.turn(r, at, second)
	}
	return at
}

// turn makes a slot that of a later second.
func (s *series) turn(r *Recorder, at *slot, second int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := at.second.Load()
	if old >= second {
		return
	}
	for i := range at.kept {
		at.kept[i].Store(0)
	}
	at.second.Store(second)
	s.move(r, at, old)
}

// flush moves the numbers of seconds before the given one. Objectives see them soon that way.
func (s *series) flush(r *Recorder, before int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.slots {
		if at := &s.slots[i]; at.second.Load() < before {
			s.move(r, at, at.second.Load())
		}
	}
}

// move puts the numbers of a slot into a ring. s.mu is held. Calls may go on counting: nothing is lost, but may count for the next second.
func (s *series) move(r *Recorder, at *slot, second int64) {
	sum, ok := at.take()
	if !ok {
		return
	}
	e := Entry{At: time.Duration(second-1) * time.Second, Kind: KindSecond, Service: s.service, Route: s.route, Second: &sum}
	r.seconds.add(&e)
	for _, w := range s.watch {
		missed := sum.Bad
		if w.Latency > 0 {
			missed += sum.Slow
		}
		w.count(sum.Calls-min(sum.Calls, sum.Canceled), missed)
	}
}

// take empties the slot.
func (t *slot) take() (Second, bool) {
	s, ok := t.sum(func(n *atomic.Uint32) uint64 { return uint64(n.Swap(0)) })
	s.Addrs = t.where.sum(true)
	return s, ok
}

// look does not.
func (t *slot) look() (Second, bool) {
	s, ok := t.sum(func(n *atomic.Uint32) uint64 { return uint64(n.Load()) })
	s.Addrs = t.where.sum(false)
	return s, ok
}

func (t *slot) sum(read func(*atomic.Uint32) uint64) (s Second, ok bool) {
	for b := range numBuckets {
		var n uint64
		for i := range t.shards {
			n += read(&t.shards[i].buckets[b])
		}
		if n > 0 {
			s.Latency = append(s.Latency, [2]uint64{uint64(b), n})
			s.Calls += n
		}
	}
	m := &t.rare
	s.Bad, s.Canceled, s.Slow, s.Retries, s.Backups = read(&m.bad), read(&m.canceled), read(&m.slow), read(&m.retries), read(&m.backups)
	s.Refused, s.FellBack = read(&m.refused), read(&m.fellBack)
	for i := range flags {
		if n := read(&m.flags[i]); n > 0 {
			if s.Flags == nil {
				s.Flags = map[string]uint64{}
			}
			s.Flags[string(flags[i])] = n
		}
	}
	for i := range failures {
		if n := read(&m.failures[i]); n > 0 {
			if s.Attempts == nil {
				s.Attempts = map[Failure]uint64{}
			}
			s.Attempts[failures[i]] = n
		}
	}
	return s, s.Calls+s.Retries+s.Backups+s.Refused+s.FellBack > 0 || s.Attempts != nil
}

// keep reports whether another entry of a class is to be kept in this second.
func (t *slot) keep(class int, most uint32) bool {
	n := &t.kept[class]
	return n.Load() < most && n.Add(1) <= most
}

// done counts a call. It is all that most calls cost.
func (s *series) done(r *Recorder, second int64, res *zerohop.CallResult) *slot {
	t := s.slot(r, second)
	shard := &t.shards[0]
	if n := len(t.shards); n > 1 {
		shard = &t.shards[rand.Uint32()&uint32(n-1)] // a power of two
	}
	shard.buckets[bucketOf(res.Duration)].Add(1)
	return t
}

// find returns the series of a service and a route.
func (r *Recorder) find(service, route string) *series {
	// Names mostly are the same strings each time: where they lie says where to look first, which is cheaper than to hash them.
	place := (uintptr(unsafe.Pointer(unsafe.StringData(service)))>>3 + uintptr(unsafe.Pointer(unsafe.StringData(route)))>>4) % recentSeries
	recent := r.recent[place].Load()
	if recent != nil && recent.service == service && recent.route == route {
		return recent
	}
	s := (*r.series.Load())[seriesKey{service, route}]
	if s == nil {
		s = r.open(service, route)
	}
	if s != r.other {
		r.recent[place].Store(s)
	}
	return s
}

const recentSeries = 256

// open makes a series, or finds the one for all that are too many.
func (r *Recorder) open(service, route string) *series {
	if len(service) > maxName || len(route) > maxName || printable(service) != service || printable(route) != route {
		return r.other
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.series.Load()
	k := seriesKey{service, route}
	if s := old[k]; s != nil {
		return s
	}
	if len(old) >= r.maxSeries {
		return r.other
	}
	s := newSeries(seriesKey{strings.Clone(service), strings.Clone(route)}, r.shards)
	for _, w := range r.watches {
		if w.Service == service || w.Service == "" {
			s.watch = append(s.watch, w)
			if w.Latency > 0 && (s.slow == 0 || w.Latency < s.slow) {
				s.slow = w.Latency
			}
		}
	}
	next := make(map[seriesKey]*series, len(old)+1)
	for k, s := range old {
		next[k] = s
	}
	next[s.seriesKey] = s
	r.series.Store(&next)
	return s
}

// flush moves the numbers of all seconds before the given one.
func (r *Recorder) flush(before int64) {
	for _, s := range *r.series.Load() {
		s.flush(r, before)
	}
	r.other.flush(r, before)
}

// pending returns the numbers that no ring has yet.
func (r *Recorder) pending() (list []Entry) {
	look := func(s *series) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := range s.slots {
			t := &s.slots[i]
			if sum, ok := t.look(); ok {
				at := time.Duration(t.second.Load()-1) * time.Second
				list = append(list, Entry{At: at, Kind: KindSecond, Service: s.service, Route: s.route, Second: &sum})
			}
		}
	}
	for _, s := range *r.series.Load() {
		look(s)
	}
	look(r.other)
	return list
}
