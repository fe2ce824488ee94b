//lint:file-ignore SA1019 manifests still have the deprecated fields

package istio

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"istio.io/api/networking/v1alpha3"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
)

func (im *importer) destinationRule(d *importing.Document, r *v1alpha3.DestinationRule) {
	host := importing.Take(&r.Host)
	if host == "" || strings.HasPrefix(host, "*") {
		im.Lose("spec", importing.Refused, "host %q names no service that could have a policy", host)
		proto.Reset(r)
		return
	}
	if s := importing.Take(&r.WorkloadSelector); s != nil {
		labels := s.GetMatchLabels()
		for _, k := range slices.Sorted(maps.Keys(labels)) {
			if v, ok := im.Options.Labels[k]; !ok || v != labels[k] {
				im.Lose("spec", importing.Refused, "is for callers with %s=%s, which the process is not known to have", k, labels[k])
				proto.Reset(r)
				return
			}
			im.Lose("spec.workloadSelector", importing.Ignored, "the process has %s=%s", k, labels[k])
		}
	}
	service := im.Service(importing.HostRef(host, d.Namespace, false), 0)
	for i, s := range r.Subsets {
		path := at("spec.subsets", i)
		key := subsetKey{service, importing.Take(&s.Name)}
		labels := importing.Take(&s.Labels)
		if im.subsets[key] != nil {
			im.Lose(path, importing.Refused, "%s has a subset %q already", service, key.subset)
			continue
		}
		im.subsets[key] = &subset{doc: d, path: path, labels: labels}
	}
	p, there := im.spec.Services[service]
	before := p
	im.trafficPolicy("spec.trafficPolicy", r.TrafficPolicy, &p)
	switch {
	case there && r.TrafficPolicy != nil:
		im.Lose("spec.trafficPolicy", importing.Refused, "another DestinationRule is for %s, too", service)
		p = before
	case im.spec.Services == nil:
		im.spec.Services = map[string]zerohop.Policy{}
	}
	im.spec.Services[service] = p
}

func (im *importer) trafficPolicy(at string, t *v1alpha3.TrafficPolicy, p *zerohop.Policy) {
	if t == nil {
		return
	}
	im.loadBalancer(at+".loadBalancer", t.LoadBalancer, p)
	im.connectionPool(at+".connectionPool", t.ConnectionPool, p)
	im.outlierDetection(at+".outlierDetection", t.OutlierDetection, p)
	if tls := t.Tls; tls.GetSni() != "" {
		sni := importing.Take(&tls.Sni)
		im.try(at+".tls.sni", p, func(p *zerohop.Policy) { p.Connect.ServerName = sni })
	}
	if b := importing.Take(&t.RetryBudget); b != nil {
		im.try(at+".retryBudget", p, func(p *zerohop.Policy) {
			p.Budget = zerohop.Budget{Mode: zerohop.On, Kind: "concurrent", Ratio: b.GetPercent().GetValue() / 100, Floor: float64(b.MinRetryConcurrency)}
		})
		if b.Percent == nil {
			im.Lose(at+".retryBudget", importing.Approximated, "without a percentage it is that of zerohop, a fifth")
		}
		if b.BudgetInterval != nil {
			im.Lose(at+".retryBudget.budgetInterval", importing.Ignored, "what is in flight counts")
		}
	}
}

// maxEjection is the longest ejection of Envoy.
const maxEjection = 300 * time.Second

// balances are the algorithms by their names in Istio.
var balances = map[v1alpha3.LoadBalancerSettings_SimpleLB]string{
	v1alpha3.LoadBalancerSettings_LEAST_CONN:    "least-request",
	v1alpha3.LoadBalancerSettings_LEAST_REQUEST: "least-request",
	v1alpha3.LoadBalancerSettings_RANDOM:        "random",
	v1alpha3.LoadBalancerSettings_ROUND_ROBIN:   "weighted-round-robin",
}

