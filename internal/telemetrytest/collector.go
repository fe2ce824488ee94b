//go:build unix

package telemetrytest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/zerohop/zerohop/internal/servertest"
	"github.com/zerohop/zerohop/internal/testenv"
)

// startTimeout is how long a server may take to be ready. Neither takes 0.2 s on an idle machine.
const startTimeout = 60 * time.Second

// Collector is an OpenTelemetry Collector that takes OTLP over HTTP, offers metrics to Prometheus and hands spans back to the test.
// It is not safe for concurrent use.
type Collector struct {
	*servertest.Process
	otlp, metrics int // ports
	sink          *sink
}

// Options are the options of StartCollector.
type Options struct {
	// Drop says that spans end in the Collector: there are too many to keep.
	Drop bool
}

// StartCollector starts a Collector and waits until it serves. It hands on what it gets within 100 ms. It skips the test if there is
// none; see testenv.Need.
func StartCollector(t testing.TB, opts Options) *Collector {
	t.Helper()
	bin := collectorBinary(t)
	sink, exporter := newSink(t), "otlp_http"
	if opts.Drop {
		exporter = "debug"
	}
	for range 5 {
		dir, ports := t.TempDir(), servertest.FreePorts(t, 2)
		config := filepath.Join(dir, "otelcol.yaml")
		text := fmt.Sprintf(collectorConfig, ports[0], ports[1], sink.url, exporter)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := &Collector{servertest.New(t, "otelcol", dir), ports[0], ports[1], sink}
		c.Start(t, bin, []string{"--config", config})
		if c.Up(t, startTimeout, func() bool { return listens(c.otlp) && answers("http://"+c.MetricsAddr()+"/metrics") }) {
			return c
		}
	}
	t.Fatal("otelcol: no free ports in 5 attempts")
	return nil
}

const collectorConfig = `
receivers:
  otlp:
    protocols:
      http: { endpoint: "127.0.0.1:%d" }
processors:
  memory_limiter: { check_interval: 1s, limit_mib: 256 }
  batch: { timeout: 100ms }
exporters:
  prometheus: { endpoint: "127.0.0.1:%d", enable_open_metrics: true }
  debug: { verbosity: basic, sampling_initial: 1, sampling_thereafter: 1000000 }
  otlp_http: { traces_endpoint: %q, encoding: json, compression: none }
service:
  telemetry:
    metrics: { level: none }
    logs: { encoding: console }
  pipelines:
    traces: { receivers: [otlp], processors: [memory_limiter, batch], exporters: [%s] }
    metrics: { receivers: [otlp], processors: [memory_limiter, batch], exporters: [prometheus] }
`

// collectorBinary returns the path of a Collector: $ZEROHOP_OTELCOL, else the newest one that tools/otelcol/build.sh made, else the one
// in $PATH.
func collectorBinary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("ZEROHOP_OTELCOL"); path != "" {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("ZEROHOP_OTELCOL: %v", err)
		}
		return path
	}
	if path := servertest.NewestBuild("otelcol-*/otelcol"); path != "" {
		return path
	}
	path, err := exec.LookPath("otelcol")
	if err != nil {
		testenv.Need(t, "otelcol", "no Collector: run tools/otelcol/build.sh once, or name one in ZEROHOP_OTELCOL")
	}
	return path
}

// URL returns where it takes OTLP, "http://127.0.0.1:port".
func (c *Collector) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", c.otlp) }

// MetricsAddr returns where it offers metrics, "127.0.0.1:port".
func (c *Collector) MetricsAddr() string { return fmt.Sprintf("127.0.0.1:%d", c.metrics) }

// Spans returns those that have come through the Collector.
func (c *Collector) Spans() []Span { return c.sink.list() }

// listens reports whether somebody accepts connections at a port.
func listens(port int) bool {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// ask keeps no connections: nothing of it is left when a test ends.
var ask = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

// answers reports whether there is a page.
func answers(url string) bool {
	resp, err := ask.Get(url)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}
