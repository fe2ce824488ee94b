package serviceconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
)

// balancing sets the algorithm, and reports whether it is known. What is not known is left for the next of a list, as in gRPC.
func (im *importer) balancing(at string, choice map[string]json.RawMessage, p *zerohop.Policy) bool {
	if len(choice) != 1 {
		im.Fail(at, "must name one policy, got %d", len(choice))
		return true
	}
	for name, raw := range choice {
		at := importing.Join(at, name)
		switch name {
		case "round_robin":
			im.object(at, raw, &struct{}{})
			p.Balance = "weighted-round-robin"
			im.Lose(at, importing.Approximated, "weighted-round-robin looks at what endpoints report of their load, too")
		case "pick_first":
			im.Lose(at, importing.Approximated, "zerohop keeps its own algorithm over all endpoints: one alone would get all calls")
		case "weighted_round_robin":
			p.Balance = "weighted-round-robin"
			if len(raw) > 2 {
				im.Lose(at, importing.Ignored, "weighted-round-robin has its own parameters")
			}
		case "least_request_experimental":
			var c least
			im.object(at, raw, &c)
			p.Balance = "least-request"
			im.try(at+".choiceCount", p, func(p *zerohop.Policy) { p.LeastRequest.Choices = c.ChoiceCount })
		case "ring_hash_experimental":
			var c ring
			im.object(at, raw, &c)
			p.Balance = "ring-hash"
			im.try(at+".minRingSize", p, func(p *zerohop.Policy) { p.Hashing.MinRing = whole(c.MinRingSize) })
			im.try(at+".maxRingSize", p, func(p *zerohop.Policy) { p.Hashing.MaxRing = whole(c.MaxRingSize) })
			if c.RequestHashHeader != "" {
				im.try(at+".requestHashHeader", p, func(p *zerohop.Policy) { p.Hash = []zerohop.HashSource{{Header: c.RequestHashHeader}} })
			} else {
				im.Lose(at, importing.Approximated, "the key of a call is that of CallOptions.HashKey")
			}
		case "outlier_detection_experimental":
			var c outlier
			im.object(at, raw, &c)
			im.outlier(at, &c, p)
			im.Rest(c, at, importing.Why{})
		default:
			return false
		}
	}
	return true
}

// object decodes the configuration of a policy.
func (im *importer) object(at string, raw json.RawMessage, into any) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		im.Fail(at, "%v", err)
	}
}

func whole(n *json.Number) int {
	if n == nil {
		return 0
	}
	i, err := strconv.ParseInt(n.String(), 10, 32)
	if err != nil {
		return -1 // which no field takes
	}
	return int(i)
}

func (im *importer) outlier(at string, c *outlier, p *zerohop.Policy) {
	child := importing.Take(&c.ChildPolicy)
	for i := range child {
		if im.balancing(fmt.Sprintf("%s.childPolicy[%d]", at, i), child[i], p) {
			for j := range child[i+1:] {
				im.Lose(fmt.Sprintf("%s.childPolicy[%d]", at, i+1+j), importing.Ignored, "the first policy of the list that is known counts")
			}
			break
		}
		im.Lose(fmt.Sprintf("%s.childPolicy[%d]", at, i), importing.Ignored, "the policy is not known")
	}
	window := im.duration(at+".interval", importing.Take(&c.Interval))
	ejection := im.duration(at+".baseEjectionTime", importing.Take(&c.BaseEjectionTime))
	longest := im.duration(at+".maxEjectionTime", importing.Take(&c.MaxEjectionTime))
	p.Outlier.Mode = zerohop.On
	p.Outlier.Linear = zerohop.On
	p.Outlier.Consecutive = -1
	p.Outlier.FailureRatio = -1
	im.try(at+".interval", p, func(p *zerohop.Policy) { p.Outlier.Window = window })
	im.try(at+".maxEjectionTime", p, func(p *zerohop.Policy) { p.Outlier.MaxEjection = max(longest, ejection) })
	im.try(at+".baseEjectionTime", p, func(p *zerohop.Policy) { p.Outlier.Ejection = ejection })
	if v := importing.Take(&c.MaxEjectionPercent); v != nil {
		im.try(at+".maxEjectionPercent", p, func(p *zerohop.Policy) { p.Outlier.MaxEjected = *v / 100 })
	}
	if s := c.SuccessRateEjection; s != nil {
		at := at + ".successRateEjection"
		factor, hosts, volume := importing.Take(&s.StdevFactor), importing.Take(&s.MinimumHosts), importing.Take(&s.RequestVolume)
		im.try(at+".stdevFactor", p, func(p *zerohop.Policy) { p.Outlier.Deviations = value(factor, 1900) / 1000 })
		im.try(at+".minimumHosts", p, func(p *zerohop.Policy) { p.Outlier.MinHosts = value(hosts, 5) })
		im.try(at+".requestVolume", p, func(p *zerohop.Policy) { p.Outlier.MinVolume = value(volume, 100) })
	}
	if f := c.FailurePercentageEjection; f != nil {
		at := at + ".failurePercentageEjection"
		threshold, volume := importing.Take(&f.Threshold), importing.Take(&f.RequestVolume)
		im.try(at+".threshold", p, func(p *zerohop.Policy) { p.Outlier.FailureRatio = value(threshold, 85) / 100 })
		im.try(at+".requestVolume", p, func(p *zerohop.Policy) { p.Outlier.MinResponses = value(volume, 50) })
	}
}

func value[T any](p *T, unset T) T {
	if p == nil {
		return unset
	}
	return *p
}
