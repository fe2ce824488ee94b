//go:build unix

package telemetrytest

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// until asks until the answer is yes, for a minute at most.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func post(t *testing.T, url, body string) {
	t.Helper()
	resp, err := ask.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s", url, resp.Status, text)
	}
}

func TestWhatIsSentIsReadBack(t *testing.T) {
	c := StartCollector(t, Options{})
	p := StartPrometheus(t, Scrape(c.MetricsAddr()))
	post(t, c.URL()+"/v1/traces", `{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
		"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"GET","kind":3,
		"startTimeUnixNano":"1","endTimeUnixNano":"2","status":{"code":2},"events":[{"timeUnixNano":"1","name":"retry"}],
		"attributes":[{"key":"n","value":{"intValue":"3"}},{"key":"b","value":{"boolValue":true}}]}]}]}]}`)
	post(t, c.URL()+"/v1/metrics", `{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
		"scopeMetrics":[{"metrics":[{"name":"zerohop.attempts","unit":"{attempt}","sum":{"aggregationTemporality":2,"isMonotonic":true,
		"dataPoints":[{"asInt":"42","timeUnixNano":"1700000000000000000","attributes":[{"key":"zerohop.service","value":{"stringValue":"a"}}],
		"exemplars":[{"asInt":"1","timeUnixNano":"1700000000000000000","traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708"}]
		}]}}]}]}]}`)
	until(t, "the span arrives", func() bool { return len(c.Spans()) > 0 })
	s := c.Spans()[0]
	if s.Name != "GET" || !s.Client || !s.Failed || s.Service != "shop" || s.Attributes["n"] != "3" || s.Attributes["b"] != "true" ||
		len(s.Events) != 1 || s.TraceID != "0102030405060708090a0b0c0d0e0f10" {
		t.Errorf("the span came as %+v", s)
	}
	until(t, "the metric arrives", func() bool { return len(p.Query(t, "zerohop_attempts_total")) > 0 })
	got := p.Query(t, "zerohop_attempts_total")[0]
	if got.Value != 42 || got.Labels["zerohop_service"] != "a" || got.Labels["job"] != "shop" {
		t.Errorf("the metric came as %+v", got)
	}
	until(t, "the exemplar arrives", func() bool { return len(p.Exemplars(t, "zerohop_attempts_total")) > 0 })
	if _, err := p.Ask("sum("); err == nil {
		t.Error("an expression that does not parse has an answer")
	}
}

func TestPromtoolChecks(t *testing.T) {
	if out, err := Promtool(t, "check", "rules", "/dev/null/none"); err == nil {
		t.Errorf("promtool found nothing wrong with a file that is not there:\n%s", out)
	}
}
