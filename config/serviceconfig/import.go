package serviceconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// Import turns a gRPC service config, JSON or YAML, into a Spec for the service Options.Target. The error joins every mistake, such
// as fields that do not exist. The Spec is valid if there is none.
func Import(docs []byte, opts importing.Options) (zerohop.Spec, importing.Report, error) {
	all, err := importing.Documents(docs, opts)
	switch {
	case err != nil:
		return zerohop.Spec{}, importing.Report{}, err
	case opts.Target == "":
		return zerohop.Spec{}, importing.Report{}, fmt.Errorf("importing: Options.Target must not be empty: a service config does not say what it is for")
	case len(all) != 1:
		return zerohop.Spec{}, importing.Report{}, fmt.Errorf("%d documents, but a service config is one", len(all))
	}
	im := &importer{Importer: importing.NewImporter(opts)}
	im.rules = importing.NewRules(im.Importer, &im.spec)
	d := &all[0]
	d.Kind, d.Namespace, d.Name = "ServiceConfig", "", opts.Target
	im.Begin(d)
	im.Report.Imported = append(im.Report.Imported, d.Object)
	var c serviceConfig
	dec := json.NewDecoder(bytes.NewReader(d.JSON))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		im.Fail("", "%v", err)
	} else {
		im.service(&c)
		im.Rest(c, "", why)
	}
	report, err := im.Finish()
	if err == nil {
		err = im.spec.Validate()
	}
	if err != nil {
		return zerohop.Spec{}, report, err
	}
	return im.spec, report, nil
}

type importer struct {
	*importing.Importer
	spec  zerohop.Spec
	rules *importing.Rules
}

var why = importing.Why{
	"methodConfig[].waitForReady":            {Severity: importing.Ignored, Note: "the caller says how long calls wait for endpoints: grpc.WaitForReady"},
	"methodConfig[].maxRequestMessageBytes":  {Severity: importing.Ignored, Note: "is a grpc.CallOption of the caller"},
	"methodConfig[].maxResponseMessageBytes": {Severity: importing.Ignored, Note: "is a grpc.CallOption of the caller"},
	"loadBalancingConfig[]":                  {Severity: importing.Ignored, Note: "the first policy of the list that is known counts"},
}

func (im *importer) service(c *serviceConfig) {
	p := zerohop.Policy{}
	for i := range c.LoadBalancingConfig {
		if im.balancing(fmt.Sprintf("loadBalancingConfig[%d]", i), c.LoadBalancingConfig[i], &p) {
			c.LoadBalancingConfig[i] = nil
			break
		}
	}
	if name := importing.Take(&c.LoadBalancingPolicy); name != "" && p.Balance != "" {
		im.Lose("loadBalancingPolicy", importing.Ignored, "loadBalancingConfig counts")
	} else if name != "" && !im.balancing("loadBalancingPolicy", map[string]json.RawMessage{strings.ToLower(name): json.RawMessage("{}")}, &p) {
		im.Lose("loadBalancingPolicy", importing.Ignored, "%q is not known", name)
	}
	if t := importing.Take(&c.RetryThrottling); t != nil {
		im.try("retryThrottling", &p, func(p *zerohop.Policy) {
			p.Budget = zerohop.Budget{Mode: zerohop.On, Kind: resilience.BudgetGRPC, Tokens: t.MaxTokens, Ratio: t.TokenRatio}
		})
	}
	if h := importing.Take(&c.HealthCheckConfig); h != nil {
		p.HealthCheck = zerohop.HealthCheck{Mode: zerohop.On, Protocol: "grpc"}
		if h.ServiceName != nil {
			p.HealthCheck.GRPCService = *h.ServiceName
		}
		im.Lose("healthCheckConfig", importing.Approximated, `endpoints are asked now and then, not watched; Config.Checkers must have "grpc"`)
	}
	target := im.Options.Target
	im.spec.Services = map[string]zerohop.Policy{target: p}
	im.Service(importing.Ref{Name: target}, 0)
	for i := range c.MethodConfig {
		at := fmt.Sprintf("methodConfig[%d]", i)
		m := &c.MethodConfig[i]
		names := importing.Take(&m.Name)
		if len(names) == 0 {
			im.Lose(at+".name", importing.Refused, "there is none, so it is for no method")
			continue
		}
		policy := im.method(at, m)
		if reflect.ValueOf(policy).IsZero() {
			continue
		}
		r := routing.Rule{}
		for j, n := range names {
			match := routing.Match{Service: target, RPC: routing.RPC{Service: n.Service, Method: n.Method}}
			name := strings.TrimRight(target+"/"+n.Service+"/"+n.Method, "/")
			if n.Service == "" && n.Method != "" {
				im.Fail(fmt.Sprintf("%s.name[%d].method", at, j), "needs a service")
				continue
			}
			if r.Name == "" {
				r.Name, r.Match = name, match
			} else {
				r.Or = append(r.Or, match)
			}
		}
		if r.Name != "" {
			im.rules.Add(at, r, policy)
		}
	}
}

// try changes the policy by a part of the configuration, unless it would not be valid then.
func (im *importer) try(at string, p *zerohop.Policy, change func(*zerohop.Policy)) {
	next := *p
	change(&next)
	if err := (zerohop.Spec{Services: map[string]zerohop.Policy{"x": next}}).Validate(); err != nil {
		im.Lose(at, importing.Refused, "%s", strings.ReplaceAll(strings.ReplaceAll(err.Error(), "services.x.", ""), "\n", "; "))
		return
	}
	*p = next
}

// duration returns a duration in the JSON of protobuf, "1.5s".
func (im *importer) duration(at, s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || !strings.HasSuffix(s, "s") || strings.ContainsAny(s, "hmnuµ") || d < 0 {
		im.Fail(at, `%q is no duration such as "1.5s"`, s)
		return 0
	}
	if d == 0 {
		im.Lose(at, importing.Approximated, "0 is the default of zerohop, which is no limit where nothing else sets one")
	}
	return d
}
