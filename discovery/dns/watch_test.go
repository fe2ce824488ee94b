package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/zerohop/zerohop/discovery"
)

// script is a source whose answers come from a function.
type script struct {
	mu    sync.Mutex
	start time.Time
	asked []string // "A web.test. 1s": type, name and time since the start
	reply func(q question, n int) (answer, error)
}

func (s *script) ask(_ context.Context, q question) (answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf("%s %s %v", dns.TypeToString[q.kind], q.name, time.Since(s.start).Truncate(time.Second)))
	return s.reply(q, len(s.asked))
}

// play watches for the given time of a bubble and returns the sets it saw, what was asked, and how the watch ended.
func play(t *testing.T, w *watch, d time.Duration, reply func(q question, n int) (answer, error)) (sets, asked []string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{start: time.Now(), reply: reply}
		w.source = func() source { return s }
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		err = w.run(ctx, func(set []discovery.Endpoint) {
			var list []string
			for _, ep := range set {
				list = append(list, ep.Addr)
			}
			slices.Sort(list)
			sets = append(sets, strings.Join(list, " "))
		})
		asked = s.asked
	})
	return sets, asked, err
}

func hostWatch() *watch { return &watch{name: "web.test.", port: 80} }
func srvWatch() *watch  { return &watch{name: "web.test.", srv: true} }

func one(addr string, ttl time.Duration) answer { return answer{addrs: addrsOf(addr), ttl: ttl} }

func TestWatchAsksAgainWhenTheAnswerExpires(t *testing.T) {
	for ttl, want := range map[time.Duration][2]int{ // the fewest and most questions in 5 minutes
		0:                      {270, 301},
		time.Second:            {270, 301},
		5 * time.Second:        {54, 61},
		30 * time.Second:       {9, 11},
		100 * 24 * time.Hour:   {9, 11},
		100 * time.Millisecond: {270, 301},
	} {
		sets, asked, err := play(t, hostWatch(), 5*time.Minute, func(q question, n int) (answer, error) { return one("192.0.2.1", ttl), nil })
		if n := len(asked); n < want[0] || n > want[1] || len(sets) != n {
			t.Errorf("time to live %v: %d questions and %d sets in 5 minutes, want %d to %d", ttl, n, len(sets), want[0], want[1])
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("run() = %v, want %v", err, context.DeadlineExceeded)
		}
	}
}

func TestWatchCostsOneQuestionASecond(t *testing.T) {
	w := hostWatch()
	w.network = "ip"
	_, asked, _ := play(t, w, time.Minute, func(q question, n int) (answer, error) {
		if q.kind == dns.TypeA {
			return one("192.0.2.1", 0), nil
		}
		return one("2001:db8::1", 0), nil
	})
	// A round begins when its first question is due, and asks the second one with it: the last round owes a second.
	if got, want := len(asked), 60+paceBurst+1; got > want || got < 55 {
		t.Errorf("%d questions in a minute, want at most %d", got, want)
	}
}

func TestWatchBacksOffFromWhatDoesNotExist(t *testing.T) {
	// Each round asks for both families. The first wait is a second although the zone allows five minutes.
	sets, asked, _ := play(t, hostWatch(), 80*time.Second, func(q question, n int) (answer, error) {
		return answer{ttl: 5 * time.Minute}, nil
	})
	if n := len(asked) / 2; n < 6 || n > 8 { // about 0, 1, 3, 7, 15, 31, 61
		t.Errorf("%d rounds in 80 s: %q", n, asked)
	}
	if slices.ContainsFunc(sets, func(s string) bool { return s != "" }) {
		t.Errorf("sets are %q, want empty ones", sets)
	}
	// A zone that allows two seconds is asked every two seconds.
	_, asked, _ = play(t, hostWatch(), 80*time.Second, func(q question, n int) (answer, error) {
		return answer{ttl: 2 * time.Second}, nil
	})
	if n := len(asked) / 2; n < 34 || n > 42 {
		t.Errorf("%d rounds in 80 s, want one every two seconds", n)
	}
	// What was there a moment ago is asked for soon.
	sets, _, _ = play(t, hostWatch(), 4*time.Second, func(q question, n int) (answer, error) {
		if n < 2 || n > 3 {
			return one("192.0.2.1", time.Second), nil
		}
		return answer{ttl: 5 * time.Minute}, nil
	})
	if want := []string{"192.0.2.1:80", "", "192.0.2.1:80"}; len(sets) < 3 || !slices.Equal(sets[:3], want) {
		t.Errorf("sets are %q, want %q", sets, want)
	}
}

