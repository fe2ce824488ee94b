package istio

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/zerohop/zerohop/config/importing"
)

// why says why fields mean nothing to a client.
var why = importing.Why{
	"spec.exportTo":                        {Severity: importing.Ignored, Note: "who may see it is not decided here: the process has it"},
	"spec.tcp":                             {Severity: importing.Ignored, Note: "zerohop carries calls, not connections"},
	"spec.tls":                             {Severity: importing.Ignored, Note: "zerohop carries calls, not connections"},
	"spec.http[].corsPolicy":               {Severity: importing.Ignored, Note: "CORS is between a browser and a gateway"},
	"spec.http[].match[].name":             {Severity: importing.Ignored, Note: "is for access logs"},
	"spec.http[].match[].statPrefix":       {Severity: importing.Ignored, Note: "metrics have the name of the rule"},
	"spec.trafficPolicy.tls":               {Severity: importing.Ignored, Note: "TLS is set up in the transport that the process is given"},
	"spec.trafficPolicy.tunnel":            {Severity: importing.Refused, Note: "there are no tunnels"},
	"spec.trafficPolicy.proxyProtocol":     {Severity: importing.Refused, Note: "zerohop does not speak the PROXY protocol"},
	"spec.trafficPolicy.portLevelSettings": {Severity: importing.Refused, Note: "a service has one port, and the policy of the service"},
	"spec.subsets[].trafficPolicy":         {Severity: importing.Refused, Note: "subsets have the policy of the service"},
	"spec.trafficPolicy.loadBalancer.localityLbSetting.distribute":         {Severity: importing.Ignored, Note: "zones are left when they are overloaded, not by fixed shares"},
	"spec.trafficPolicy.loadBalancer.localityLbSetting.failover":           {Severity: importing.Ignored, Note: "calls leave the zone for any other; see discovery.Failover for levels"},
	"spec.trafficPolicy.loadBalancer.localityLbSetting.failoverPriority":   {Severity: importing.Ignored, Note: "calls leave the zone for any other; see discovery.Failover for levels"},
	"spec.trafficPolicy.loadBalancer.zoneAwareLbSetting.failover":          {Severity: importing.Ignored, Note: "calls leave the zone for any other; see discovery.Failover for levels"},
	"spec.trafficPolicy.loadBalancer.zoneAwareLbSetting.failoverPriority":  {Severity: importing.Ignored, Note: "calls leave the zone for any other; see discovery.Failover for levels"},
	"spec.trafficPolicy.connectionPool.tcp.tcpKeepalive":                   {Severity: importing.Ignored, Note: "is set up in the dialer that the process is given"},
	"spec.trafficPolicy.connectionPool.http.http2KeepAlive":                {Severity: importing.Ignored, Note: "is set up in the transport that the process is given"},
	"spec.trafficPolicy.connectionPool.http.idleTimeout":                   {Severity: importing.Ignored, Note: "is set up in the transport that the process is given"},
	"spec.trafficPolicy.connectionPool.tcp.idleTimeout":                    {Severity: importing.Ignored, Note: "is set up in the transport that the process is given"},
	"spec.trafficPolicy.connectionPool.tcp.maxConnections":                 {Severity: importing.Ignored, Note: "is set up in the transport that the process is given"},
	"spec.trafficPolicy.outlierDetection.splitExternalLocalOriginErrors":   {Severity: importing.Ignored, Note: "all failures count"},
	"spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures":   {Severity: importing.Ignored, Note: "all failures count"},
	"spec.trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes":   {Severity: importing.Ignored, Note: "what a failure is, Config.Classify can say"},
	"spec.http[].retries.retryRemoteLocalities":                            {Severity: importing.Ignored, Note: "retries leave the zone when its endpoints were tried"},
	"spec.http[].retries.retryIgnorePreviousHosts":                         {Severity: importing.Ignored, Note: "retries go to endpoints that were not tried while there are any"},
	"spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.path":       {Severity: importing.Ignored, Note: "zerohop does not make the cookie; Policy.Sticky does"},
	"spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.ttl":        {Severity: importing.Ignored, Note: "zerohop does not make the cookie; Policy.Sticky does"},
	"spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes": {Severity: importing.Ignored, Note: "zerohop does not make the cookie; Policy.Sticky does"},
}

// unknown reports fields that the message does not have. What Istio generates to read JSON passes over them.
func (im *importer) unknown(d protoreflect.MessageDescriptor, tree any, path string) {
	object, ok := tree.(map[string]any)
	if !ok || d.ParentFile().Package() == "google.protobuf" {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		p := importing.Join(path, name)
		f := d.Fields().ByJSONName(name)
		if f == nil {
			f = d.Fields().ByTextName(name)
		}
		switch {
		case f == nil:
			im.Fail(p, "unknown field")
		case f.Message() == nil:
		case f.IsMap():
			values, _ := object[name].(map[string]any)
			for key, v := range values {
				if m := f.MapValue().Message(); m != nil {
					im.unknown(m, v, importing.Join(p, key))
				}
			}
		case f.IsList():
			items, _ := object[name].([]any)
			for i, v := range items {
				im.unknown(f.Message(), v, at(p, i))
			}
		default:
			im.unknown(f.Message(), object[name], p)
		}
	}
}

// rest reports every field that is set: those that were not taken.
func (im *importer) rest(m protoreflect.Message, path string, why importing.Why) {
	if !m.IsValid() {
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		p := importing.Join(path, f.JSONName())
		reason, whole := why.Reason(p)
		leaf := func(p string) { im.Lose(p, reason.Severity, "%s", reason.Note) }
		message := func(m protoreflect.Message, p string) {
			if m.Descriptor().ParentFile().Package() == "google.protobuf" {
				leaf(p)
				return
			}
			im.rest(m, p, why)
		}
		switch {
		case whole:
			leaf(p)
		case f.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				if p := importing.Join(p, k.String()); f.MapValue().Message() != nil {
					message(v.Message(), p)
				} else {
					leaf(p)
				}
				return true
			})
		case f.IsList():
			for i := range v.List().Len() {
				if p := at(p, i); f.Message() != nil {
					message(v.List().Get(i).Message(), p)
				} else {
					leaf(p)
				}
			}
		case f.Message() != nil:
			message(v.Message(), p)
		default:
			leaf(p)
		}
		return true
	})
}
