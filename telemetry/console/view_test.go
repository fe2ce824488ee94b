package console

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

// examples are what the page is made against: see testdata.
var examples = func() map[string]any {
	at := time.Date(2025, 3, 14, 3, 7, 12, 250e6, time.UTC)
	orders := ServiceLine{
		ServiceName: ServiceName{"1", "orders"}, Status: StatusDegraded, Balance: "peak-ewma",
		Now: Traffic{128.4, 0.0125, 4.25, 38.5}, Minute: Traffic{120.25, 0.0215, 4.5, 42}, Calls: 81234, Failures: 311,
		Attempts: 131.5, Retries: 2.1, Backups: 1, Refused: 0, InFlight: 3, Endpoints: 5, Out: 2, Budget: 0.85, Breaker: "closed", Throttle: -1,
		Spark: []float64{118, 122.5, 131, 127.5}, SparkErrors: []float64{0, 0, 4.5, 1},
	}
	stock := ServiceLine{
		ServiceName: ServiceName{"1", "stock"}, Status: StatusDown, Balance: "prequal", Now: Traffic{12, 1, 0.125, 0.5}, Minute: Traffic{12, 1, 0.125, 0.5},
		Calls: 990, Failures: 990, Endpoints: 2, Out: 2, Panicking: true, Budget: 0, RetriesPaused: 42000, Breaker: "open", ProbeIn: 2500, Throttle: 0.4, SourceAge: 31000,
		Spark: []float64{12, 12}, SparkErrors: []float64{12, 12},
	}
	hostile := ServiceLine{ServiceName: ServiceName{"1", name("<img src=x onerror=alert(1)>\u202egpj\x00\xff")}, Status: StatusIdle, Balance: "peak-ewma", Budget: 1, Throttle: -1}
	history := History{Rate: []float64{24, 25.5, 0}, Errors: []float64{0, 1.5, 0}, P50: []float64{4, 4.25, 0}, P99: []float64{19, 40, 0}}
	none := History{[]float64{}, []float64{}, []float64{}, []float64{}}
	zones := []ZoneView{{"eu-1a", 3, 1, 80.5}, {"eu-1b", 2, 1, 51}}
	failure := Failure{
		ID: 17, Time: at, ServiceName: orders.ServiceName, Host: "orders", Route: "canary", Protocol: "http", Method: "GET", Failed: true, Flag: "URX",
		Reason: "failed", Detail: "attempts exhausted", Status: 503, Duration: 210.5, Budget: 0.8, Left: 1789.5,
		Text: "GET orders failed after 210ms: attempts exhausted (URX)\n  10.0.0.3:8080 answered 503\n  10.0.0.4:8080 refused the connection",
		Tries: []TryView{
			{
				Addr: "10.0.0.3:8080", Zone: "eu-1a", Cause: "first", Latency: 12.5, Outcome: "failure", Status: 503, Flag: "US", Pick: "best of those compared", Nodes: 5,
				Removed:  []RemovedView{{"ejected", 1}, {"breaker open", 1}},
				Compared: []CandidateView{{Addr: "10.0.0.3:8080", Zone: "eu-1a", Score: 0.0125, Cost: 12.5, InFlight: 1, Picked: true}, {Addr: "10.0.0.4:8080", Zone: "eu-1b", Score: 0.02, Cost: 20, InFlight: 2}},
			},
			{Addr: "10.0.0.4:8080", Zone: "eu-1b", Cause: "retry", Start: 30, Latency: 1.25, Outcome: "failure", Status: -1, Flag: "UF", Error: "dial tcp 10.0.0.4:8080: connect: connection refused", Pick: "best of those compared", Nodes: 5},
		},
		Refusals: []RefusalView{{Stage: "budget", Attempt: 2, Enforced: true, After: 1000}},
	}
	return map[string]any{
		"summary": Summary{
			Time: at, Name: "checkout", Tick: 2000, Point: 1800, Admin: "/debug/zerohop-admin", Meshes: []MeshLine{{Mesh: "1", Name: "checkout", Instance: "checkout-7f9c", Zone: "eu-1a", Generation: 3, Opened: at.Add(-time.Hour)}},
			Services: []ServiceLine{hostile, orders, stock}, Event: 4, Failure: 17,
		},
		"delta": Summary{
			Time: at.Add(2 * time.Second), Name: "checkout", Tick: 2000, Point: 1801, Delta: true, Meshes: []MeshLine{{Mesh: "1", Name: "checkout", Generation: 3, Opened: at.Add(-time.Hour)}},
			Services: []ServiceLine{}, Gone: []ServiceName{stock.ServiceName}, Event: 4, Failure: 17,
		},
		"service": ServiceView{
			Time: at, Line: orders, Named: true, Discovery: DiscoveryView{Known: true, Endpoints: 5, Held: 1, Changed: 4210, Age: 0}, Limit: &LimitView{Limit: 100, InFlight: 3},
			History: history, Zones: zones, Total: 5,
			Endpoints: []EndpointView{
				{Addr: "10.0.0.1:8080", Zone: "eu-1a", Weight: 1, SlowStart: 1, Status: StatusOK, Health: "healthy", InFlight: 2, Limit: 64, Cost: 4.125, Picks: 40211, Share: 0.34, Got: 0.33, Now: Traffic{44, 0, 4, 19.5}, History: history, Socket: &SocketView{State: "used"}, Meta: []Pair{{"version", "2.1"}, {"token", "[redacted]"}}},
				{Addr: "10.0.0.2:8080", Zone: "eu-1a", Weight: 1, SlowStart: 1, Status: StatusEjected, Why: "5 failures in a row", Health: "healthy", ProbeIn: 3250, Breaker: "closed", Cost: 18.5, Picks: 311, History: none, Socket: &SocketView{State: "failing", Why: "connection refused"}},
				{Addr: "10.0.0.5:8080", Zone: "eu-1b", Weight: 2, SlowStart: 0.3, Status: StatusDraining, Why: "by an operator", Health: "healthy", BackIn: 540000, Picks: 12, History: none},
			},
		},
		"policy": PolicyView{
			ServiceName: orders.ServiceName, Policy: "slow", Policies: []string{"slow"}, Generation: 3, Layers: []string{"policies.slow", "services.orders", "defaults", "built-in"},
			Fields: []PolicyField{{"balance", "peak-ewma", "built-in"}, {"timeout", "2s", "policies.slow"}, {"retry.attempts", "3", "defaults"}, {"outlier.minHosts", "5", ""}},
		},
		"routes": RoutesView{Time: at, Routes: []RouteView{
			{Mesh: "1", Index: 0, Name: "canary", Matches: []string{"service orders, path /v1/*", "service orders, header X-Canary"}, Policy: "slow", Actions: []string{"mirror 5% to audit"}, Now: Traffic{128, 0.01, 4.25, 38.5}, Calls: 81000, Backends: []BackendView{
				{Service: "orders", Select: []Pair{{"version", "1"}}, Weight: 90, Share: 0.9, Got: 0.895, Now: Traffic{Rate: 114.5, Errors: 0.01}, Calls: 72900},
				{Service: "orders", Select: []Pair{{"version", "2"}}, Weight: 10, Share: 0.1, Got: 0.105, Now: Traffic{Rate: 13.5, Errors: 0.02}, Calls: 8100},
			}},
			{Mesh: "1", Index: 1, Matches: []string{"any call"}, Policy: "slow", Backends: []BackendView{{Share: 1, Got: -1}}},
		}},
		"failures": FailuresView{[]Failure{failure}},
		"events": EventsView{[]Event{
			{ID: 4, Count: 1, Time: at, ServiceName: orders.ServiceName, Kind: "ejected", Level: "bad", Addr: "10.0.0.2:8080", Zone: "eu-1a", Cause: "consecutive", Text: "ejected after 5 failures in a row", Until: at.Add(3250 * time.Millisecond)},
			{ID: 3, Count: 12, Time: at.Add(-time.Minute), ServiceName: stock.ServiceName, Kind: "discovery watch failed", Level: "warn", Cause: "the watch broke", Text: "the source is not heard: connection refused"},
			{ID: 1, Count: 1, Time: at.Add(-time.Hour), ServiceName: ServiceName{Mesh: "1"}, Kind: "mesh opened", Level: "info", Text: "the mesh was opened"},
		}},
		"topology": TopologyView{
			Time: at, Nodes: []TopologyNode{{ID: `\:http`, Name: "http", Callers: true, Status: StatusOK}, {ID: "checkout", Name: "checkout", Mesh: "1", Status: StatusOK, Zone: "eu-1a"}, {ID: "orders", Name: "orders", Service: true, Status: StatusDegraded, Zones: zones}},
			Edges: []TopologyEdge{{From: "checkout", To: "orders", ServiceName: orders.ServiceName, Now: orders.Now}, {From: `\:http`, To: "checkout", Now: Traffic{Rate: 88.4, Errors: 0.0021}}},
		},
		"admin": AdminRequest{Action: "eject", ServiceName: orders.ServiceName, Addr: "10.0.0.1:8080", For: "10m", Why: "disk is full"},
		"done":  AdminAnswer{Done: true, Until: at.Add(10 * time.Minute)},
	}
}()

// The page is written against the files: they are what the views are.
func TestExamplesAreWhatTheViewsAre(t *testing.T) {
	for name, v := range examples {
		file := filepath.Join("testdata", name+".json")
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, '\n')
		if *update {
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, want) {
			t.Errorf("%s is not what the views are: run the test with -update and adapt the page", file)
		}
		back := reflect.New(reflect.TypeOf(v))
		dec := json.NewDecoder(bytes.NewReader(want))
		dec.DisallowUnknownFields()
		if err := dec.Decode(back.Interface()); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if bytes.ContainsAny(want, "<>&") {
			t.Errorf("%s has characters that mean something in HTML", file)
		}
	}
}
