package dns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/pace"
)

const (
	// leastLife bounds from below how long an answer is used. Ten times less, a zone with a time to live of 0 costs
	// every client ten questions a second.
	leastLife = time.Second
	// longestLife bounds it from above. The time to live of many zones is a day and says nothing of instances. With
	// the 2 s that a question may take it also finds a dead server within 45 s.
	longestLife = 30 * time.Second
	// failurePause comes before the end of a watch, for each question asked, when a server has answered with a
	// failure. With the pauses of Run, 0.75 s on average, a server that does nothing else is asked less
	// than once a second, and 2 s after it is well at the latest.
	failurePause = 300 * time.Millisecond
	// longestFailurePause is for the many questions about SRV targets.
	longestFailurePause = 3 * time.Second
	// parallel bounds how many questions one watch has open.
	parallel = 8
)

// question is a name in lower case, with the dot at the end, and the type of the records.
type question struct {
	name string
	kind uint16
}

func (q question) String() string { return fmt.Sprintf("%s of %q", dns.TypeToString[q.kind], q.name) }

// source answers questions. It is safe for concurrent use.
type source interface {
	ask(ctx context.Context, q question) (answer, error)
}

// watch is the state of one call of Watch.
type watch struct {
	name    string
	srv     bool
	port    uint16
	network string
	source  func() source

	known  map[question]*known
	round  uint64
	asked  int // questions of this round
	pace   pacer
	dialer *client
}

// known is what is known of a question.
type known struct {
	answer
	err    error     // of the last attempt; the answer is the one before
	until  time.Time // when to ask again
	misses uint      // empty answers and failures in a row
	round  uint64    // that used it last
}

// client returns the client of the servers, which goes on with the server that answered last.
func (w *watch) client(servers []string, tcp bool) *client {
	if w.dialer == nil || !slices.Equal(w.dialer.servers, servers) {
		w.dialer = &client{servers: servers, tcp: tcp}
	}
	return w.dialer
}

func (w *watch) run(ctx context.Context, update func([]discovery.Endpoint)) error {
	w.known = make(map[question]*known)
	for {
		w.round++
		w.asked = 0
		set, err := w.endpoints(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if f, ok := errors.AsType[*failure](err); ok && f.answered {
				pause := min(time.Duration(w.asked)*failurePause, longestFailurePause)
				if err := pace.Sleep(ctx, pause); err != nil {
					return err
				}
			}
			return err
		}
		update(set)
		if err := pace.Sleep(ctx, w.rest(time.Now())); err != nil {
			return err
		}
	}
}

// rest returns how long to wait before the next round, and forgets what this one did not use.
func (w *watch) rest(now time.Time) time.Duration {
	next := now.Add(longestLife)
	for q, k := range w.known {
		if k.round != w.round {
			delete(w.known, q)
		} else if k.until.Before(next) {
			next = k.until
		}
	}
	wait := max(next.Sub(now), 0)
	// Later, not earlier: a cache on the way would only say how little is left of its answer.
	wait += rand.N(wait/10 + 1)
	return max(wait, w.pace.due(now))
}

// endpoints makes one round: it asks what has expired, and returns the set.
func (w *watch) endpoints(ctx context.Context) ([]discovery.Endpoint, error) {
	src := w.source()
	if !w.srv {
		addrs := w.addresses(ctx, src, []string{w.name}, true)[w.name]
		if addrs.err != nil {
			return nil, addrs.err
		}
		return hosts(addrs.list, w.port), nil
	}
	q := question{w.name, dns.TypeSRV}
	w.refresh(ctx, src, []question{q}, true)
	k := w.use(q)
	if k.err != nil {
		return nil, k.err
	}
	records := available(k.targets)
	var lacking []string
	for name := range names(records) {
		if len(pick(w.network, k.glue[name])) == 0 {
			lacking = append(lacking, name)
		}
	}
	own := w.addresses(ctx, src, lacking, false)
	var first error
	set := instances(records, func(target string) []netip.Addr {
		if list := pick(w.network, k.glue[target]); len(list) > 0 {
			return list
		}
		found := own[target]
		if first == nil {
			first = found.err
		}
		return found.list
	})
	switch {
	case len(set) > 0 || len(records) == 0:
		return set, nil
	case first != nil:
		return nil, fmt.Errorf("dns: no target of %v: %w", q, first)
	}
	return nil, fmt.Errorf("dns: none of the %d targets of %v has an address", len(lacking), q)
}