func (im *importer) loadBalancer(at string, lb *v1alpha3.LoadBalancerSettings, p *zerohop.Policy) {
	if lb == nil {
		return
	}
	switch t := importing.Take(&lb.LbPolicy).(type) {
	case *v1alpha3.LoadBalancerSettings_Simple:
		p.Balance = balances[t.Simple]
		if p.Balance == "" {
			im.Lose(at+".simple", importing.Ignored, "%v is no algorithm of zerohop, which keeps its own", t.Simple)
		}
		if t.Simple == v1alpha3.LoadBalancerSettings_ROUND_ROBIN {
			im.Lose(at+".simple", importing.Approximated, "ROUND_ROBIN looks at what endpoints report of their load, too")
		}
	case *v1alpha3.LoadBalancerSettings_ConsistentHash:
		im.consistentHash(at+".consistentHash", t.ConsistentHash, p)
	}
	if l := lb.LocalityLbSetting; l.GetEnabled() != nil {
		p.Locality.Mode = onOff(importing.Take(&l.Enabled).Value)
	}
	if z := lb.ZoneAwareLbSetting; z.GetEnabled() != nil {
		mode := onOff(importing.Take(&z.Enabled).Value)
		if p.Locality.Mode == "" {
			p.Locality.Mode = mode
		} else {
			im.Lose(at+".zoneAwareLbSetting.enabled", importing.Ignored, "localityLbSetting.enabled counts")
		}
	}
	if d := importing.Take(&lb.WarmupDurationSecs); d != nil {
		p.SlowStart = zerohop.SlowStart{Mode: zerohop.On, Window: im.duration(at+".warmupDurationSecs", d)}
	}
	if w := importing.Take(&lb.Warmup); w != nil {
		im.try(at+".warmup", p, func(p *zerohop.Policy) {
			p.SlowStart = zerohop.SlowStart{
				Mode: zerohop.On, Window: im.duration(at+".warmup.duration", w.Duration),
				Min: w.GetMinimumPercent().GetValue() / 100, Aggression: w.GetAggression().GetValue(),
			}
		})
	}
}

func onOff(on bool) zerohop.Switch {
	if on {
		return zerohop.On
	}
	return zerohop.Off
}

func (im *importer) consistentHash(at string, h *v1alpha3.LoadBalancerSettings_ConsistentHashLB, p *zerohop.Policy) {
	p.Balance = "ring-hash"
	size := importing.Take(&h.MinimumRingSize)
	switch t := importing.Take(&h.HashAlgorithm).(type) {
	case *v1alpha3.LoadBalancerSettings_ConsistentHashLB_RingHash_:
		size = max(size, t.RingHash.GetMinimumRingSize())
	case *v1alpha3.LoadBalancerSettings_ConsistentHashLB_Maglev:
		p.Balance = "maglev"
		im.try(at+".maglev.tableSize", p, func(p *zerohop.Policy) { p.Hashing.Table = int(min(t.Maglev.GetTableSize(), 1<<31)) })
		if size > 0 {
			im.Lose(at+".minimumRingSize", importing.Ignored, "maglev has no ring")
			size = 0
		}
	}
	im.try(at+".minimumRingSize", p, func(p *zerohop.Policy) { p.Hashing.MinRing = int(min(size, 1<<31)) })
	switch t := importing.Take(&h.HashKey).(type) {
	case *v1alpha3.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		im.try(at+".httpHeaderName", p, func(p *zerohop.Policy) { p.Hash = []zerohop.HashSource{{Header: t.HttpHeaderName}} })
	case *v1alpha3.LoadBalancerSettings_ConsistentHashLB_HttpCookie:
		im.try(at+".httpCookie.name", p, func(p *zerohop.Policy) {
			p.Hash = []zerohop.HashSource{{Cookie: t.HttpCookie.GetName()}}
		})
		t.HttpCookie.Name = ""
		im.rest(t.HttpCookie.ProtoReflect(), at+".httpCookie", why)
	case *v1alpha3.LoadBalancerSettings_ConsistentHashLB_UseSourceIp:
		if t.UseSourceIp {
			p.Hash = []zerohop.HashSource{{Client: true}}
		}
	case *v1alpha3.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		im.try(at+".httpQueryParameterName", p, func(p *zerohop.Policy) { p.Hash = []zerohop.HashSource{{Query: t.HttpQueryParameterName}} })
	default:
		im.Lose(at, importing.Refused, "there is no key")
	}
	im.rest(h.ProtoReflect(), at, why)
}

