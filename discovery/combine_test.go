package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
)

var errDown = errors.New("down")

// combinators are all of them over one source, next to others that say nothing of it.
func combinators(r discovery.Resolver) map[string]discovery.Resolver {
	none := discovery.Static{}
	return map[string]discovery.Resolver{
		"merge":           discovery.Merge{r},
		"merge of two":    discovery.Merge{r, r},
		"failover":        discovery.Failover{r},
		"fallback":        discovery.Fallback{Primary: r, Secondary: r},
		"filter":          discovery.Filter{Resolver: r, Keep: func(discovery.Endpoint) bool { return true }},
		"subset":          discovery.Subset{Resolver: r, Size: 100},
		"nested":          discovery.Merge{discovery.Failover{discovery.Filter{Resolver: r}}, discovery.Merge{discovery.Subset{Resolver: r, Size: 100}}},
		"merge with none": discovery.Merge{none, r},
	}
}

func TestCombinatorsConform(t *testing.T) {
	for _, name := range []string{"merge", "merge of two", "failover", "fallback", "filter", "subset", "nested"} {
		t.Run(name, func(t *testing.T) {
			m := &discoverytest.Memory{}
			discoverytest.Test(t, discoverytest.Source{
				Resolver: combinators(m)[name],
				Set: func(_ testing.TB, service string, set []discovery.Endpoint) {
					if len(set) == 0 {
						m.Remove(service)
						return
					}
					m.Set(service, set...)
				},
				Break: func(testing.TB) { m.Break(errDown) },
				Heal:  func(testing.TB) { m.Break(nil) },
			})
		})
	}
}

// watching is a Run whose sets and events are kept.
type watching struct {
	t *testing.T

	mu     sync.Mutex // guards what follows
	last   string
	events []discovery.Event
}

func watchWith(t *testing.T, r discovery.Resolver) *watching {
	w := &watching{t: t, last: "nothing"}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		opts := discovery.RunOptions{Observe: func(e discovery.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		}}
		_ = discovery.Run(ctx, r, "orders", opts, func(set []discovery.Endpoint) {
			var list []string
			for _, e := range set {
				list = append(list, fmt.Sprintf("%s/%d", strings.TrimSuffix(strings.TrimPrefix(e.Addr, "10.0.0."), ":80"), e.Priority))
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.last = strings.Join(list, " ")
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// after checks the set in use when d has passed.
func (w *watching) after(d time.Duration, want string) {
	w.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last != want {
		w.t.Errorf("set is %q, want %q", w.last, want)
	}
}

// told returns the events.
func (w *watching) told() []discovery.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events)
}

func last(events []discovery.Event) discovery.Event { return events[len(events)-1] }

func some(numbers ...int) (list []discovery.Endpoint) {
	for _, n := range numbers {
		list = append(list, discovery.Endpoint{Addr: fmt.Sprintf("10.0.0.%d:80", n)})
	}
	return list
}

func TestMergeKeepsTheEndpointsOfASourceThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &discoverytest.Memory{}, &discoverytest.Memory{}
		a.Set("orders", some(1, 2, 3, 4, 5, 6)...)
		b.Set("orders", some(6, 7)...)
		w := watchWith(t, discovery.Merge{a, b})
		w.after(0, "1/0 2/0 3/0 4/0 5/0 6/0 7/0")
		b.Break(errDown)
		w.after(time.Minute, "1/0 2/0 3/0 4/0 5/0 6/0 7/0")
		a.Set("orders", some(1, 2, 3, 4, 5, 8)...)
		w.after(time.Second, "1/0 2/0 3/0 4/0 5/0 6/0 7/0 8/0")
		events := w.told()
		if e := events[len(events)-2]; !slices.ContainsFunc(events, func(e discovery.Event) bool { return errors.Is(e.Err, errDown) }) || !e.Lost.IsZero() {
			t.Errorf("events end with %+v, want the failure told, and the sources as heard", e)
		}
		a.Break(errDown)
		w.after(time.Minute, "1/0 2/0 3/0 4/0 5/0 6/0 7/0 8/0")
		if e := last(w.told()); e.Lost.IsZero() {
			t.Errorf("last event is %+v, want that no source is heard", e)
		}
		b.Break(nil)
		b.Set("orders", some(9)...)
		w.after(2*time.Second, "1/0 2/0 3/0 4/0 5/0 8/0 9/0")
		if e := last(w.told()); !e.Lost.IsZero() {
			t.Errorf("last event is %+v, want that a source is heard", e)
		}
		a.Break(nil)
		a.Set("orders")
		w.after(2*time.Second, "1/0 2/0 3/0 4/0 5/0 8/0 9/0") // the guard of the source holds them
		w.after(10*time.Second, "9/0")
	})
}

func TestFirstSetWaitsForSlowSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(d time.Duration) discovery.Resolver {
			return watchFunc(func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				select {
				case <-time.After(d):
				case <-ctx.Done():
				}
				return discovery.Static{"orders": some(2)}.Watch(ctx, service, update)
			})
		}
		fast := discovery.Static{"orders": some(1)}
		w := watchWith(t, discovery.Failover{slow(500 * time.Millisecond), fast})
		w.after(499*time.Millisecond, "nothing")
		w.after(time.Millisecond, "1/1 2/0")
		w = watchWith(t, discovery.Failover{slow(time.Hour), fast})
		w.after(999*time.Millisecond, "nothing")
		w.after(time.Millisecond, "1/1")
		broken := &discoverytest.Memory{}
		broken.Break(errDown)
		watchWith(t, discovery.Failover{broken, fast}).after(0, "1/1")
		w = watchWith(t, discovery.Merge{broken, discovery.Static{"orders": nil}})
		w.after(time.Second, "nothing") // the broken one may have endpoints
		if events := w.told(); len(events) == 0 || !errors.Is(events[0].Err, errDown) {
			t.Errorf("events are %+v, want why there is no set", events)
		}
	})
}

func TestFailoverPutsSourcesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := some(1, 2)
		first[1].Priority = 3
		third := some(2, 3, 4)
		third[2].Priority = 255
		w := watchWith(t, discovery.Failover{discovery.Static{"orders": first}, discovery.Static{}, discovery.Static{"orders": third}})
		w.after(time.Second, "1/0 2/3 3/5 4/255")
	})
}

func TestFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &discoverytest.Memory{}, discovery.Static{"orders": some(9)}
		a.Set("orders", some(1, 2)...)
		w := watchWith(t, discovery.Fallback{Primary: a, Secondary: b, After: 10 * time.Second})
		w.after(time.Second, "1/0 2/0")
		a.Break(errDown)
		w.after(9900*time.Millisecond, "1/0 2/0")
		w.after(200*time.Millisecond, "9/0")
		w.after(time.Hour, "9/0")
		a.Break(nil)
		w.after(2*time.Second, "1/0 2/0")
		a.Set("orders")
		w.after(4*time.Second, "1/0 2/0") // not believed yet
		w.after(4*time.Second, "9/0")
		a.Set("orders", some(3)...)
		w.after(time.Second, "3/0")

		a.Break(errDown)
		w = watchWith(t, discovery.Fallback{Primary: a, Secondary: b, After: time.Hour})
		w.after(0, "9/0") // it has never answered
		a.Break(nil)
		w.after(2*time.Second, "3/0")
		w = watchWith(t, discovery.Fallback{Primary: a, Secondary: discovery.Static{}, After: time.Second})
		w.after(0, "3/0")
		a.Break(errDown)
		w.after(time.Minute, "3/0") // nothing else has any
	})
}

func TestFilterKeepsWhatMatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := some(1, 2, 3)
		set[0].Meta, set[1].Meta = map[string]string{"version": "2"}, map[string]string{"version": "1"}
		set = append(set, discovery.Endpoint{Addr: "no address"})
		r := discovery.Static{"orders": set}
		w := watchWith(t, discovery.Filter{Resolver: r, Meta: map[string]string{"version": "2"}})
		w.after(0, "1/0")
		if e := w.told()[0]; e.Dropped.Addr != 1 {
			t.Errorf("first event is %+v, want that it counts the bad address", e)
		}
		watchWith(t, discovery.Filter{Resolver: r, Keep: func(e discovery.Endpoint) bool { return e.Addr != "10.0.0.1:80" }}).after(0, "2/0 3/0")
		watchWith(t, discovery.Filter{Resolver: r, Meta: map[string]string{"version": ""}}).after(0, "")
	})
}

