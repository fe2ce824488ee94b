package incident

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// Scores: what is done to a mesh and explains how calls fail comes before what the endpoints do, which always explains something; what
// explains nothing comes after.
const (
	explains    = 0.95
	mayExplain  = 0.7
	symptom     = 0.6
	weakSymptom = 0.5
	unlikely    = 0.1
	enoughShare = 0.3 // of the failed calls that a cause has to explain
)

// near lowers a score for what happened long before.
func near(d time.Duration) float64 { return math.Exp(-max(d, 0).Seconds() / 90) }

// acts returns what somebody has done before a burst: an operator, the author of a spec, the registry.
func (h *history) acts(t *Timeline, p *profile, b burst) (list []suspect) {
	from, to := p.start.Add(-lookBack), time.Unix(b.from+1, 0).Add(slack) // the burst may begin late in its first second
	for i := range t.Events {
		e := &t.Events[i]
		if e.Time.Before(from) || e.Time.After(to) {
			continue
		}
		s := suspect{event: e, evidence: []string{"at " + stamp(e.Time) + ": " + e.Words()}}
		switch {
		case e.Kind == "operator" && (e.Service == h.service || e.Service == ""):
			s.kind, s.addr, s.score = CauseOperator, e.Addr, operated(e, p)
			s.words = "an operator: " + strings.TrimSpace(e.Cause+" "+e.Addr)
			if e.Addr != "" && e.Endpoints > 0 {
				s.words += fmt.Sprintf(", with that %d of %d endpoints are out", e.Out, e.Endpoints)
			}
		case e.Kind == KindUpdated:
			s.kind, s.score = CauseSpec, updatedBy(e, h.service, p)
			s.words = "an update of the spec: " + strings.Join(e.Fields, "; ")
		case e.Kind == KindClosed:
			s.kind, s.score, s.words = CauseOperator, unlikely, "the mesh was closed"
		default:
			continue
		}
		s.score *= near(p.start.Sub(e.Time))
		list = append(list, s)
	}
	return append(list, h.registry(t, p, from, to)...)
}

func operated(e *Event, p *profile) float64 {
	switch {
	case strings.HasPrefix(e.Cause, "eject"), strings.HasPrefix(e.Cause, "drain"):
		switch {
		case p.share(noEndpoint...) >= enoughShare:
			return explains
		case 2*e.Out < e.Endpoints: // the others can do without it
		case p.share(atLimits...)+p.share(byTime...) >= enoughShare, 2*p.sum.Attempts[FailedOverload] > p.sum.Failed(): // they have too much to do
			return mayExplain
		}
	case strings.HasPrefix(e.Cause, "force"):
		if p.share("UO", "UH") >= enoughShare {
			return explains
		}
	case strings.HasPrefix(e.Cause, "pause"):
		// Attempts fail as often as before, but now that is felt.
		if p.before.Failed() > 0 && failing(&p.sum) < 2*failing(&p.before)+0.02 {
			return explains
		}
	}
	return unlikely
}

// failing is the share of attempts that failed.
func failing(s *Second) float64 {
	return float64(s.Failed()) / float64(max(s.Calls+s.Retries+s.Backups, 1))
}

// fieldFlags says which flags a change of a field explains. The first that fits counts.
var fieldFlags = []struct {
	word  string
	flags []string
}{
	{"fault", []string{"FI", "DI", "DT", "UT"}},
	{"ratelimit", []string{"RL", "DT"}},
	{"endpointlimit", []string{"UO"}},
	{"throttle", []string{"OM"}},
	{"breaker", []string{"UO"}},
	{"limit", []string{"UO", "RL"}},
	{"timeout", []string{"UT", "DT", "UF", "URX"}},
	{"retry.attempts", []string{"URX", "UT", "UR", "UC", "UF", "US"}},
	{"retry.mode", []string{"URX", "UT", "UR", "UC", "UF", "US"}},
	{"budget", []string{"URX", "UT", "UR", "UC", "UF", "US"}},
	{"backup", []string{"UT", "DT", "URX"}},
	{"connect", []string{"UF"}},
	{"backends", []string{"NR", "NC", "UH", "UF", "US", "URX", "UT"}},
	{"response", []string{"US", "FI", "-"}},
	{"match", []string{"NR", "NC", "UH", "US"}},
	{"routes", []string{"NR", "NC", "UH", "FI", "DI", "US"}},
	{"subset", []string{"UH", "UO"}},
	{"locality", []string{"UH", "UO"}},
	{"outlier", []string{"UH", "UF", "US", "URX"}},
	{"healthcheck", []string{"UH"}},
	{"lane", []string{"UH"}},
	{"balance", []string{"UH", "UO"}},
}

// updatedBy says how well an update explains how calls to a service fail.
func updatedBy(e *Event, service string, p *profile) float64 {
	best := unlikely
	for _, f := range e.Fields {
		path, _, _ := strings.Cut(f, ": ")
		path = strings.ToLower(path)
		if of, ok := strings.CutPrefix(path, "services."); ok && of != service && !strings.HasPrefix(of, strings.ToLower(service)+".") {
			continue // of another service
		}
		for _, x := range fieldFlags {
			if !strings.Contains(path, x.word) {
				continue
			}
			switch share := p.share(x.flags...); {
			case share >= enoughShare && (strings.HasPrefix(x.word, "retry") || x.word == "budget" || x.word == "outlier") && failing(&p.sum) > 2*failing(&p.before)+0.02:
				best = max(best, 0.4) // endpoints got worse, and that is no update's doing
			case share >= enoughShare:
				best = max(best, explains)
			}
			break
		}
	}
	return best
}

