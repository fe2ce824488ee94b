package loadbalance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

// FuzzPick plays a script of updates, picks, reports, checks and pauses on every algorithm, with and without zones,
// ejection, slow start, subsets and panic: picks end and return a node of what they picked from, one that was not tried
// while such a one is left, and fail for the reasons that are documented only.
func FuzzPick(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 1, 0, 0, 0, 0, 1, 0, 2, 0, 1, 3, 2, 1, 4, 200, 1, 9})
	f.Add([]byte{1, 0, 9, 255, 255, 255, 255, 1, 0, 1, 1, 1, 2, 1, 3, 2, 2, 2, 1, 2, 0, 0, 3, 1, 1, 1, 1, 3, 7, 255, 255, 255, 255, 1, 4, 2, 0})
	f.Add([]byte{2, 0, 30, 1, 0, 0, 0, 3, 0, 1, 2, 3, 4, 3, 1, 9, 9, 9, 9, 4, 255, 3, 2, 0, 0, 1, 0, 1, 5, 1, 6, 0, 1, 0, 0, 0, 128, 1, 1})
	for shape := range byte(64) { // every set-up: an update, failed checks, and picks of each kind before and after a smaller set
		script := []byte{shape, 0, 24 + shape, 1, 2, 3, 4, 57, 0, 0, 0}
		for _, op := range []byte{1, 5, 6, 7, 8, 2} {
			for v := range byte(6) {
				script = append(script, op, v*37+shape, v*11)
			}
		}
		f.Add(append(script, 0, 3, 1, 2, 3, 4, 1, 1, 1, 1, 1, 0, 6, 200, 7, 90, 8, 5, 4, 255, 1, 0, 0, 0, 0, 0, 0, 0, 1, 7, 0))
	}
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
			(&play{T: t, name: name, script: script, now: time.Now()}).run(build)
		}
	})
}

// play is a script that is played on a Balancer.
type play struct {
	*testing.T
	name   string
	script []byte
	b      *Balancer
	now    time.Time
	under  []Pick
}

func (p *play) byte() (v byte) {
	if len(p.script) > 0 {
		v, p.script = p.script[0], p.script[1:]
	}
	return v
}

func (p *play) number() uint32 {
	return binary.LittleEndian.Uint32([]byte{p.byte(), p.byte(), p.byte(), p.byte()})
}

// config is the set-up that the first byte of the script stands for, a bit for each option.
func (p *play) config(build Builder) Config {
	words := uint64(1)
	c := Config{
		Builder: build,
		Rand:    func() uint64 { words = next(words); return words },
		Breaker: &resilience.BreakerConfig{Consecutive: 2, OpenFor: time.Second},
	}
	shape := p.byte()
	if shape&1 > 0 {
		c.Locality.Zone = "a"
	}
	if shape&2 > 0 {
		c.Outlier = &OutlierConfig{Consecutive: 2, Latency: 3}
	}
	if shape&4 > 0 {
		c.SlowStart = &SlowStart{}
	}
	if shape&8 > 0 {
		c.Panic = -1
	}
	c.Unproven = shape&16 > 0
	if shape&32 > 0 {
		c.Subset = Subset{Size: 5, Client: "me"}
	}
	return c
}

func (p *play) run(build Builder) {
	p.b = New(p.config(build))
	for len(p.script) > 0 {
		switch p.byte() % 9 {
		case 0:
			p.update()
		case 1:
			p.pick(p.b.Set(), p.info(p.b.Set().Nodes()))
		case 2:
			p.done()
		case 3:
			p.report()
		case 4:
			p.now = p.now.Add(time.Duration(p.byte())*50*time.Millisecond - time.Second)
		case 5:
			if nodes, what := p.b.Set().Nodes(), p.byte(); len(nodes) > 0 {
				p.b.SetFailing(nodes[int(what&63)%len(nodes)].Addr(), what&64 == 0, p.now)
			}
		case 6:
			p.reachable()
		case 7:
			p.bound()
		case 8:
			p.matching()
		}
	}
	nodes := p.b.Set().Nodes()
	for _, pick := range p.under {
		nodes = append(slices.Clip(nodes), pick.Node())
		pick.Done(Report{Now: p.now})
	}
	for _, n := range nodes {
		if got := n.InFlight(); got != 0 {
			p.Fatalf("%s: %d calls in flight on %s at rest", p.name, got, n.Addr())
		}
	}
}

// update gives endpoints, some of them twice. Many have a zone, a priority, another health and metadata, if the script
// says so.
func (p *play) update() {
	eps := endpoints(int(p.byte())%64, p.number(), p.number()%3, 1)
	mixed := p.byte()
	for i := range eps {
		if i%7 == 3 {
			eps[i] = discovery.Endpoint{Addr: eps[0].Addr, Weight: math.MaxUint32}
		}
		r := mix(uint64(mixed) + uint64(i))
		if mixed&1 > 0 {
			eps[i].Zone = []string{"a", "b", "", "c"}[r&3]
		}
		if mixed&2 > 0 {
			eps[i].Priority = []uint8{0, 1, 9, 255}[r>>8&3]
		}
		if mixed&4 > 0 {
			eps[i].Health = discovery.Health(r >> 16 & 7) // some are unknown
		}
		if mixed&8 > 0 {
			eps[i].Meta = map[string]string{"version": fmt.Sprint(r >> 24 & 3), "stage": fmt.Sprint(r >> 32 & 1)}
		}
	}
	p.b.Update(eps)
}