func TestWatchUsesIPv6WhereThereIsNoIPv4(t *testing.T) {
	v6 := func(q question, n int) (answer, error) {
		if q.kind == dns.TypeAAAA {
			return one("2001:db8::1", time.Minute), nil
		}
		return answer{ttl: time.Minute}, nil
	}
	both := func(q question, n int) (answer, error) {
		if q.kind == dns.TypeA {
			return one("192.0.2.1", time.Minute), nil
		}
		return v6(q, n)
	}
	for _, tt := range []struct {
		network, want string
		questions     int
		reply         func(question, int) (answer, error)
	}{
		{"", "[2001:db8::1]:80", 2, v6},
		{"", "192.0.2.1:80", 1, both},
		{"ip", "192.0.2.1:80 [2001:db8::1]:80", 2, both},
		{"ip4", "", 1, v6},
		{"ip6", "[2001:db8::1]:80", 1, both},
	} {
		w := hostWatch()
		w.network = tt.network
		sets, asked, _ := play(t, w, time.Second/2, tt.reply)
		if len(sets) != 1 || sets[0] != tt.want || len(asked) != tt.questions {
			t.Errorf("network %q: sets %q after %q, want %q after %d questions", tt.network, sets, asked, tt.want, tt.questions)
		}
	}
}

var errDown = errors.New("down")

func TestWatchEndsWhenTheServiceFails(t *testing.T) {
	for name, tt := range map[string]struct {
		w     *watch
		reply func(question, int) (answer, error)
		sets  int
	}{
		"at once":           {hostWatch(), func(question, int) (answer, error) { return answer{}, errDown }, 0},
		"later":             {hostWatch(), func(_ question, n int) (answer, error) { return one("192.0.2.1", 0), []error{nil, errDown}[n-1] }, 1},
		"IPv6 with no IPv4": {hostWatch(), func(_ question, n int) (answer, error) { return answer{}, []error{nil, errDown}[n-1] }, 0},
		"no SRV records":    {srvWatch(), func(question, int) (answer, error) { return answer{}, errDown }, 0},
		"all targets of many": {srvWatch(), func(q question, n int) (answer, error) {
			return manyTargets(100, time.Second), []error{nil, errDown}[min(n-1, 1)]
		}, 0},
		"panic": {hostWatch(), func(question, int) (answer, error) { panic(errDown) }, 0},
	} {
		sets, asked, err := play(t, tt.w, time.Minute, tt.reply)
		if err == nil || !strings.Contains(err.Error(), errDown.Error()) || len(sets) != tt.sets {
			t.Errorf("%s: %d sets, then %v, want %d and %v", name, len(sets), err, tt.sets, errDown)
		}
		if n := len(asked); n > 1+2*parallel {
			t.Errorf("%s: %d questions to a server that fails", name, n)
		}
	}
	w := hostWatch()
	w.network = "ip"
	if sets, _, err := play(t, w, time.Minute, func(q question, n int) (answer, error) {
		if q.kind == dns.TypeAAAA {
			return answer{}, errDown
		}
		return one("192.0.2.1", time.Second), nil
	}); !errors.Is(err, context.DeadlineExceeded) || len(sets) < 40 || sets[0] != "192.0.2.1:80" {
		t.Errorf("%d sets, then %v, want that IPv6 alone may fail", len(sets), err)
	}
}

// A server that answers with failures is not to be asked more than once a second.
func TestFailingServerIsAskedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		questions, longest := 0, time.Duration(0)
		var last time.Time
		r := watchFunc(func(ctx context.Context, _ string, update func([]discovery.Endpoint)) error {
			w := hostWatch()
			w.source = func() source {
				return &script{reply: func(q question, n int) (answer, error) {
					if questions++; questions > 10 { // the pauses have grown by then
						longest = max(longest, time.Since(last))
					}
					last = time.Now()
					return answer{}, &failure{q: q, err: codeError(dns.RcodeServerFailure), answered: true}
				}}
			}
			return w.run(ctx, update)
		})
		const d = 10 * time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		_ = discovery.Run(ctx, r, "web", discovery.RunOptions{}, func([]discovery.Endpoint) {})
		if got, want := questions, int(d/time.Second)+10; got > want {
			t.Errorf("%d questions in %v, want at most %d", got, d, want)
		}
		if longest > 2*time.Second {
			t.Errorf("%v between two questions, want at most 2 s", longest)
		}
		t.Logf("%d questions in %v, at most %v apart", questions, d, longest)
	})
}

type watchFunc func(ctx context.Context, service string, update func([]discovery.Endpoint)) error

func (f watchFunc) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	return f(ctx, service, update)
}

