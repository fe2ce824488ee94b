//go:build unix

package telemetrytest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/zerohop/zerohop/internal/servertest"
	"github.com/zerohop/zerohop/internal/testenv"
)

// Prometheus is a Prometheus server. It is not safe for concurrent use.
type Prometheus struct {
	*servertest.Process
	port int
}

// Scrape returns a configuration that asks addrs for metrics, once a second, and takes their word for job and instance. Prometheus
// forgets what it knew of one that takes longer than that to answer, until it answers.
func Scrape(addrs ...string) string {
	for i, addr := range addrs {
		addrs[i] = strconv.Quote(addr)
	}
	return fmt.Sprintf(`
global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 200ms }
scrape_configs:
  - job_name: zerohop
    honor_labels: true
    static_configs: [{ targets: [%s] }]
`, strings.Join(addrs, ", "))
}

// StartPrometheus starts a Prometheus and waits until it serves. config is what follows in its configuration file. It skips the test
// if there is none; see testenv.Need.
func StartPrometheus(t testing.TB, config string) *Prometheus {
	t.Helper()
	bin := prometheusBinary(t, "prometheus")
	for range 5 {
		dir := t.TempDir()
		file := filepath.Join(dir, "prometheus.yml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &Prometheus{servertest.New(t, "prometheus", dir), servertest.FreePorts(t, 1)[0]}
		p.Start(t, bin, []string{
			"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--log.level=warn",
			fmt.Sprintf("--web.listen-address=127.0.0.1:%d", p.port), "--enable-feature=exemplar-storage",
		})
		if p.Up(t, startTimeout, func() bool { return answers(p.URL() + "/-/ready") }) {
			return p
		}
	}
	t.Fatal("prometheus: no free ports in 5 attempts")
	return nil
}

// prometheusBinary returns the path of "prometheus" or "promtool": beside $ZEROHOP_PROMETHEUS, else the one in $PATH.
func prometheusBinary(t testing.TB, name string) string {
	t.Helper()
	if path := os.Getenv("ZEROHOP_PROMETHEUS"); path != "" {
		path = filepath.Join(filepath.Dir(path), name)
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("ZEROHOP_PROMETHEUS: %v", err)
		}
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		testenv.Need(t, "prometheus", "no "+name+": install the package prometheus, or name its server in ZEROHOP_PROMETHEUS")
	}
	return path
}

// Promtool runs promtool and returns what it prints. It skips the test if there is none; see testenv.Need.
func Promtool(t testing.TB, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command(prometheusBinary(t, "promtool"), args...).CombinedOutput()
	return string(out), err
}

// URL returns where it serves, "http://127.0.0.1:port".
func (p *Prometheus) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", p.port) }

// Sample is one series of the answer to a query.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// Query evaluates an expression now.
func (p *Prometheus) Query(t testing.TB, expr string) []Sample {
	t.Helper()
	samples, err := p.Ask(expr)
	if err != nil {
		t.Fatal(err)
	}
	return samples
}

// Sum adds the values of the answer to a query, which is 0 if there are none.
func (p *Prometheus) Sum(t testing.TB, expr string) (sum float64) {
	t.Helper()
	for _, s := range p.Query(t, expr) {
		sum += s.Value
	}
	return sum
}

// Ask is Query that returns the error, for instance of an expression that does not parse.
func (p *Prometheus) Ask(expr string) ([]Sample, error) {
	var result []struct {
		Metric map[string]string `json:"metric"`
		Value  [2]any            `json:"value"`
	}
	var data struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	}
	if err := p.get("/api/v1/query?"+url.Values{"query": {expr}}.Encode(), &data); err != nil {
		return nil, fmt.Errorf("prometheus: query %q: %w", expr, err)
	}
	if data.ResultType != "vector" {
		return nil, fmt.Errorf("prometheus: query %q: the answer is a %s", expr, data.ResultType)
	}
	if err := json.Unmarshal(data.Result, &result); err != nil {
		return nil, fmt.Errorf("prometheus: query %q: %w", expr, err)
	}
	samples := make([]Sample, len(result))
	for i, r := range result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("prometheus: query %q: %w", expr, err)
		}
		samples[i] = Sample{r.Metric, value}
	}
	return samples, nil
}

// Exemplars returns the trace ids of the exemplars of the series that a selector names.
func (p *Prometheus) Exemplars(t testing.TB, selector string) (traces []string) {
	t.Helper()
	var data []struct {
		Exemplars []struct {
			Labels map[string]string `json:"labels"`
		} `json:"exemplars"`
	}
	query := url.Values{"query": {selector}, "start": {"0"}, "end": {"32503680000"}}
	if err := p.get("/api/v1/query_exemplars?"+query.Encode(), &data); err != nil {
		t.Fatalf("prometheus: exemplars of %q: %v", selector, err)
	}
	for _, series := range data {
		for _, e := range series.Exemplars {
			traces = append(traces, e.Labels["trace_id"])
		}
	}
	return traces
}

// get asks the API.
func (p *Prometheus) get(path string, data any) error {
	resp, err := ask.Get(p.URL() + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", resp.Status, answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}

// NeedServers skips the test if there is no Collector or no Prometheus; see testenv.Need. It is for programs that start them
// themselves.
func NeedServers(t testing.TB) {
	t.Helper()
	collectorBinary(t)
	prometheusBinary(t, "prometheus")
}