// info is about a pick from the nodes.
func (p *play) info(nodes []*Node) Info {
	what := p.byte()
	in := Info{Now: p.now, Hash: uint64(what&3) * golden, Sound: what&4 > 0, Other: what&8 > 0}
	in.Avoid = nodes[:len(nodes)*int(what>>4)/15]
	return in
}

// pick picks from a set, nil if there is none.
func (p *play) pick(s *Set, in Info) {
	pick, err := s.Pick(in)
	switch {
	case err == nil:
	case errors.Is(err, ErrNoEndpoints) && len(s.Nodes()) == 0, errors.Is(err, ErrUnavailable), errors.Is(err, ErrNoOther) && in.Other,
		errors.Is(err, ErrNoNode) && in.Strict:
		return
	default:
		p.Fatalf("%s: Pick() from %d nodes = %v with %+v", p.name, len(s.Nodes()), err, in)
	}
	n := pick.Node()
	if n == nil || !slices.Contains(s.Nodes(), n) || !slices.Contains(p.b.Set().Nodes(), n) {
		p.Fatalf("%s: Pick() = %v, which is not in the set", p.name, n)
	}
	switch {
	case in.Other && slices.Contains(in.Avoid, n):
		p.Fatalf("%s: Pick() = %s, which was tried, though another was wanted", p.name, n.Addr())
	case in.Strict && NodeKey(n.Addr()) != in.Node:
		p.Fatalf("%s: Pick() = %s, to which the call is not bound", p.name, n.Addr())
	case !in.Strict && slices.Contains(in.Avoid, n):
		for i := range s.levels {
			for _, other := range s.levels[i].nodes {
				if in.Usable(other) {
					p.Fatalf("%s: Pick() = %s, which was tried, and %s was not", p.name, n.Addr(), other.Addr())
				}
			}
		}
	}
	p.under = append(p.under, pick)
}

func (p *play) done() {
	what := p.byte()
	if len(p.under) == 0 {
		return
	}
	i := int(what) % len(p.under)
	outcomes := []resilience.Outcome{resilience.Success, resilience.Failure, resilience.Overload, resilience.Neutral}
	p.under[i].Done(Report{
		Now: p.now, Outcome: outcomes[what>>6], Latency: time.Duration(what) << (what & 31), After: time.Duration(what&7) * time.Second,
		Overdue: what&8 > 0,
	})
	p.under = slices.Delete(p.under, i, i+1)
}

func (p *play) report() {
	if nodes, what := p.b.Set().Nodes(), p.byte(); len(nodes) > 0 {
		nodes[int(what)%len(nodes)].ReportLoad(p.now, Load{
			InFlight:    int(int32(p.number())),
			Latency:     time.Duration(p.number()) << (what & 31),
			Utilization: float64(math.Float32frombits(p.number())),
			Rate:        float64(math.Float32frombits(p.number())),
			Errors:      float64(math.Float32frombits(p.number())),
		})
	}
}

// reachable picks as a transport does that is connected to some of the nodes and waits for others.
func (p *play) reachable() {
	var connected, awaited []*Node
	r := uint64(p.byte())
	for i, n := range p.b.Set().Nodes() {
		switch mix(r+uint64(i)) & 3 {
		case 0, 1:
			connected = append(connected, n)
		case 2:
			awaited = append(awaited, n)
		}
	}
	if r&1 > 0 {
		awaited = nil
	}
	s := p.b.Reachable(connected, awaited)
	p.pick(s, p.info(s.Nodes()))
}

// bound picks a given node, or one that is none.
func (p *play) bound() {
	s, what := p.b.Set(), p.byte()
	in := p.info(s.Nodes())
	in.Node, in.Strict = uint64(what)+1, what&64 > 0
	if nodes := s.Nodes(); what&128 == 0 && len(nodes) > 0 {
		in.Node = NodeKey(nodes[int(what&63)%len(nodes)].Addr())
	}
	p.pick(s, in)
}

// matching picks among the nodes with some metadata.
func (p *play) matching() {
	what := p.byte()
	keys, values := []string{"stage", "version"}, []string{fmt.Sprint(what >> 2 & 1), fmt.Sprint(what & 3)}
	keys, values = keys[what>>3&1:], values[what>>3&1:]
	s := p.b.Set().Matching(keys, values)
	if s == nil {
		return
	}
	for _, n := range s.Nodes() {
		for i, k := range keys {
			if got := n.Endpoint().Meta[k]; got != values[i] {
				p.Fatalf("%s: %s has %s %q, want %q", p.name, n.Addr(), k, got, values[i])
			}
		}
	}
	p.pick(s, p.info(s.Nodes()))
}