func manyTargets(n int, ttl time.Duration) answer {
	a := answer{ttl: ttl}
	for i := range n {
		a.targets = append(a.targets, record{fmt.Sprintf("t%d.test.", i), 80, 0, 1})
	}
	return a
}

func TestTargetsUseWhatComesAlong(t *testing.T) {
	sets, asked, _ := play(t, srvWatch(), time.Second/2, func(q question, n int) (answer, error) {
		a := manyTargets(2, time.Minute)
		a.glue = map[string][]netip.Addr{"t0.test.": addrsOf("192.0.2.1", "2001:db8::1"), "t1.test.": addrsOf("2001:db8::2")}
		return a, nil
	})
	if want := []string{"192.0.2.1:80 [2001:db8::2]:80"}; !slices.Equal(sets, want) || len(asked) != 1 {
		t.Errorf("sets are %q after %q, want %q after one question", sets, asked, want)
	}
}

func TestTargetsThatFailAloneStay(t *testing.T) {
	// t1 fails from the second time on, t2 always, t3 does not exist.
	times := map[string]int{}
	sets, _, err := play(t, srvWatch(), 20*time.Second, func(q question, n int) (answer, error) {
		if q.kind == dns.TypeSRV {
			return manyTargets(4, time.Second), nil
		}
		times[q.name]++
		switch {
		case q.name == "t3.test." || q.kind == dns.TypeAAAA:
			return answer{ttl: time.Second}, nil
		case q.name == "t2.test." || q.name == "t1.test." && times[q.name] > 1:
			return answer{}, errDown
		}
		return one("192.0.2."+q.name[1:2], time.Second), nil
	})
	if want := "192.0.2.0:80 192.0.2.1:80"; len(sets) < 10 || slices.ContainsFunc(sets, func(s string) bool { return s != want }) {
		t.Errorf("sets are %q, then %v, want always %q", sets, err, want)
	}
	if times["t1.test."] < 2 {
		t.Errorf("t1 was asked for %d times, want again after the failure", times["t1.test."])
	}
}

func TestTargetsWithoutAddressesAreAnError(t *testing.T) {
	sets, _, err := play(t, srvWatch(), time.Minute, func(q question, n int) (answer, error) {
		if q.kind == dns.TypeSRV {
			return manyTargets(2, time.Minute), nil
		}
		return answer{ttl: time.Minute}, nil
	})
	if want := "none of the 2 targets"; err == nil || !strings.Contains(err.Error(), want) || len(sets) != 0 {
		t.Errorf("%d sets, then %v, want an error with %q", len(sets), err, want)
	}
}

// The addresses of many targets are asked for in one round every half a minute, though they expire each second.
func TestManyTargetsAreNotAskedForEachSecond(t *testing.T) {
	const targets = 200
	_, asked, _ := play(t, srvWatch(), time.Minute-time.Second, func(q question, n int) (answer, error) {
		if q.kind == dns.TypeSRV {
			return manyTargets(targets, time.Second), nil
		}
		return one("192.0.2.1", time.Second), nil
	})
	own := 0
	for _, q := range asked {
		if !strings.HasPrefix(q, "SRV") {
			own++
		}
	}
	if own != 2*targets || len(asked)-own > 61 {
		t.Errorf("%d questions for targets and %d others in a minute, want %d and at most 61", own, len(asked)-own, 2*targets)
	}
}

// More than fits into one answer of DNS: Run draws the line.
func TestTooManyInstancesKeepTheLastSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		size := 5
		r := watchFunc(func(ctx context.Context, _ string, update func([]discovery.Endpoint)) error {
			w := srvWatch()
			w.source = func() source {
				return &script{reply: func(question, int) (answer, error) {
					a := answer{ttl: time.Second, glue: map[string][]netip.Addr{}}
					for i := range size {
						name := fmt.Sprintf("t%d.test.", i)
						a.targets = append(a.targets, record{name, 80, 0, 1})
						a.glue[name] = []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
					}
					size = 10_001
					return a, nil
				}}
			}
			return w.run(ctx, update)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var sizes []int
		rejected := 0
		opts := discovery.RunOptions{Observe: func(e discovery.Event) {
			if e.Kind == discovery.EventAnswerRejected {
				rejected++
			}
		}}
		_ = discovery.Run(ctx, r, "web", opts, func(set []discovery.Endpoint) { sizes = append(sizes, len(set)) })
		if !slices.Equal(sizes, []int{5}) || rejected == 0 {
			t.Errorf("sets of %v endpoints, %d answers rejected, want only the set of 5", sizes, rejected)
		}
	})
}
