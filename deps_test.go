package zerohop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"go/version"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

const modulePath = "github.com/zerohop/zerohop"

// A place says where a package stands. It may import our packages of lower layers, and its user may come to
// link the modules of its price, directly or through others, and no more.
type place struct {
	layer int
	price []string // nil: not limited, as nobody links it
}

// testLayer is the layer of what only tests run. Its packages may import each other.
const testLayer = 5

var (
	backoffPrice = []string{"github.com/cenkalti/backoff/v4"}
	corePrice    = append([]string{"github.com/sony/gobreaker/v2"}, backoffPrice...)
	grpcPrice    = []string{
		"golang.org/x/net", "golang.org/x/sys", "golang.org/x/text", "google.golang.org/genproto/googleapis/rpc",
		"google.golang.org/grpc", "google.golang.org/protobuf",
	}
	consulPrice = []string{
		"github.com/armon/go-metrics", "github.com/fatih/color", "github.com/go-viper/mapstructure/v2",
		"github.com/hashicorp/consul/api", "github.com/hashicorp/errwrap", "github.com/hashicorp/go-cleanhttp",
		"github.com/hashicorp/go-hclog", "github.com/hashicorp/go-immutable-radix", "github.com/hashicorp/go-metrics",
		"github.com/hashicorp/go-multierror", "github.com/hashicorp/go-rootcerts",
		"github.com/hashicorp/golang-lru", "github.com/hashicorp/serf", "github.com/mattn/go-colorable",
		"github.com/mattn/go-isatty", "github.com/mitchellh/go-homedir", "golang.org/x/exp", "golang.org/x/sys",
	}
	dnsPrice        = []string{"github.com/miekg/dns", "golang.org/x/net", "golang.org/x/sys"}
	kubernetesPrice = []string{
		"github.com/davecgh/go-spew", "github.com/fxamacker/cbor/v2", "github.com/go-logr/logr", "github.com/json-iterator/go",
		"github.com/modern-go/concurrent", "github.com/modern-go/reflect2", "github.com/munnerz/goautoneg",
		"github.com/spf13/pflag", "github.com/x448/float16", "go.yaml.in/yaml/v2", "golang.org/x/net", "golang.org/x/oauth2",
		"golang.org/x/sys", "golang.org/x/term", "golang.org/x/text", "golang.org/x/time", "gopkg.in/inf.v0", "k8s.io/api",
		"k8s.io/apimachinery", "k8s.io/client-go", "k8s.io/klog/v2", "k8s.io/kube-openapi", "k8s.io/utils", "sigs.k8s.io/json",
		"sigs.k8s.io/randfill", "sigs.k8s.io/structured-merge-diff/v6", "sigs.k8s.io/yaml",
	}
	filePrice = []string{"github.com/fsnotify/fsnotify", "go.yaml.in/yaml/v3", "golang.org/x/sys"}
	etcdPrice = []string{
		"github.com/coreos/go-semver", "github.com/coreos/go-systemd/v22", "github.com/gogo/protobuf", "github.com/golang/protobuf",
		"github.com/grpc-ecosystem/grpc-gateway/v2", "go.etcd.io/etcd/api/v3", "go.etcd.io/etcd/client/pkg/v3",
		"go.etcd.io/etcd/client/v3", "go.uber.org/multierr", "go.uber.org/zap", "google.golang.org/genproto/googleapis/api",
	}
	xdsPrice = append([]string{
		"cel.dev/expr", "github.com/cncf/xds/go", "github.com/envoyproxy/go-control-plane/envoy",
		"github.com/envoyproxy/protoc-gen-validate", "google.golang.org/genproto/googleapis/api",
	}, grpcPrice...)
	gatewayPrice = []string{
		"github.com/fxamacker/cbor/v2", "github.com/go-logr/logr", "github.com/json-iterator/go", "github.com/modern-go/concurrent",
		"github.com/modern-go/reflect2", "github.com/x448/float16", "go.yaml.in/yaml/v2", "go.yaml.in/yaml/v3", "golang.org/x/net",
		"golang.org/x/text", "gopkg.in/inf.v0", "k8s.io/apimachinery", "k8s.io/klog/v2", "k8s.io/kube-openapi", "k8s.io/utils",
		"sigs.k8s.io/gateway-api", "sigs.k8s.io/json", "sigs.k8s.io/randfill", "sigs.k8s.io/structured-merge-diff/v6",
	}
	istioPrice = []string{
		"github.com/golang/protobuf", "go.yaml.in/yaml/v3", "google.golang.org/genproto/googleapis/api", "google.golang.org/protobuf", "istio.io/api",
	}
	otelPrice = []string{
		"github.com/cespare/xxhash/v2", "github.com/go-logr/logr", "github.com/go-logr/stdr",
		"go.opentelemetry.io/auto/sdk", "go.opentelemetry.io/otel", "go.opentelemetry.io/otel/log",
		"go.opentelemetry.io/otel/metric", "go.opentelemetry.io/otel/trace",
	}
)

