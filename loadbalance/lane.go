package loadbalance

// Lane returns the subset of the nodes that are in a lane, those whose metadata has its name under key, or nil if there is none.
// The lane with the empty name, and the one that is called stable, is that of the nodes with neither key nor value, or with
// stable as the value. Otherwise it is like Matching.
func (s *Set) Lane(key, stable, lane string) *Set {
	if len(s.nodes) == 0 {
		return nil
	}
	if lane == stable {
		lane = ""
	}
	g := s.lanes(key, stable)
	if g == nil {
		g = s.group(division{keys: []string{key}, lanes: true, stable: stable})
	}
	p := g.parts[lane]
	if p == nil {
		return nil
	}
	if sub := p.set.Load(); sub != nil {
		return sub
	}
	return s.subset(p, &g.division, []string{lane})
}

// lanes returns the grouping by the lanes under a key, nil if there is none.
func (s *Set) lanes(key, stable string) *grouping {
	if list := s.groupings.Load(); list != nil {
		for _, g := range *list {
			if g.lanes && g.keys[0] == key && g.stable == stable {
				return g
			}
		}
	}
	return nil
}

// Serves reports whether a pick would find a node that is in service, below its limit and not to be avoided, or one that was
// ejected and is to be tried again. Panic does not make it so: it is for callers that have somewhere else to go.
func (s *Set) Serves(in Info) bool {
	if s.current() == nil || s.desperate() {
		return false
	}
	in.panicking, in.Choice = false, nil
	now := s.balancer.since(in.Now)
	for i := range s.levels {
		for _, n := range s.levels[i].nodes {
			if n.full() {
				continue
			}
			out := n.out.Load()
			if in.Usable(n) || out > 0 && out <= int64(now) && in.easy() && n.admits(in.Now) {
				return true
			}
		}
	}
	return false
}
