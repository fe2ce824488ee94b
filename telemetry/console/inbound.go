package console

import (
	"slices"
	"time"
)

// inbound counts what comes in to a server of the process.
type inbound struct {
	name     string
	requests func() (all, failed int64)

	// What follows belongs to the sampler, under Console.mu.
	seenAll, seenFailed int64
	ring                [window][2]int64 // what came in the last ticks
	n                   int
}

// Inbound has the topology show what comes in to a server of the process, under Config.Name: how many requests a second, and which share
// of them failed. Requests do not say who sends them, so all callers of a server are one. requests returns how many requests
// have come so far and how many of them failed, and neither goes back: httpmesh.Handler.Requests and grpcmesh.Server.Requests are such
// functions. It is called each tick until Close, one call at a time, and must neither block nor panic. name is for people, such as
// "http" or the port; a server of the same name is replaced, and of more than MaxServers the first are shown.
func (c *Console) Inbound(name string, requests func() (all, failed int64)) {
	s := &inbound{name: name, requests: requests}
	s.seenAll, s.seenFailed = requests()
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.inbound, func(o *inbound) bool { return o.name == name }); i >= 0 {
		c.inbound[i] = s
	} else if len(c.inbound) < MaxServers {
		c.inbound = append(c.inbound, s)
	}
}

// came asks the servers for their counts, and returns what takes note of them with Console.mu locked: not while they are asked.
func (c *Console) came() (note func()) {
	c.mu.Lock()
	servers := slices.Clone(c.inbound)
	c.mu.Unlock()
	counts := make([][2]int64, len(servers))
	for i, s := range servers {
		counts[i][0], counts[i][1] = s.requests()
	}
	return func() {
		for i, s := range servers {
			s.sample(counts[i][0], counts[i][1])
		}
	}
}

func (s *inbound) sample(all, failed int64) {
	s.ring[s.n%window] = [2]int64{max(all-s.seenAll, 0), max(failed-s.seenFailed, 0)}
	s.seenAll, s.seenFailed, s.n = max(all, s.seenAll), max(failed, s.seenFailed), s.n+1
}

// traffic returns what came in the last 10 s. Requests count when they come and failures when they end, so that there may be more of those.
func (s *inbound) traffic() Traffic {
	var all, failed int64
	for _, n := range s.ring {
		all, failed = all+n[0], failed+n[1]
	}
	return Traffic{Rate: rate(uint64(all), time.Duration(min(window, s.n))*tick), Errors: share(uint64(min(failed, all)), uint64(all))}
}
