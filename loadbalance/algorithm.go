package loadbalance

import "slices"

// Algorithm is a way to pick from sets that is not the one of their Balancer, for some of the calls to a service. Make one and
// keep it: a set knows its pickers by it.
type Algorithm struct {
	// Builder is the algorithm. Prequal and what else goes by reports of endpoints has use for them only where the endpoints are
	// asked for them on account of their Balancer.
	Builder Builder
}

// maxAlgorithms is how many algorithms have a picker of a set at the same time. They come from routes.
const maxAlgorithms = 16

// algorithmic is a set as an algorithm picks from it.
type algorithmic struct {
	algorithm *Algorithm
	set       *Set
}

// By returns the set as the algorithm picks from it: the same nodes, with the same load, ejections, priorities and zones. nil
// means that of the Balancer.
//
// The first call for a set makes a picker; others take one atomic load and do not allocate. A set keeps 16 algorithms, and then
// makes room for others.
func (s *Set) By(a *Algorithm) *Set {
	if a == nil || len(s.nodes) == 0 {
		return s
	}
	if list := s.algorithms.Load(); list != nil {
		for i := range *list {
			if x := &(*list)[i]; x.algorithm == a {
				return x.set
			}
		}
	}
	return s.by(a)
}

func (s *Set) by(a *Algorithm) *Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []algorithmic
	if old := s.algorithms.Load(); old != nil {
		for _, x := range *old {
			if x.algorithm == a {
				return x.set
			}
		}
		list = slices.Clone(*old)
	}
	v := &Set{
		balancer: s.balancer, setup: s.setup, nodes: s.nodes, levels: slices.Clone(s.levels), banded: s.banded, limited: s.limited,
		known: s.known, awaited: s.awaited, size: s.size,
	}
	for i := range v.levels {
		l := &v.levels[i]
		if l.picker = a.Builder(l.nodes); l.around != nil {
			l.around = &v.levels[i+1]
		}
	}
	if len(v.levels) > 0 {
		v.chance = chancy(v.levels)
	}
	v = s.balancer.planned(v)
	if len(list) == maxAlgorithms {
		list = slices.Delete(list, 0, 1)
	}
	list = append(list, algorithmic{a, v})
	s.algorithms.Store(&list)
	return v
}

// chancy reports whether picks from the levels need a random word.
func chancy(levels []level) bool {
	_, turns := levels[0].picker.(*roundRobin)
	return !turns || len(levels) > 1
}
