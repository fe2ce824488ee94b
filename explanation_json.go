package zerohop

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/zerohop/zerohop/loadbalance"
)

// explanationJSON is the JSON of an Explanation. Durations are in milliseconds, levels between 0 and 1, random words in hexadecimal,
// since JSON has no integers of 64 bits; what is empty is left out, and -1 stands for what there is none of where 0 would mean something.
type explanationJSON struct {
	Service     string        `json:"service"`
	Host        string        `json:"host,omitempty"`
	Instead     string        `json:"instead,omitempty"`
	Mirror      bool          `json:"mirror,omitempty"`
	Protocol    string        `json:"protocol,omitempty"`
	Method      string        `json:"method,omitempty"`
	Criticality string        `json:"criticality"`
	Lane        string        `json:"lane,omitempty"`
	Start       time.Time     `json:"start"`
	Duration    float64       `json:"duration"`
	Delayed     float64       `json:"delayed,omitempty"`
	Generation  uint64        `json:"generation"`
	Route       string        `json:"route,omitempty"`
	Rule        int16         `json:"rule"`
	Match       int16         `json:"match"`
	Backend     int16         `json:"backend"`
	Random      string        `json:"random,omitempty"`
	Sampled     bool          `json:"sampled,omitempty"`
	Status      int           `json:"status"`
	Outcome     string        `json:"outcome"`
	Detail      string        `json:"detail"`
	Reason      Reason        `json:"reason,omitempty"`
	Flag        Flag          `json:"flag,omitempty"`
	Error       string        `json:"error,omitempty"`
	Attempts    int           `json:"attempts"`
	Budget      float64       `json:"budget"`
	Left        float64       `json:"left,omitempty"`
	Tries       []tryJSON     `json:"tries"`
	Refusals    []refusalJSON `json:"refusals,omitempty"`
}

type tryJSON struct {
	Addr    string      `json:"addr,omitempty"`
	Zone    string      `json:"zone,omitempty"`
	Network string      `json:"network,omitempty"` // unless it is TCP
	Cause   string      `json:"cause"`
	Start   float64     `json:"start"`
	Latency float64     `json:"latency"`
	Outcome string      `json:"outcome"`
	Status  int         `json:"status"`
	Flag    Flag        `json:"flag,omitempty"`
	Error   string      `json:"error,omitempty"`
	Retry   bool        `json:"retry,omitempty"`
	Unsent  bool        `json:"unsent,omitempty"`
	After   float64     `json:"after,omitempty"`
	Running bool        `json:"running,omitempty"`
	Budget  float64     `json:"budget"`
	Left    float64     `json:"left,omitempty"`
	Choice  *choiceJSON `json:"choice,omitempty"`
}

type choiceJSON struct {
	How       string           `json:"how"`
	Late      bool             `json:"late,omitempty"`
	Nodes     int32            `json:"nodes"`
	Removed   map[string]int32 `json:"removed,omitempty"`
	Compared  []candidateJSON  `json:"compared,omitempty"`
	Seen      uint8            `json:"seen,omitempty"`
	Level     uint8            `json:"level"`
	Levels    uint8            `json:"levels"`
	Panicking bool             `json:"panicking,omitempty"`
	Random    string           `json:"random,omitempty"`
	Draw      string           `json:"draw,omitempty"`
}

type candidateJSON struct {
	Addr     string  `json:"addr"`
	Zone     string  `json:"zone,omitempty"`
	Score    float64 `json:"score"`
	Cost     float64 `json:"cost,omitempty"`
	InFlight int32   `json:"inFlight"`
	Weight   uint32  `json:"weight"`
	Removed  string  `json:"removed,omitempty"`
	Picked   bool    `json:"picked,omitempty"`
}

type refusalJSON struct {
	Stage    Stage   `json:"stage"`
	Attempt  int8    `json:"attempt"`
	Enforced bool    `json:"enforced"`
	After    float64 `json:"after,omitempty"`
}

