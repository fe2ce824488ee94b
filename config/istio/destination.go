//lint:file-ignore SA1019 manifests still have the deprecated fields

package istio

import (
	"cmp"
	"maps"
	"slices"

	"istio.io/api/networking/v1alpha3"

	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/routing"
)

// subsetKey names a subset of a service.
type subsetKey struct{ service, subset string }

// subset is a part of a service that a DestinationRule names.
type subset struct {
	doc    *importing.Document
	path   string
	labels map[string]string
	used   bool
}

// destination returns the service and the metadata of endpoints that a destination stands for, and false if there is no such thing.
func (im *importer) destination(d *importing.Document, at string, to *v1alpha3.Destination) (service string, labels map[string]string, ok bool) {
	if to.GetHost() == "" {
		im.Lose(at+".host", importing.Refused, "is empty: the share of the destination is answered with 500")
		return "", nil, false
	}
	service = im.Service(importing.HostRef(to.Host, d.Namespace, false), int(to.GetPort().GetNumber()))
	if to.Subset == "" {
		return service, nil, true
	}
	s := im.subsets[subsetKey{service, to.Subset}]
	if s == nil {
		im.Lose(at+".subset", importing.Refused, "no DestinationRule has subset %q of %s: its share is answered with 500", to.Subset, service)
		return "", nil, false
	}
	s.used = true
	return service, s.labels, true
}

// unused reports the subsets that no route leads to.
func (im *importer) unused() {
	for _, k := range slices.SortedFunc(maps.Keys(im.subsets), func(a, b subsetKey) int {
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.subset, b.subset))
	}) {
		s := im.subsets[k]
		im.Begin(s.doc)
		if s.used {
			im.Lose(s.path+".labels", importing.Approximated, "endpoints of %s need the metadata %v, which labels of pods are not by themselves", k.service, s.labels)
		} else {
			im.Lose(s.path, importing.Ignored, "no route leads to it")
		}
	}
}

// destinations sets where the calls of a rule go. The share of what cannot be called is answered with 500.
func (im *importer) destinations(d *importing.Document, b *draft, list []*v1alpha3.HTTPRouteDestination, response *routing.Headers) {
	var good, bad uint64
	for i, r := range list {
		at := at(b.at+".route", i)
		weight := uint64(max(0, r.GetWeight()))
		if len(list) == 1 {
			weight = 1
		}
		service, labels, ok := im.destination(d, at+".destination", r.GetDestination())
		if !ok {
			bad += weight
			continue
		}
		good += weight
		to := routing.Backend{Service: service, Weight: uint32(weight), Select: labels}
		if len(list) == 1 {
			im.headers(at+".headers", r.Headers, &b.rule.Rewrite.Request, &b.rule.Rewrite.Response)
		} else {
			im.headers(at+".headers", r.Headers, &to.Headers, response)
			if h := r.GetHeaders().GetResponse(); h != nil {
				im.Lose(at+".headers.response", importing.Refused, "headers of the response belong to a route, not to one of several destinations: they stay as they are")
			}
		}
		b.rule.Backends = append(b.rule.Backends, to)
	}
	switch {
	case len(list) == 0:
	case good == 0:
		b.rule.Response = importing.Failure()
	case bad > 0:
		share := 100 * float64(bad) / float64(good+bad)
		if b.rule.Fault.Abort != 0 {
			im.Lose(b.at+".fault.abort", importing.Refused, "the share of destinations that there are not is answered with 500 instead")
		}
		b.rule.Fault.Abort, b.rule.Fault.AbortCode, b.rule.Fault.AbortPercent = 500, 14, &share
	}
}

func (im *importer) mirrors(d *importing.Document, b *draft, r *v1alpha3.HTTPRoute) {
	add := func(at string, to *v1alpha3.Destination, percent *float64) {
		service, labels, ok := im.destination(d, at, to)
		if !ok {
			return
		}
		im.Lose(at, importing.Approximated, "copies have no Authorization and no Cookie, and requests of more than 64 KiB are not copied")
		b.rule.Mirrors = append(b.rule.Mirrors, routing.Mirror{Service: service, Select: labels, Percent: percent})
	}
	old, exact := importing.Take(&r.MirrorPercent), importing.Take(&r.MirrorPercentage)
	if to := importing.Take(&r.Mirror); to != nil {
		var percent *float64
		switch {
		case exact != nil:
			percent = &exact.Value
		case old != nil:
			percent = new(float64(old.Value))
		}
		if exact != nil && old != nil {
			im.Lose(b.at+".mirrorPercent", importing.Ignored, "mirrorPercentage counts")
		}
		add(b.at+".mirror", to, percent)
	} else if old != nil || exact != nil {
		im.Lose(b.at+".mirrorPercentage", importing.Ignored, "there is no mirror")
	}
	for i, m := range importing.Take(&r.Mirrors) {
		var percent *float64
		if m.GetPercentage() != nil {
			percent = &m.Percentage.Value
		}
		add(at(b.at+".mirrors", i)+".destination", m.GetDestination(), percent)
	}
}
