//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zerohop/zerohop/internal/servertest"
	"github.com/zerohop/zerohop/internal/telemetrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is what the program prints.
type output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// board is a dashboard of Grafana, as far as it matters here.
type board struct {
	ID            *int // which Grafana gives
	UID, Title    string
	SchemaVersion int
	Panels        []struct {
		ID                       int
		Type, Title, Description string
		GridPos                  struct{ X, Y, W, H int }
		Datasource               source
		Targets                  []struct {
			Expr, RefID string
			Datasource  source
		}
	}
	Templating struct {
		List []struct {
			Name, Type, Definition string
			Datasource             *source
			Query                  any
		}
	}
}

type source struct{ Type, UID string }

// chosen is the source that the user chooses on the page, as that of another Grafana has another uid.
var chosen = source{"prometheus", "${datasource}"}

func boards(t *testing.T) map[string]board {
	t.Helper()
	files, err := filepath.Glob("dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	all := map[string]board{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var b board
		if err := json.Unmarshal(text, &b); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[file] = b
	}
	return all
}

func TestDashboardsAreWellFormed(t *testing.T) {
	uids := map[string]string{}
	for file, b := range boards(t) {
		if other := uids[b.UID]; b.UID == "" || other != "" {
			t.Errorf("%s has the uid %q, as %s", file, b.UID, other)
		}
		uids[b.UID] = file
		if b.Title == "" || b.ID != nil || b.SchemaVersion < 30 {
			t.Errorf("%s: title %q, id %v, schema %d: it cannot be imported", file, b.Title, b.ID, b.SchemaVersion)
		}
		for i, v := range b.Templating.List { // the first is what the others ask
			if first := v.Name == "datasource" && v.Type == "datasource" && v.Query == "prometheus"; first != (i == 0) ||
				i > 0 && (v.Type != "query" || v.Datasource == nil || *v.Datasource != chosen) {
				t.Errorf("%s: variable %d is %+v", file, i, v)
			}
		}
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range b.Panels {
			if p.ID == 0 || ids[p.ID] {
				t.Errorf("%s: the id %d of panel %q is not its own", file, p.ID, p.Title)
			}
			ids[p.ID] = true
			if p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %d lacks a title, a description or a query", file, p.ID)
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if q.RefID == "" || refs[q.RefID] || q.Datasource != chosen || p.Datasource != chosen || p.Type == "" {
					t.Errorf("%s: %q: query %q of %+v in a panel of type %q with %+v", file, p.Title, q.RefID, q.Datasource, p.Type, p.Datasource)
				}
				refs[q.RefID] = true
			}
			g := p.GridPos
			for x := range g.W {
				for y := range g.H {
					if at := [2]int{g.X + x, g.Y + y}; taken[at] != "" || at[0] > 23 {
						t.Fatalf("%s: %q overlaps %q, or is not on the page", file, p.Title, taken[at])
					} else {
						taken[at] = p.Title
					}
				}
			}
		}
	}
}

// names returns what Prometheus calls the instruments of package telemetry.
func names(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../telemetry/testdata/instruments.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z._]+): (histogram|counter|up-down counter|gauge)(?: \[.*\])?, (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		name := strings.NewReplacer(".", "_").Replace(m[1])
		switch {
		case m[3] == "s":
			name += "_seconds"
		case m[3] == "1":
			name += "_ratio"
		}
		switch m[2] {
		case "histogram":
			all[name+"_count"], all[name+"_sum"], all[name+"_bucket"] = true, true, true
		case "counter":
			all[name+"_total"] = true
		default:
			all[name] = true
		}
	}
	return all
}

var (
	metric = regexp.MustCompile(`\b(?:zerohop|http_client|rpc_client)_[a-z0-9_]+(?:\{|\[|\))`)
	by     = regexp.MustCompile(`by \([^)]*\)|, zerohop_service\)`)
)