// found is what is known of the addresses of one name: the last list stays when asking for it fails.
type found struct {
	list []netip.Addr
	err  error
}

// addresses returns the addresses of names, of the families that Network wants.
func (w *watch) addresses(ctx context.Context, src source, names []string, service bool) map[string]found {
	all := make(map[string]found, len(names))
	ask := func(kind uint16, names []string) {
		questions := make([]question, len(names))
		for i, name := range names {
			questions[i] = question{name, kind}
		}
		w.refresh(ctx, src, questions, service)
		for _, q := range questions {
			k, f := w.use(q), all[q.name]
			f.list = append(f.list[:len(f.list):len(f.list)], k.addrs...)
			// The IPv6 addresses are left out if only they fail: many servers cannot answer for them.
			if kind == dns.TypeA || len(f.list) == 0 {
				f.err = k.err
			}
			all[q.name] = f
		}
	}
	if w.network != "ip6" {
		ask(dns.TypeA, names)
	}
	switch w.network {
	case "ip", "ip6":
		ask(dns.TypeAAAA, sound(names, all))
	case "":
		var none []string
		for _, name := range sound(names, all) {
			if len(all[name].list) == 0 {
				none = append(none, name)
			}
		}
		ask(dns.TypeAAAA, none)
	}
	return all
}

// sound returns the names that did not fail: a server that fails is not asked twice.
func sound(names []string, all map[string]found) []string {
	var list []string
	for _, name := range names {
		if all[name].err == nil {
			list = append(list, name)
		}
	}
	return list
}

// use returns what is known of a question and keeps it for the next round.
func (w *watch) use(q question) *known {
	k := w.known[q]
	if k == nil { // the round was cut short
		k = &known{err: &failure{q: q, err: errors.New("not asked, as others failed")}}
		w.known[q] = k
	}
	k.round = w.round
	return k
}

// refresh asks those of the questions whose answers have expired. They are about the service itself, or about targets
// of its SRV records.
func (w *watch) refresh(ctx context.Context, src source, questions []question, service bool) {
	now := time.Now()
	var due []question
	for _, q := range questions {
		if k := w.known[q]; k == nil || !now.Before(k.until) {
			due = append(due, q)
			if service {
				w.pace.take(now)
			}
		}
	}
	answers := askAll(ctx, src, due)
	w.asked += len(answers)
	floor := leastLife
	if !service {
		floor = min(time.Duration(len(questions))*time.Second, longestLife)
	}
	now = time.Now()
	for q, r := range answers {
		k := w.known[q]
		if k == nil {
			k = new(known)
			w.known[q] = k
		}
		k.err = r.err
		if r.err == nil {
			k.answer = r.answer
		}
		if r.err != nil || r.empty() {
			// Known to be empty for long, a service would be found long after it began.
			k.until = now.Add(max(min(leastLife<<min(k.misses, 5), longestLife, limit(r)), floor))
			k.misses++
			continue
		}
		k.misses = 0
		k.until = now.Add(min(max(r.ttl, floor), longestLife))
	}
}

// limit bounds the wait before a question is repeated that brought no records: failures have no time to live.
func limit(r result) time.Duration {
	if r.err != nil {
		return longestLife
	}
	return max(r.ttl, leastLife)
}

type result struct {
	answer
	err error
}

// askAll asks questions, several at a time. It stops when the first ones have all failed.
func askAll(ctx context.Context, src source, questions []question) map[question]result {
	if len(questions) == 1 { // the usual case needs no goroutine
		return map[question]result{questions[0]: ask(ctx, src, questions[0])}
	}
	var (
		mu       sync.Mutex // guards what follows
		next     int
		good     bool
		answers  = make(map[question]result, len(questions))
		finished = func() bool { return next == len(questions) || !good && len(answers) >= parallel }
		wg       sync.WaitGroup
	)
	for range min(parallel, len(questions)) {
		wg.Go(func() {
			for {
				mu.Lock()
				if finished() || ctx.Err() != nil {
					mu.Unlock()
					return
				}
				q := questions[next]
				next++
				mu.Unlock()
				r := ask(ctx, src, q)
				mu.Lock()
				answers[q] = r
				good = good || r.err == nil
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return answers
}

// ask asks one question. It may run in a goroutine of its own, where nobody else would catch a panic.
func ask(ctx context.Context, src source, q question) (r result) {
	defer func() {
		if v := recover(); v != nil {
			r = result{err: fmt.Errorf("dns: %v: panic: %v", q, v)}
		}
	}()
	a, err := src.ask(ctx, q)
	return result{a, err}
}