func (im *importer) connectionPool(at string, c *v1alpha3.ConnectionPoolSettings, p *zerohop.Policy) {
	if t := c.GetTcp(); t != nil {
		if d := importing.Take(&t.ConnectTimeout); d != nil {
			p.Connect.Timeout = im.duration(at+".tcp.connectTimeout", d)
		}
		if d := importing.Take(&t.MaxConnectionDuration); d != nil {
			p.Connect.MaxAge = im.duration(at+".tcp.maxConnectionDuration", d)
		}
	}
	h := c.GetHttp()
	if h == nil {
		return
	}
	if n := int(importing.Take(&h.Http2MaxRequests)); n > 0 {
		im.try(at+".http.http2MaxRequests", p, func(p *zerohop.Policy) { p.Limit = zerohop.Limit{Mode: zerohop.On, Max: n} })
		im.Lose(at+".http.http2MaxRequests", importing.Approximated, "bounds the calls of the process to the service, be they %d HTTP/1 or HTTP/2", n)
	}
	if n := importing.Take(&h.MaxRetries); n > 0 {
		im.try(at+".http.maxRetries", p, func(p *zerohop.Policy) {
			p.Budget = zerohop.Budget{Mode: zerohop.On, Kind: "concurrent", Floor: float64(n)}
		})
		im.Lose(at+".http.maxRetries", importing.Approximated, "beyond %d a fifth of what is in flight may be retries", n)
	}
}

func (im *importer) outlierDetection(at string, o *v1alpha3.OutlierDetection, p *zerohop.Policy) {
	if o == nil {
		return
	}
	p.Outlier.Mode = zerohop.On
	p.Outlier.Linear = zerohop.On // the nth ejection is n times as long
	consecutive := func(field string, n int) {
		if p.Outlier.Consecutive != 0 {
			im.Lose(at+"."+field, importing.Ignored, "%d: another number of failures in a row counts", n)
			return
		}
		if n == 0 {
			n = -1
		}
		im.try(at+"."+field, p, func(p *zerohop.Policy) { p.Outlier.Consecutive = n })
	}
	if v := importing.Take(&o.Consecutive_5XxErrors); v != nil {
		consecutive("consecutive5xxErrors", int(v.Value))
	}
	if v := importing.Take(&o.ConsecutiveGatewayErrors); v != nil {
		if v.Value != 0 && p.Outlier.Consecutive == 0 {
			im.Lose(at+".consecutiveGatewayErrors", importing.Approximated, "500 counts as a failure, too")
		}
		consecutive("consecutiveGatewayErrors", int(v.Value))
	}
	if n := importing.Take(&o.ConsecutiveErrors); n != 0 {
		consecutive("consecutiveErrors", int(n))
	}
	if d := importing.Take(&o.Interval); d != nil {
		window := im.duration(at+".interval", d)
		im.try(at+".interval", p, func(p *zerohop.Policy) { p.Outlier.Window = window })
	}
	if d := importing.Take(&o.BaseEjectionTime); d != nil {
		ejection := im.duration(at+".baseEjectionTime", d)
		im.try(at+".baseEjectionTime", p, func(p *zerohop.Policy) {
			p.Outlier.Ejection = ejection
			p.Outlier.MaxEjection = max(ejection, maxEjection)
		})
	}
	if n := importing.Take(&o.MaxEjectionPercent); n != 0 {
		im.try(at+".maxEjectionPercent", p, func(p *zerohop.Policy) { p.Outlier.MaxEjected = float64(n) / 100 })
	}
	if n := importing.Take(&o.MinHealthPercent); n != 0 {
		im.try(at+".minHealthPercent", p, func(p *zerohop.Policy) { p.Panic = float64(n) / 100 })
	}
	// What is not set has the default of Istio, and what Istio does not have is off.
	d := istioDefaults.Outlier
	p.Outlier.FailureRatio, p.Outlier.Jitter, p.Outlier.Absolute, p.Outlier.One = d.FailureRatio, d.Jitter, d.Absolute, d.One
	p.Outlier.Consecutive = cmp.Or(p.Outlier.Consecutive, d.Consecutive)
	p.Outlier.Window = cmp.Or(p.Outlier.Window, d.Window)
	p.Outlier.MaxEjected = cmp.Or(p.Outlier.MaxEjected, d.MaxEjected)
	if p.Outlier.Ejection == 0 {
		p.Outlier.Ejection, p.Outlier.MaxEjection = d.Ejection, d.MaxEjection
	}
}

// istioDefaults is the policy that Istio has where nothing is said.
var istioDefaults = zerohop.Spec{Defaults: zerohop.Policy{Preset: zerohop.PresetIstio}}.Effective("", "")