// registry looks for sets of endpoints that got smaller, and for the first sign of that.
func (h *history) registry(t *Timeline, p *profile, from, to time.Time) (list []suspect) {
	last := make([]int, len(t.Sources)) // endpoints
	first := make([]*Event, len(t.Sources))
	for _, e := range h.events {
		if e.Kind != KindDiscovery {
			continue
		}
		before := last[e.Source]
		last[e.Source] = e.Endpoints
		if e.Cause == discovery.EventConfirmed.String() {
			first[e.Source] = nil
		}
		if e.Time.Before(from) || e.Time.After(to) {
			continue
		}
		lost := e.Endpoints < before || e.Cause == discovery.EventEnded.String()
		if first[e.Source] == nil && (lost || e.Out > 0 || e.Text != "") {
			first[e.Source] = e
		}
		none := p.share(noEndpoint...) >= enoughShare
		s := suspect{kind: CauseRegistry, event: first[e.Source], score: unlikely}
		switch {
		case none && (e.Endpoints == 0 || e.Endpoints < before):
			s.score = explains
		case lost && 2*e.Endpoints <= before && p.share(atLimits...)+p.share(byTime...) >= enoughShare:
			s.score = mayExplain
		}
		if s.event == nil {
			s.event = e
		}
		s.score *= near(p.start.Sub(e.Time))
		s.words = fmt.Sprintf("the registry: %d endpoints instead of %d", e.Endpoints, before)
		s.evidence = []string{"at " + stamp(s.event.Time) + ": " + s.event.Words()}
		if s.event != e {
			s.evidence = append(s.evidence, "at "+stamp(e.Time)+": "+e.Words())
		}
		list = append(list, s)
	}
	return list
}

// symptoms returns what the endpoints or the load are to blame for.
func (h *history) symptoms(p *profile) (list []suspect) {
	var evidence []string
	for _, e := range h.events { // the first steps that the mesh has taken
		if (e.Kind == "ejected" || e.Kind == "breaker_opened" || e.Kind == KindHealthFailing) && !e.Time.Before(p.start.Add(-slack)) && len(evidence) < 3 &&
			e.Time.Before(p.start.Add(30*time.Second)) {
			evidence = append(evidence, "at "+stamp(e.Time)+": "+e.Words())
		}
	}
	rate, before := p.rates()
	rose := before > 0 && rate > 1.4*before
	load := fmt.Sprintf("%.0f calls/s, %.0f before", rate, before)
	refused := float64(p.sum.Refused) > 0.2*float64(p.sum.Bad)
	main := p.mainFailure()
	failed := float64(p.sum.Failed())
	switch over := float64(p.sum.Attempts[FailedOverload]); {
	case (refused || over > failed/2) && rose:
		list = append(list, suspect{kind: CauseLoad, score: mayExplain, words: "more calls than are let through: " + load, evidence: evidence})
	case over > failed/2 && over > 0:
		list = append(list, suspect{kind: CauseService, score: symptom, words: "the endpoints say that they have too much to do: " + load, event: p.first, evidence: evidence})
	case refused && failed < float64(p.sum.Bad)/2:
		list = append(list, suspect{kind: CauseLoad, score: weakSymptom, words: "limits of the client refuse calls: " + load, evidence: evidence})
	}
	if failed > 0.2*float64(p.sum.Bad) && main != FailedOverload {
		s := suspect{kind: CauseService, score: symptom, event: p.first, evidence: evidence}
		addrs := p.culprits()
		s.words = fmt.Sprintf("the endpoints: %s", main)
		switch {
		case len(addrs) == 1 && p.nodes != 1:
			s.kind, s.addr, s.words = CauseEndpoint, addrs[0], fmt.Sprintf("endpoint %s: %s", addrs[0], main)
		case len(addrs) > 0 && p.nodes > 0 && 2*len(addrs) < p.nodes:
			s.kind, s.addr = CauseEndpoint, addrs[0]
			s.words = fmt.Sprintf("%d of %d endpoints, first %s: %s", len(addrs), p.nodes, addrs[0], main)
		}
		if p.first != nil {
			s.evidence = append([]string{"at " + stamp(p.first.Time) + ": " + p.first.Words()}, evidence...)
		}
		list = append(list, s)
	}
	if p.share(byTime...) >= enoughShare {
		list = append(list, suspect{kind: CauseService, score: weakSymptom, words: "the service takes too long", evidence: evidence})
	}
	return list
}

// rates returns calls per second in the beginning of the burst and before it. Refused attempts of before a retry are no calls.
func (p *profile) rates() (now, before float64) {
	return float64(p.sum.Calls) / float64(max(p.seconds, 1)), float64(p.before.Calls) / float64(max(p.secondsBefore, 1))
}

// culprits returns the endpoints at which most attempts failed, the worst first.
func (p *profile) culprits() (addrs []string) {
	most := 0
	for _, n := range p.tried {
		most = max(most, n)
	}
	for addr, n := range p.tried {
		if addr != "" && 12*n >= most {
			addrs = append(addrs, addr)
		}
	}
	slices.SortFunc(addrs, func(a, b string) int {
		if p.tried[a] != p.tried[b] {
			return p.tried[b] - p.tried[a]
		}
		return strings.Compare(a, b)
	})
	return addrs
}