// places lists the packages by their path below the module; x/... is x and all below it.
var places = map[string]place{
	"discovery":                   {0, backoffPrice},
	"discovery/consul":            {1, slices.Concat(backoffPrice, consulPrice)},
	"discovery/kubernetes":        {1, slices.Concat(backoffPrice, kubernetesPrice)},
	"discovery/etcd":              {1, slices.Concat(backoffPrice, grpcPrice, etcdPrice)},
	"discovery/xds":               {1, slices.Concat(backoffPrice, xdsPrice)},
	"discovery/discoverytest":     {1, slices.Concat(backoffPrice, []string{"go.uber.org/goleak"})},
	"discovery/file":              {1, slices.Concat(backoffPrice, filePrice)},
	"discovery/dns":               {1, slices.Concat(backoffPrice, dnsPrice)},
	"resilience":                  {1, corePrice},
	"loadbalance":                 {1, corePrice},
	"loadbalance/loadbalancetest": {2, corePrice},
	"routing":                     {1, []string{}},
	"lifecycle":                   {1, backoffPrice},
	"healthcheck":                 {1, backoffPrice},
	".":                           {2, corePrice},
	"samehost":                    {0, []string{"golang.org/x/sys"}},                           // on macOS
	"httpmesh":                    {3, slices.Concat(corePrice, []string{"golang.org/x/net"})}, // SOCKS
	"grpcmesh":                    {3, slices.Concat(corePrice, grpcPrice)},
	"sim":                         {3, corePrice},
	"config/configtest":           {4, nil},
	"config":                      {3, slices.Concat(corePrice, []string{"go.yaml.in/yaml/v3"})},
	"vet":                         {3, corePrice},
	"telemetry":                   {3, slices.Concat(corePrice, otelPrice)},
	"telemetry/console":           {3, corePrice},
	"telemetry/incident":          {3, corePrice},
	"config/importing":            {3, slices.Concat(corePrice, []string{"go.yaml.in/yaml/v3"})},
	"config/gatewayapi":           {3, slices.Concat(corePrice, gatewayPrice)},
	"config/istio":                {3, slices.Concat(corePrice, istioPrice)},
	"config/serviceconfig":        {3, slices.Concat(corePrice, []string{"go.yaml.in/yaml/v3"})},
	"internal/importtest":         {testLayer, nil},
	"cmd/zerohop":                 {4, nil},
	"ebpfaccel":                   {0, []string{}},
	"ebpfaccel/loader":            {1, []string{"github.com/cilium/ebpf", "golang.org/x/sys"}},
	"examples/...":                {4, nil},
	"examples/grpc/stockpb":       {0, grpcPrice},
	"httpmesh/hostiletest":        {testLayer, nil},
	"faulttest/...":               {testLayer, nil},
	"internal/filewatch":          {0, []string{"github.com/fsnotify/fsnotify", "golang.org/x/sys"}},
	"config/consul":               {3, slices.Concat(backoffPrice, consulPrice)},
	"config/etcd":                 {3, slices.Concat(backoffPrice, grpcPrice, etcdPrice)},
	"config/kubernetes":           {3, slices.Concat(backoffPrice, kubernetesPrice)},
	"config/file":                 {3, []string{"github.com/fsnotify/fsnotify", "golang.org/x/sys"}},
	"internal/addrtest":           {testLayer, nil},
	"internal/consultest":         {testLayer, nil},
	"internal/etcdtest":           {testLayer, nil},
	"internal/dnstest":            {testLayer, nil},
	"internal/stdsuite":           {testLayer, nil},
	"internal/livetest":           {testLayer, nil},
	"internal/porttest":           {testLayer, nil},
	"internal/servertest":         {testLayer, nil},
	"internal/telemetrytest":      {testLayer, nil},
	"internal/testenv":            {testLayer, nil},
	"internal/kubetest":           {testLayer, nil},
	"internal/echopb":             {0, grpcPrice},
	"internal/pace":               {0, []string{}},
	"internal/httpstatus":         {0, []string{}},
	"internal/conformance":        {0, []string{"go.uber.org/goleak"}},
	"internal/consulapi":          {1, slices.Concat(backoffPrice, consulPrice)},
	"internal/etcdapi":            {1, slices.Concat(backoffPrice, grpcPrice, etcdPrice)},
	"internal/kubeapi":            {1, slices.Concat(backoffPrice, kubernetesPrice)},
	"internal/orca":               {2, corePrice},
	"internal/baggage":            {0, []string{}},

	"examples/observability/pipeline": {0, nil}, // its users have a copy
}

