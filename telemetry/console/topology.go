package console

import (
	"cmp"
	"slices"
	"time"
)

// topology returns who calls whom.
func (c *Console) topology(mesh, service string) TopologyView {
	v := TopologyView{Time: time.Now().UTC(), Nodes: []TopologyNode{}, Edges: []TopologyEdge{}}
	nodes := map[string]*TopologyNode{}
	node := func(title string) *TopologyNode {
		n := nodes[title]
		if n == nil {
			n = &TopologyNode{ID: title, Name: title, Status: StatusOK}
			nodes[title] = n
		}
		return n
	}
	for _, o := range c.open() {
		if mesh != "" && o.id != mesh {
			continue
		}
		st := o.now()
		from := node(name(o.title(c)))
		from.Mesh, from.Zone = o.id, name(st.Zone)
		c.mu.Lock()
		services := *o.collector.services.Load()
		for i := range st.Services {
			s := &st.Services[i]
			if service != "" && name(s.Name) != service {
				continue
			}
			l := o.line(s, services[s.Name], st.Time, false)
			to := node(l.Service)
			if to.Service = true; worse(l.Status, to.Status) {
				to.Status = l.Status
			}
			if len(to.Zones) == 0 {
				zones := map[string]*ZoneView{}
				for j := range s.Endpoints {
					e := &s.Endpoints[j]
					z := zones[e.Zone]
					if z == nil {
						if len(zones) == maxZones {
							continue
						}
						z = &ZoneView{Zone: name(e.Zone)}
						zones[e.Zone] = z
					}
					z.Endpoints++
					if status, _ := statusOf(e); out(status) {
						z.Out++
					}
				}
				for _, z := range zones {
					to.Zones = append(to.Zones, *z)
				}
				slices.SortFunc(to.Zones, func(a, b ZoneView) int { return cmp.Compare(a.Zone, b.Zone) })
			}
			v.Edges = append(v.Edges, TopologyEdge{From: from.ID, To: to.ID, ServiceName: l.ServiceName, Now: l.Now})
		}
		c.mu.Unlock()
	}
	c.incoming(mesh, service, &v, nodes)
	for _, n := range nodes {
		v.Nodes = append(v.Nodes, *n)
	}
	slices.SortFunc(v.Nodes, func(a, b TopologyNode) int { return cmp.Compare(a.ID, b.ID) })
	return v
}

// incoming adds what comes in to the process, which is the node of Config.Name. Of a mesh it has only what comes in to that.
func (c *Console) incoming(mesh, service string, v *TopologyView, nodes map[string]*TopologyNode) {
	process := name(c.cfg.Name)
	if service != "" || mesh != "" && nodes[process] == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.inbound {
		if nodes[process] == nil {
			nodes[process] = &TopologyNode{ID: process, Name: process, Status: StatusOK}
		}
		from := &TopologyNode{ID: `\:` + name(s.name), Name: name(s.name), Callers: true, Status: StatusOK} // as no name is shown
		nodes[from.ID] = from
		v.Edges = append(v.Edges, TopologyEdge{From: from.ID, To: process, Now: s.traffic()})
	}
}

// maxZones is how many zones of a service the topology has.
const maxZones = 32

func worse(a, b Status) bool {
	rank := func(s Status) int { return slices.Index([]Status{StatusOK, StatusIdle, StatusDegraded, StatusDown}, s) }
	return rank(a) > rank(b)
}
