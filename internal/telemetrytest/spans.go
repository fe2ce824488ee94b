//go:build unix

package telemetrytest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// Span is a span as a Collector hands it on.
type Span struct {
	TraceID, ID, Parent string
	Name                string
	Client              bool // of kind CLIENT, else of another one
	Failed              bool // its status is Error
	Attributes          map[string]string
	Service             string // of its resource
	Events              []string
}

// sink takes OTLP in JSON.
type sink struct {
	url string

	mu    sync.Mutex // guards spans
	spans []Span
	bad   error
}

func newSink(t testing.TB) *sink {
	s := &sink{}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		server.Close()
		if s.bad != nil {
			t.Errorf("what the Collector handed on: %v", s.bad)
		}
	})
	s.url = server.URL + "/v1/traces"
	return s
}

func (s *sink) list() []Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.spans)
}

type otlpAttributes []struct {
	Key   string
	Value struct {
		StringValue, IntValue string
		BoolValue             bool
		DoubleValue           float64
	}
}

func (l otlpAttributes) texts() map[string]string {
	m := map[string]string{}
	for _, a := range l {
		switch v := a.Value; {
		case v.StringValue != "":
			m[a.Key] = v.StringValue
		case v.IntValue != "":
			m[a.Key] = v.IntValue
		case v.DoubleValue != 0:
			m[a.Key] = strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
		default:
			m[a.Key] = strconv.FormatBool(v.BoolValue)
		}
	}
	return m
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var batch struct {
		ResourceSpans []struct {
			Resource   struct{ Attributes otlpAttributes }
			ScopeSpans []struct {
				Spans []struct {
					TraceID, SpanID, ParentSpanID, Name string
					Kind                                int
					Attributes                          otlpAttributes
					Status                              struct{ Code int }
					Events                              []struct{ Name string }
				}
			}
		}
	}
	err := json.NewDecoder(r.Body).Decode(&batch)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.bad = err
	}
	for _, resource := range batch.ResourceSpans {
		service := resource.Resource.Attributes.texts()["service.name"]
		for _, scope := range resource.ScopeSpans {
			for _, o := range scope.Spans {
				span := Span{
					TraceID: o.TraceID, ID: o.SpanID, Parent: o.ParentSpanID, Name: o.Name, Client: o.Kind == 3,
					Failed: o.Status.Code == 2, Attributes: o.Attributes.texts(), Service: service,
				}
				for _, e := range o.Events {
					span.Events = append(span.Events, e.Name)
				}
				s.spans = append(s.spans, span)
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{}")) // if it fails, the Collector tries again or is gone
}