// sideways lists the imports within a layer that are meant.
var sideways = map[[2]string]string{
	{"config/gatewayapi", "config/importing"}:    "importers share their options and their report",
	{"config/istio", "config/importing"}:         "importers share their options and their report",
	{"config/serviceconfig", "config/importing"}: "importers share their options and their report",
	{"loadbalance", "resilience"}:                "a node has a breaker",
	{"discovery/consul", "internal/consulapi"}:   "what it shares with config/consul",
	{"discovery/etcd", "internal/etcdapi"}:       "what it shares with config/etcd",
	{"discovery/kubernetes", "internal/kubeapi"}: "what it shares with config/kubernetes",
}

// behind says, of modules that only some packages may cost their users, why. Megabytes are what the package adds to a program
// that uses httpmesh, on linux/amd64, with symbols.
var behind = map[string]string{
	"github.com/cilium/ebpf":                       "adds 1.5 MB and is of use to administrators on Linux alone: ebpfaccel/loader imports it",
	"github.com/hashicorp/consul/api":              "adds 3 MB and 18 modules: config/consul and discovery/consul import it",
	"github.com/fsnotify/fsnotify":                 "adds 1 MB with YAML and is of use to readers of files alone: config/file and discovery/file import it",
	"go.yaml.in/yaml/v3":                           "is of no use to those who configure in Go: config and discovery/file import it",
	"github.com/miekg/dns":                         "adds 1 MB and x/net: discovery/dns imports it",
	"go.etcd.io/etcd/client/v3":                    "adds 15 MB, of which grpc is 11: config/etcd and discovery/etcd import it",
	"go.opentelemetry.io/otel":                     "is one way to watch among others: telemetry imports it",
	"google.golang.org/grpc":                       "adds 11 MB: grpcmesh imports it",
	"github.com/envoyproxy/go-control-plane/envoy": "adds 19 MB, of which grpc is 11: discovery/xds imports it",
	"google.golang.org/protobuf":                   "comes with grpc: grpcmesh imports it",
	"gopkg.in/yaml.v3":                             "is of no use to those who write their Spec in Go: it needs a package of its own",
	"k8s.io/client-go":                             "adds 10 MB, and 38 MB with its clientset: config/kubernetes and discovery/kubernetes import the rest",
}

type listedPackage struct {
	ImportPath string
	Standard   bool
	Module     *struct{ Path string }
	Imports    []string
}

func (p *listedPackage) ours() bool { return p.Module != nil && p.Module.Path == modulePath }

// relPath is the path of one of our packages below the module.
func relPath(importPath string) string {
	return path.Clean(strings.TrimPrefix(strings.TrimPrefix(importPath, modulePath), "/"))
}