// MarshalJSON returns the record as JSON that pages, dumps and logs share: durations in milliseconds, levels between 0 and 1, random
// words in hexadecimal. What is empty is left out; -1 stands for what there is none of where 0 would mean something. Texts are
// valid UTF-8 and may come from anybody: escape them.
func (e *Explanation) MarshalJSON() ([]byte, error) {
	if e == nil {
		return []byte("null"), nil
	}
	j := explanationJSON{
		Service: e.Service, Host: e.Host, Instead: e.Instead, Mirror: e.Mirror, Protocol: e.Protocol, Method: e.Method,
		Criticality: e.Criticality.String(), Lane: e.Lane, Start: e.Start, Duration: milliseconds(e.Duration), Delayed: milliseconds(e.Delayed),
		Generation: e.Generation, Route: e.Route, Rule: e.Rule, Match: e.Match, Backend: e.Backend, Random: hexadecimal(e.Random), Sampled: e.Sampled,
		Status: e.Status, Outcome: e.Outcome.String(), Detail: e.Detail.String(), Reason: e.Reason, Flag: e.Flag, Error: e.Error,
		Attempts: e.Attempts, Budget: finite(e.Budget), Left: milliseconds(e.Left), Tries: make([]tryJSON, e.N),
	}
	for i := range j.Tries {
		j.Tries[i] = e.Tries[i].json()
	}
	for _, r := range e.Refusals[:e.NR] {
		j.Refusals = append(j.Refusals, refusalJSON{r.Stage, r.Attempt, r.Enforced, milliseconds(r.After)})
	}
	return json.Marshal(&j)
}

func (t *Try) json() tryJSON {
	j := tryJSON{
		Addr: t.Addr, Zone: t.Zone, Cause: t.Cause.String(), Start: milliseconds(t.Start), Latency: milliseconds(t.Latency),
		Outcome: t.Outcome.String(), Status: t.Status, Flag: t.Flag, Error: t.Error, Retry: t.Retry, Unsent: t.Unsent, After: milliseconds(t.After),
		Running: t.Running, Budget: finite(t.Budget), Left: milliseconds(t.Left),
	}
	if t.Network != NetworkTCP {
		j.Network = t.Network.String()
	}
	c := &t.Choice
	if c.Nodes == 0 && c.N == 0 {
		return j
	}
	j.Choice = &choiceJSON{
		How: howWords[c.How], Late: t.Late, Nodes: c.Nodes, Seen: c.Seen, Level: c.Level, Levels: c.Levels, Panicking: c.Panicking,
		Random: hexadecimal(c.Random), Draw: hexadecimal(c.Draw),
	}
	for r, n := range c.Removed {
		if n > 0 && r != int(loadbalance.NotRemoved) {
			if j.Choice.Removed == nil {
				j.Choice.Removed = map[string]int32{}
			}
			j.Choice.Removed[removalWords[r]] = n
		}
	}
	for _, n := range c.Compared[:c.N] {
		k := candidateJSON{Addr: n.Addr, Zone: n.Zone, Score: finite(n.Score), Cost: milliseconds(n.Cost), InFlight: n.InFlight, Weight: n.Weight, Picked: n.Picked}
		if n.Removed != loadbalance.NotRemoved {
			k.Removed = removalWords[n.Removed]
		}
		j.Choice.Compared = append(j.Choice.Compared, k)
	}
	return j
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// finite returns what JSON can hold.
func finite(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return -1
	}
	return f
}

func hexadecimal(r uint64) string {
	if r == 0 {
		return ""
	}
	s := strconv.FormatUint(r, 16)
	return strings.Repeat("0", 16-len(s)) + s
}

// howWords and removalWords are stable, as JSON and labels have them.
var howWords = [...]string{
	loadbalance.HowNone: "none", loadbalance.HowCompared: "compared", loadbalance.HowDrawn: "drawn", loadbalance.HowHashed: "hashed",
	loadbalance.HowBound: "bound", loadbalance.HowProbe: "probe", loadbalance.HowElsewhere: "elsewhere", loadbalance.HowLastResort: "last resort",
}

var removalWords = [loadbalance.Removals]string{
	loadbalance.NotRemoved: "usable", loadbalance.LeftOut: "left out", loadbalance.NotSelected: "not selected", loadbalance.NotConnected: "not connected",
	loadbalance.NotHealthy: "not healthy", loadbalance.OtherLevel: "other level", loadbalance.OutEjected: "ejected", loadbalance.OutFailing: "failing checks",
	loadbalance.OutByHand: "taken out", loadbalance.BreakerRejects: "breaker open", loadbalance.AtLimit: "at limit", loadbalance.Tried: "tried",
	loadbalance.UnderPenalty: "under penalty", loadbalance.Busiest: "busiest", loadbalance.WarmingUp: "warming up",
}