func TestQueriesAskForWhatThereIs(t *testing.T) {
	known := names(t)
	if len(known) < 30 {
		t.Fatalf("only %d names of metrics: %v", len(known), known)
	}
	check := func(where, expr string) {
		for _, name := range metric.FindAllString(by.ReplaceAllString(expr, ""), -1) {
			if name = name[:len(name)-1]; !known[name] {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
	}
	for file, b := range boards(t) {
		for _, p := range b.Panels {
			for _, q := range p.Targets {
				check(file+": "+p.Title, q.Expr)
			}
		}
		for _, v := range b.Templating.List {
			check(file+": "+v.Name, v.Definition)
		}
	}
	check("rules.yaml", rules)
}

func TestRulesFireWhenTheyShould(t *testing.T) {
	if out, err := telemetrytest.Promtool(t, "check", "rules", "rules.yaml"); err != nil {
		t.Errorf("promtool check: %v\n%s", err, out)
	}
	if out, err := telemetrytest.Promtool(t, "test", "rules", "rules_test.yaml"); err != nil {
		t.Errorf("promtool test: %v\n%s", err, out)
	}
	tests, err := os.ReadFile("rules_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1) {
		if n := bytes.Count(tests, []byte("alertname: "+m[1]+"\n")); n < 2 {
			t.Errorf("alert %s has %d tests, want one that it fires and one that it does not", m[1], n)
		}
		if !bytes.Contains(doc, []byte("### "+m[1]+"\n")) {
			t.Errorf("alert %s is not explained in docs/observability.md", m[1])
		}
	}
}

// rare are metrics that may have no data in the example, as that need not happen there: a check may miss an instance that is down for
// a moment.
var rare = []string{"zerohop_resends_total", "zerohop_ejections_total", "zerohop_health_changes_total"}

// complaint is what the program prints if the Collector does not answer in time, as on a machine that stands still.
var complaint = regexp.MustCompile(`(?m)^telemetry: .*\n`)

// TestDashboardsShowTheExample runs the example with a real Collector and a real Prometheus and asks for all that dashboards show.
func TestDashboardsShowTheExample(t *testing.T) {
	c := telemetrytest.StartCollector(t, telemetrytest.Options{Drop: true})
	file, err := filepath.Abs("rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := telemetrytest.StartPrometheus(t, telemetrytest.Scrape(c.MetricsAddr())+fmt.Sprintf("rule_files: [%q]\n", file))
	const step = 4 * time.Second // Prometheus looks once a second
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out output
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, &out, options{collector: c.URL(), step: step, every: 200 * time.Millisecond, rate: 60})
	}()
	for deadline := time.Now().Add(2 * time.Minute); strings.Count(out.String(), "all is well") < 2; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("the faults take more than two minutes")
			break
		}
	}
	time.Sleep(600 * time.Millisecond) // for what the end of the last fault changes, to be sent and asked for
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := "all is well\nan instance of orders is killed\nan instance of stock is slow\nall instances of payments fail\n" +
		"the registry is silent\nall is well\n"
	if got := out.String(); complaint.ReplaceAllString(got, "") != want {
		t.Errorf("the program printed:\n%swant:\n%s", got, want)
	} else if got != want {
		t.Logf("the program printed:\n%s", got)
	}
	deadline := time.Now().Add(30 * time.Second) // for what was sent last and is on its way
	// data returns the answer to a query as soon as there is one.
	data := func(expr string) []telemetrytest.Sample {
		for {
			samples, err := p.Ask(expr)
			if err == nil && len(samples) > 0 || time.Now().After(deadline) {
				if err != nil {
					t.Error(err)
				}
				return samples
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	place := strings.NewReplacer("$__rate_interval", "5m", "$__range", "5m", "$job", ".*", "$service", ".*")
	exprs := 0
	for file, b := range boards(t) {
		for _, panel := range b.Panels {
			for _, q := range panel.Targets {
				expr := place.Replace(q.Expr)
				exprs++
				if slices.ContainsFunc(rare, func(name string) bool { return strings.Contains(expr, name) }) {
					if _, err := p.Ask(expr); err != nil {
						t.Errorf("%s: %q: %v", file, panel.Title, err)
					}
				} else if len(data(expr)) == 0 {
					t.Errorf("%s: %q has no data: %s", file, panel.Title, expr)
				}
			}
		}
	}
	for what, expr := range map[string]string{
		"failures":              `zerohop:call_failures:ratio_rate5m`, // of a service without failures there are none
		"an open breaker":       `zerohop_breaker_changes_total{zerohop_service="payments",zerohop_breaker_state="open"} > 0`,
		"refused calls":         `zerohop_refusals_total{zerohop_service="payments",zerohop_stage="rate-limit"} > 0`,
		"a silent source":       `max_over_time(zerohop_discovery_age_seconds{zerohop_service="stock"}[5m]) > 1`,
		"an empty retry budget": `zerohop_call_duration_seconds_count{zerohop_detail="retry_budget_empty"} > 0`,
	} {
		if len(data(expr)) == 0 {
			t.Errorf("Prometheus has not seen %s: %s", what, expr)
		}
	}
	t.Logf("%d queries of dashboards", exprs)
}

func TestExampleRunsWithoutCollector(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	url := fmt.Sprintf("http://127.0.0.1:%d", servertest.FreePorts(t, 1)[0])
	var out output
	if err := run(ctx, &out, options{collector: url, step: time.Minute, every: 100 * time.Millisecond, rate: 20}); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if !strings.HasPrefix(text, "no Collector at "+url) || strings.Count(text, "telemetry: ") != 1 {
		t.Errorf("the program printed:\n%s", text)
	}
}

func TestExampleStartsServers(t *testing.T) {
	telemetrytest.NeedServers(t)
	ports := servertest.FreePorts(t, 3)
	at := addresses{fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1]), fmt.Sprintf("127.0.0.1:%d", ports[2])}
	s, err := startServers(at)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	ask := func(url string) error {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return nil
	}
	for _, url := range []string{"http://" + at.metrics + "/metrics", "http://" + at.prometheus + "/-/ready"} {
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if err = ask(url); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	s.end()
	if ask("http://"+at.prometheus+"/-/ready") == nil {
		t.Error("Prometheus answers after its end")
	}
	if _, err := os.Stat(s.dir); err == nil {
		t.Errorf("%s is left", s.dir)
	}
}