func placeOf(rel string) (place, bool) {
	if p, ok := places[rel]; ok {
		return p, true
	}
	for dir := rel; dir != "."; dir = path.Dir(dir) {
		if p, ok := places[dir+"/..."]; ok {
			return p, true
		}
	}
	return place{}, false
}

// goCommand returns what the go command prints.
func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return out
}

func TestImportsKeepTheirDirectionAndPrice(t *testing.T) {
	all := make(map[string]*listedPackage)
	dec := json.NewDecoder(bytes.NewReader(goCommand(t, "list", "-deps", "-json=ImportPath,Standard,Module,Imports", "./...")))
	for {
		p := new(listedPackage)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
	for _, p := range all {
		if !p.ours() {
			continue
		}
		rel := relPath(p.ImportPath)
		at, ok := placeOf(rel)
		if !ok {
			t.Errorf("%s is in no layer: say in places where this package stands", rel)
			continue
		}
		for _, imp := range p.Imports {
			if to := all[imp]; to != nil && to.ours() {
				checkEdge(t, rel, at, relPath(imp))
			}
		}
		if at.price != nil {
			checkPrice(t, all, p, at.price)
		}
	}
}

// checkEdge checks that one of our packages may import another.
func checkEdge(t *testing.T, from string, at place, to string) {
	t.Helper()
	target, ok := placeOf(to)
	switch _, meant := sideways[[2]string{from, to}]; {
	case !ok || meant || at.layer == testLayer: // Not ok is reported where the package itself is looked at.
	case strings.HasSuffix(to, "test"):
		t.Errorf("%s imports %s, which is for tests only", from, to)
	case target.layer > at.layer:
		t.Errorf("%s (layer %d) imports %s (layer %d) above it", from, at.layer, to, target.layer)
	case target.layer == at.layer:
		t.Errorf("%s imports %s beside it in layer %d", from, to, at.layer)
	}
}

// checkPrice walks all that p imports, breadth first so that the chain it shows is the shortest, and checks
// that it meets no module beyond the price.
func checkPrice(t *testing.T, all map[string]*listedPackage, p *listedPackage, price []string) {
	t.Helper()
	importer := map[string]string{p.ImportPath: ""}
	seen := make(map[string]bool) // modules
	for queue := []*listedPackage{p}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if !at.ours() && !seen[at.Module.Path] {
			seen[at.Module.Path] = true
			if mod := at.Module.Path; !slices.Contains(price, mod) {
				chain := at.ImportPath
				for up := importer[at.ImportPath]; up != ""; up = importer[up] {
					chain = up + " -> " + chain
				}
				why := behind[mod]
				if why == "" {
					why = "is not in the price of this package"
				}
				t.Errorf("%s: %s %s\n\t%s", relPath(p.ImportPath), mod, why, chain)
			}
		}
		for _, imp := range at.Imports {
			if next := all[imp]; next != nil && !next.Standard {
				if _, ok := importer[imp]; !ok {
					importer[imp] = at.ImportPath
					queue = append(queue, next)
				}
			}
		}
	}
}

// Older versions have known holes that reach a user of this module; minimal version selection makes ours the
// floor of theirs. The go line is the older of the two supported releases and is raised on purpose only.
func TestRequirementsKeepTheirFloors(t *testing.T) {
	var mod struct {
		Go      string
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal(goCommand(t, "mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	if got, want := mod.Go, "1.26.0"; got != want {
		t.Errorf("go line of go.mod = %s, want %s", got, want)
	}
	floors := map[string]string{
		"golang.org/x/net":         "v0.56.0",
		"google.golang.org/grpc":   "v1.82.1",
		"go.opentelemetry.io/otel": "v1.44.0",
	}
	// go/version orders module versions too once they look like those of Go; it ignores what follows a dash.
	goVersion := func(v string) string { return "go" + strings.TrimPrefix(v, "v") }
	for _, r := range mod.Require {
		if floor := floors[r.Path]; floor != "" && version.Compare(goVersion(r.Version), goVersion(floor)) < 0 {
			t.Errorf("go.mod requires %s %s, want %s or later", r.Path, r.Version, floor)
		}
	}
}
