package istio

import (
	"strings"
	"testing"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
	"github.com/zerohop/zerohop/routing"
)

// goes returns the first backend of the rule for a call, or the status that it is answered with, or "" if no rule is for it.
func goes(t *testing.T, spec zerohop.Spec, service, path string) string {
	t.Helper()
	table, err := routing.Compile(spec.Routes)
	if err != nil {
		t.Fatal(err)
	}
	d := table.Route(&routing.Request{Service: service, Method: "GET", Path: path}, 0)
	switch {
	case d.Rule < 0:
		return ""
	case spec.Routes[d.Rule].Response != nil:
		return "answer"
	}
	return spec.Routes[d.Rule].Backends[0].Service
}

func TestMatchesOfOtherGatewaysAreLeftOut(t *testing.T) {
	const egress = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: egress}
spec:
  hosts: [example.com]
  gateways: [edge/out, mesh]
  http:
  - match: [{gateways: [edge/out]}]
    route: [{destination: {host: example.com}}]
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: out.edge.svc.cluster.local}}]
`
	const internal = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: internal}
spec:
  hosts: [reviews, shop.example.com]
  gateways: [edge/in]
  http: [{route: [{destination: {host: reviews-next}}]}]
`
	const ports = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ports}
spec:
  hosts: [reviews]
  http:
  - {match: [{port: 80}], route: [{destination: {host: a}}]}
  - {match: [{port: 81}], route: [{destination: {host: b}}]}
`
	out, in := map[string]string{"edge/out": "*"}, map[string]string{"in": "edge.example.com"}
	for _, tt := range []struct {
		name, docs string
		gateways   map[string]string
		service    string
		want       string
		loss       string
	}{
		{"only mesh", egress, nil, "example.com", "out.edge", "spec.http[0].match[0].gateways: refused: the match is left out"},
		{"asked for", egress, out, "example.com", "example.com", ""},
		{"service of the cluster", internal, nil, "reviews", "", "spec.gateways: refused: reviews is a service of the cluster"},
		{"host outside", internal, nil, "shop.example.com", "reviews-next", "spec.gateways: approximated"},
		{"service through a gateway asked for", internal, in, "reviews", "reviews-next", ""},
		{"several ports", ports, nil, "reviews", "", "spec.http[1].match[0].port: refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec, report, err := Import([]byte(tt.docs), importing.Options{Gateways: tt.gateways})
			if err != nil {
				t.Fatal(err)
			}
			if got := goes(t, spec, tt.service, "/"); got != tt.want {
				t.Errorf("a call to %s goes to %q, want %q", tt.service, got, tt.want)
			}
			if !strings.Contains(report.String(), tt.loss) {
				t.Errorf("report:\n%s\nwant %q", report, tt.loss)
			}
		})
	}
}

func TestHostsKeepTheirCallsFromWildcards(t *testing.T) {
	spec, _, err := Import([]byte(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: one}
spec: {hosts: [a.example.com], http: [{name: to a, match: [{uri: {exact: /a}}], route: [{destination: {host: a}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all}
spec: {hosts: ["*.example.com"], http: [{match: [{uri: {exact: /b}}], route: [{destination: {host: b}}]}]}
`), importing.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for call, want := range map[[2]string]string{
		{"a.example.com", "/a"}: "a", {"a.example.com", "/b"}: "answer",
		{"c.example.com", "/b"}: "b", {"c.example.com", "/a"}: "answer", {"other", "/b"}: "",
	} {
		if got := goes(t, spec, call[0], call[1]); got != want {
			t.Errorf("%v goes to %q, want %q", call, got, want)
		}
	}
	if got, want := spec.Routes[1].Name, "default/one/to-a"; got != want {
		t.Errorf("the rule is %q, want %q", got, want)
	}
}
