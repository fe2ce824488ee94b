package loadbalance

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// FuzzPick plays a script of updates, picks, reports and pauses on every algorithm: picks end and return a node of the set,
// one that was not tried while such a one is left.
func FuzzPick(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0, 0, 0, 0, 1, 0, 2, 0, 1, 3, 2, 1, 4, 200, 1, 9})
	f.Add([]byte{0, 9, 255, 255, 255, 255, 1, 0, 1, 1, 1, 2, 1, 3, 2, 2, 2, 1, 2, 0, 0, 3, 1, 1, 1, 1, 3, 7, 255, 255, 255, 255, 1, 4, 2, 0})
	f.Add([]byte{0, 30, 1, 0, 0, 0, 3, 0, 1, 2, 3, 4, 3, 1, 9, 9, 9, 9, 4, 255, 3, 2, 0, 0, 1, 0, 1, 5, 1, 6, 0, 1, 0, 0, 0, 128, 1, 1})
	builders := map[string]Builder{
		"Prequal": Prequal, "UtilizationRoundRobin": UtilizationConfig{Blackout: -1}.RoundRobin,
		"five choices": LeastRequestConfig{Choices: 5}.LeastRequest,
	}
	for _, p := range policies {
		builders[p.name] = p.build
	}
	for _, h := range hashing {
		builders[h.name] = h.build
	}
	builders["Maglev"] = HashConfig{Table: 251}.Maglev
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 400)]
		for name, build := range builders {
			play(t, name, build, script)
		}
	})
}

func play(t *testing.T, name string, build Builder, script []byte) {
	words := uint64(1)
	b := New(Config{
		Builder: build,
		Rand:    func() uint64 { words = next(words); return words },
		Breaker: &resilience.BreakerConfig{Consecutive: 2, OpenFor: time.Second},
	})
	now := time.Now()
	var under []Pick
	byteAt := func() (v byte) {
		if len(script) > 0 {
			v, script = script[0], script[1:]
		}
		return v
	}
	number := func() uint32 { return binary.LittleEndian.Uint32([]byte{byteAt(), byteAt(), byteAt(), byteAt()}) }
	for len(script) > 0 {
		switch byteAt() % 5 {
		case 0:
			eps := endpoints(int(byteAt())%64, number(), number()%3, 1)
			for i := range eps {
				if i%7 == 3 {
					eps[i] = discovery.Endpoint{Addr: eps[0].Addr, Weight: math.MaxUint32}
				}
			}
			b.Update(eps)
		case 1:
			what := byteAt()
			nodes := b.Set().Nodes()
			in := Info{Now: now, Hash: uint64(what&3) * golden, Sound: what&4 > 0, Other: what&8 > 0}
			in.Avoid = nodes[:len(nodes)*int(what>>4)/15]
			p, err := b.Pick(in)
			if err != nil {
				continue
			}
			n := p.Node()
			if !slices.Contains(nodes, n) {
				t.Fatalf("%s: Pick() = %v, which is not in the set", name, n)
			}
			for _, other := range nodes {
				if slices.Contains(in.Avoid, n) && in.Usable(other) && !slices.Contains(in.Avoid, other) {
					t.Fatalf("%s: Pick() = %s, which was tried, and %s was not", name, n.Addr(), other.Addr())
				}
			}
			under = append(under, p)
		case 2:
			if what := byteAt(); len(under) > 0 {
				i := int(what) % len(under)
				outcomes := []resilience.Outcome{resilience.Success, resilience.Failure, resilience.Overload, resilience.Neutral}
				under[i].Done(Report{
					Now: now, Outcome: outcomes[what>>6], Latency: time.Duration(what) << (what & 31), After: time.Duration(what&7) * time.Second,
				})
				under = slices.Delete(under, i, i+1)
			}
		case 3:
			if nodes, what := b.Set().Nodes(), byteAt(); len(nodes) > 0 {
				nodes[int(what)%len(nodes)].ReportLoad(now, Load{
					InFlight:    int(int32(number())),
					Latency:     time.Duration(number()) << (what & 31),
					Utilization: float64(math.Float32frombits(number())),
					Rate:        float64(math.Float32frombits(number())),
					Errors:      float64(math.Float32frombits(number())),
				})
			}
		case 4:
			now = now.Add(time.Duration(byteAt())*50*time.Millisecond - time.Second)
		}
	}
	nodes := b.Set().Nodes()
	for _, p := range under {
		nodes = append(slices.Clip(nodes), p.Node())
		p.Done(Report{Now: now})
	}
	for _, n := range nodes {
		if got := n.InFlight(); got != 0 {
			t.Fatalf("%s: %d calls in flight on %s at rest", name, got, n.Addr())
		}
	}
}