func TestSubsetIsStable(t *testing.T) {
	choose := func(instance string, set []discovery.Endpoint) (got []string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancelled := discovery.Subset{Resolver: discovery.Static{"orders": set}, Size: 5, Instance: instance}
		_ = cancelled.Watch(ctx, "orders", func(set []discovery.Endpoint) {
			for _, e := range set {
				got = append(got, e.Addr)
			}
			cancel()
		})
		slices.Sort(got)
		return got
	}
	var numbers []int
	for n := range 100 {
		numbers = append(numbers, n)
	}
	all := some(numbers...)
	count := map[string]int{}
	for i := range 1000 {
		for _, addr := range choose(fmt.Sprint("client-", i), all) {
			count[addr]++
		}
	}
	for addr, n := range count { // 50 on average; the standard deviation is 7
		if n < 20 || n > 85 {
			t.Errorf("%s is in %d of 1000 subsets, want about 50", addr, n)
		}
	}
	if len(count) != len(all) {
		t.Errorf("%d endpoints are in a subset, want all %d", len(count), len(all))
	}
	before := choose("a", all)
	if len(before) != 5 || !slices.Equal(before, choose("a", all)) {
		t.Fatalf("subset is %q, want the same five each time", before)
	}
	gone := slices.DeleteFunc(slices.Clone(all), func(e discovery.Endpoint) bool { return e.Addr == before[2] })
	same := 0
	for _, addr := range choose("a", gone) {
		if slices.Contains(before, addr) {
			same++
		}
	}
	if same != 4 {
		t.Errorf("%d of 4 stay when one leaves", same)
	}
	sick := slices.Clone(all)
	for i := range sick {
		if i%10 != 0 {
			sick[i].Health = discovery.Unhealthy
		}
	}
	for _, addr := range choose("a", sick) {
		if i := slices.IndexFunc(sick, func(e discovery.Endpoint) bool { return e.Addr == addr }); sick[i].Health != discovery.Healthy {
			t.Errorf("%s is chosen before healthy ones", addr)
		}
	}
}

func TestCombinatorsRefuseWhatIsNotSetUp(t *testing.T) {
	for _, r := range []discovery.Resolver{
		discovery.Merge{}, discovery.Merge{nil}, discovery.Failover{}, discovery.Fallback{Primary: discovery.Static{}}, discovery.Filter{},
		discovery.Subset{Size: 1}, discovery.Subset{Resolver: discovery.Static{}},
	} {
		if err := r.Watch(t.Context(), "orders", func([]discovery.Endpoint) {}); err == nil || !strings.HasPrefix(err.Error(), "discovery: ") {
			t.Errorf("%#v: Watch() = %v, want an error", r, err)
		}
	}
}

// knowing is a remote source that knows the zone.
type knowing struct{ discovery.Static }

func (knowing) Remote() bool                         { return true }
func (knowing) Zone(context.Context) (string, error) { return "a", nil }

func TestCombinatorsAreWhatTheirSourcesAre(t *testing.T) {
	for name, r := range combinators(knowing{}) {
		zone, err := r.(discovery.ZoneSource).Zone(t.Context())
		if !discovery.IsRemote(r) || zone != "a" || err != nil {
			t.Errorf("%s: remote %v, zone %q, %v, want remote in a", name, discovery.IsRemote(r), zone, err)
		}
	}
	for name, r := range combinators(discovery.Static{}) {
		if zone, err := r.(discovery.ZoneSource).Zone(t.Context()); discovery.IsRemote(r) || zone != "" || err != nil {
			t.Errorf("%s of what is not: remote %v, zone %q, %v", name, discovery.IsRemote(r), zone, err)
		}
	}
}

func TestCombinatorsCheckAddressesOfEachSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &discoverytest.Memory{}
		m.Set("orders", some(1, 2)...)
		w := watchWith(t, discovery.Merge{distant{m}, discovery.Static{"orders": some(3)}})
		w.after(time.Second, "1/0 2/0 3/0")
		m.Set("orders", discovery.Endpoint{Addr: "127.0.0.1:80"})
		w.after(time.Minute, "1/0 2/0 3/0") // the last good ones stay
	})
}

// distant makes a source remote.
type distant struct{ *discoverytest.Memory }

func (distant) Remote() bool { return true }

type watchFunc func(ctx context.Context, service string, update func([]discovery.Endpoint)) error

func (f watchFunc) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	return f(ctx, service, update)
}
