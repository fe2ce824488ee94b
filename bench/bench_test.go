package bench

import (
	"fmt"
	"net"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A contender is a way to choose endpoints, of us or others.
type contender struct {
	name  string
	build func(endpoints []string) subject
	slow  bool // takes from ten seconds to two minutes to set up ten thousand endpoints
	alone bool // is not safe for concurrent use
}

// A subject is a contender with endpoints.
type subject struct {
	// caller returns a function for one goroutine that chooses an endpoint for a call and, where the contender wants
	// to know, reports that the call succeeded after 10 ms.
	caller func() func()
	// update returns a function that makes the contender take over another set of endpoints. nil if it cannot be told
	// from outside when that is done.
	update func(endpoints []string) func()
	close  func()
}

var contenders = []contender{
	{name: "zerohop/round_robin", build: roundRobin},
	{name: "zerohop/least_request", build: leastRequest},
	{name: "zerohop/peak_ewma", build: peakEWMA},
	{name: "zerohop/peak_ewma+ejection", build: peakEWMAEjecting},
	{name: "zerohop/peak_ewma+ejection+clock", build: peakEWMAReadingTheClock},
	{name: "zerohop/prequal+reports", build: prequal},
	{name: "httplb/round_robin", build: httplbRoundRobin},
	{name: "httplb/power_of_two", build: httplbPowerOfTwo},
	{name: "httplb/least_loaded", build: httplbLeastLoaded},
	{name: "grpc-go/round_robin", build: grpcRoundRobin, slow: true},
	{name: "grpc-go/weighted_round_robin", build: grpcWeightedRoundRobin, slow: true},
	{name: "grpc-go/least_request", build: grpcLeastRequest, slow: true},
	{name: "grpc-go/outlier_detection", build: grpcOutlierDetection, slow: true},
	{name: "go-zero/p2c", build: goZeroP2C, slow: true},
	{name: "kratos/p2c", build: kratosP2C},
	{name: "kratos/wrr", build: kratosWRR},
	{name: "kitex/weighted_round_robin", build: kitexRoundRobin},
	{name: "kitex/weighted_random", build: kitexRandom},
	{name: "go-kit/round_robin", build: goKitRoundRobin},
	{name: "go-kit/random", build: goKitRandom, alone: true},
}

// addresses returns so many endpoints.
func addresses(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = net.JoinHostPort(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), "80")
	}
	return list
}

// ready keeps what is set up, once in a process: with -count it would take minutes each time.
var ready = struct {
	sync.Mutex
	subjects map[string]subject
}{subjects: map[string]subject{}}

// prepare returns the contender with so many endpoints, most of which have been called.
func (c *contender) prepare(n int) subject {
	ready.Lock()
	defer ready.Unlock()
	key := c.name + strconv.Itoa(n)
	s, ok := ready.subjects[key]
	if !ok {
		s = c.build(addresses(n))
		ready.subjects[key] = s
		call, begin := s.caller(), time.Now()
		for i := 0; i < 10*n && time.Since(begin) < time.Second; i++ {
			call()
		}
	}
	return s
}

// each runs a benchmark for every contender and number of endpoints.
func each(b *testing.B, sizes []int, run func(b *testing.B, c *contender, n int)) {
	for i := range contenders {
		c := &contenders[i]
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s/n=%d", c.name, n), func(b *testing.B) {
				if c.slow && n > 1000 && testing.Short() {
					b.Skip("takes up to two minutes to set up")
				}
				run(b, c, n)
			})
		}
	}
}

// BenchmarkCall measures a choice, and the report that the call has succeeded.
func BenchmarkCall(b *testing.B) {
	each(b, []int{3, 100, 1000, 10_000}, func(b *testing.B, c *contender, n int) {
		call := c.prepare(n).caller()
		b.ReportAllocs()
		for b.Loop() {
			call()
		}
	})
}

// BenchmarkCallParallel is BenchmarkCall from as many goroutines as there are processors.
func BenchmarkCallParallel(b *testing.B) {
	each(b, []int{3, 100, 1000, 10_000}, func(b *testing.B, c *contender, n int) {
		if c.alone {
			b.Skip("is not safe for concurrent use")
		}
		s := c.prepare(n)
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			call := s.caller()
			for pb.Next() {
				call()
			}
		})
	})
}

// BenchmarkUpdate replaces one endpoint of many, in the middle of the list.
func BenchmarkUpdate(b *testing.B) {
	each(b, []int{10_000}, func(b *testing.B, c *contender, n int) {
		s := c.prepare(n)
		if s.update == nil {
			b.Skip("does not tell when an update is done")
		}
		list := addresses(n)
		home := s.update(list)
		list[n/2] = "10.99.0.1:80"
		away := s.update(list)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i%2 == 0 {
				away()
			} else {
				home()
			}
		}
		home()
	})
}

// BenchmarkSetUp makes a contender of many endpoints that is ready to choose, of slow ones once whatever -count says.
func BenchmarkSetUp(b *testing.B) {
	each(b, []int{10_000}, func(b *testing.B, c *contender, n int) {
		if _, again := measured.LoadOrStore(c.name, true); again && c.slow {
			b.Skip("has been measured")
		}
		list := addresses(n)
		b.ReportAllocs()
		for b.Loop() {
			s := c.build(list)
			s.caller()()
			b.StopTimer()
			if s.close != nil {
				s.close()
			}
			runtime.GC()
			b.StartTimer()
		}
	})
}

var measured sync.Map // contenders set up by BenchmarkSetUp

// TestContendersChoose checks that what is measured works, before and after an update.
func TestContendersChoose(t *testing.T) {
	for i := range contenders {
		c := &contenders[i]
		t.Run(c.name, func(t *testing.T) {
			s := c.build(addresses(3))
			call := s.caller()
			if got := testing.AllocsPerRun(100, call); got > 20 {
				t.Errorf("a call allocates %v times, want a few at most", got)
			}
			if s.update != nil {
				s.update([]string{"10.0.0.0:80", "10.99.0.1:80"})()
			}
			for range 100 {
				call()
			}
			if s.close != nil {
				s.close()
			}
		})
	}
}
