package httpmesh

import (
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/zerohop/zerohop"
)

// BenchmarkRoundTrip is what http.Client costs over a base transport that does nothing, and how much more with the
// whole pipeline in between. Both are measured in turn, so that whatever slows the machine down slows down both, in
// rounds so short that few are interrupted. added-ns is the median of the differences: it leaves out most of the work
// of the garbage collector, for which added-B and added-allocs stand. ns/op is that of two rounds.
func BenchmarkRoundTrip(b *testing.B) {
	for _, c := range []struct {
		name   string
		policy zerohop.Policy
	}{
		{"default", zerohop.Policy{}},
		{"breaker", zerohop.Policy{Breaker: zerohop.Breaker{Mode: zerohop.On}}},
	} {
		for _, mode := range []struct {
			name    string
			callers int
		}{{"serial", 1}, {"parallel", runtime.GOMAXPROCS(0)}} {
			b.Run(c.name+"/"+mode.name, func(b *testing.B) {
				plain := &http.Client{Transport: nop{}}
				meshed := &http.Client{Transport: NewTransport(open(b, zerohop.Config{
					Resolver: fakes(3), Spec: zerohop.Spec{Defaults: c.policy},
				}), nop{})}
				for _, client := range []*http.Client{plain, meshed} { // the first calls wait for the endpoints
					spend(b, client, mode.callers)
				}
				var base, with, added []float64
				for b.Loop() {
					p, m := spend(b, plain, mode.callers), spend(b, meshed, mode.callers)
					base, with, added = append(base, p), append(with, m), append(added, m-p)
				}
				b.ReportMetric(median(base), "client-ns")
				b.ReportMetric(median(with), "zerohop-ns")
				b.ReportMetric(median(added), "added-ns")
				b.ReportMetric(allocations(b, meshed)-allocations(b, plain), "added-allocs")
				b.ReportMetric(memory(b, meshed)-memory(b, plain), "added-B")
			})
		}
	}
}

const callsInRound = 100

// spend returns how many nanoseconds a call takes, when so many callers make a hundred each.
func spend(b *testing.B, client *http.Client, callers int) float64 {
	round := func() {
		req := request(b.Context(), b, http.MethodGet, "http://orders/v1/orders/42", nil)
		for range callsInRound {
			do(b, client, req)
		}
	}
	start := time.Now()
	if callers == 1 {
		round() // here: a new goroutine would have to grow its stack first
	} else {
		var wg sync.WaitGroup
		for range callers {
			wg.Go(round)
		}
		wg.Wait()
	}
	return float64(time.Since(start).Nanoseconds()) / float64(callsInRound*callers)
}

func do(t testing.TB, client *http.Client, req *http.Request) {
	resp, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	resp.Body.Close()
}

func allocations(t testing.TB, client *http.Client) float64 {
	req := request(t.Context(), t, http.MethodGet, "http://orders/v1/orders/42", nil)
	return testing.AllocsPerRun(1000, func() { do(t, client, req) })
}

// memory returns the bytes that a call allocates.
func memory(b *testing.B, client *http.Client) float64 {
	var before, after runtime.MemStats
	const rounds = 100
	runtime.ReadMemStats(&before)
	for range rounds {
		spend(b, client, 1)
	}
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc-before.TotalAlloc) / (rounds * callsInRound)
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// nop answers without a body to read.
type nop struct{}

type nopBody struct{}

func (nopBody) Read([]byte) (int, error) { return 0, http.ErrBodyReadAfterClose }
func (nopBody) Close() error             { return nil }

func (nop) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: nopBody{}, Request: req}, nil
}

// What the call keeps, the request of the attempt with it; a breaker gives a permit.
func TestCallThatSucceedsAddsFewAllocations(t *testing.T) {
	for mode, want := range map[zerohop.Switch]float64{zerohop.Off: 1, zerohop.On: 2} {
		m := open(t, zerohop.Config{Resolver: fakes(3), Spec: zerohop.Spec{Defaults: zerohop.Policy{Breaker: zerohop.Breaker{Mode: mode}}}})
		got := allocations(t, &http.Client{Transport: NewTransport(m, nop{})}) - allocations(t, &http.Client{Transport: nop{}})
		if got > want {
			t.Errorf("with breakers %s, a call makes %v allocations more, want at most %v", mode, got, want)
		}
	}
}

func TestCallThatSucceedsStartsNoGoroutine(t *testing.T) {
	m := open(t, zerohop.Config{Resolver: fakes(3)})
	var during int
	client := &http.Client{Transport: NewTransport(m, roundTrip(func(req *http.Request) (*http.Response, error) {
		during = runtime.NumGoroutine()
		return nop{}.RoundTrip(req)
	}))}
	req := request(t.Context(), t, http.MethodGet, "http://orders/v1/orders/42", nil)
	do(t, client, req) // the first call begins to watch the service
	before := runtime.NumGoroutine()
	do(t, client, req)
	if during > before {
		t.Errorf("%d goroutines during a call, %d before", during, before)
	}
}

// What a call keeps is one allocation, which the runtime rounds up: a field more can cost each call an eighth. Objects of
// that size have a word before them.
func TestCallsFitTheirSizeClass(t *testing.T) {
	const word = unsafe.Sizeof(uintptr(0))
	if word != 8 {
		t.Skip("the sizes are those of 64 bits")
	}
	for _, c := range []struct {
		name      string
		size, max uintptr
	}{
		{"over connections of our own", unsafe.Sizeof(exchange{}), 896},
		{"over a foreign base", unsafe.Sizeof(foreign{}), 1152},
	} {
		if got := c.size + word; got > c.max {
			t.Errorf("a call %s takes %d bytes, want at most %d", c.name, got, c.max)
		}
	}
}
