package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
)

// post asks an Admin, as a page of the same origin, unless change says otherwise.
func post(a http.Handler, body string, change func(*http.Request)) (int, AdminAnswer) {
	r := httptest.NewRequest(http.MethodPost, "/admin", strings.NewReader(body))
	r.Host = "localhost:8080"
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", "http://localhost:8080")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("X-User", "ann")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	var answer AdminAnswer
	_ = json.Unmarshal(w.Body.Bytes(), &answer)
	return w.Code, answer
}

// audits keeps what was audited.
type audits struct {
	mu   sync.Mutex // guards list
	list []AuditEvent
}

func (a *audits) add(ev AuditEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, ev)
}

func (a *audits) take() []AuditEvent {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.list
	a.list = nil
	return list
}

func byHeader(r *http.Request) (string, error) {
	if r.Header.Get("X-User") == "" {
		return "", errors.New("who are you?")
	}
	return r.Header.Get("X-User"), nil
}

func openAdmin(t *testing.T, c *Console) (*Admin, *audits) {
	log := &audits{}
	a, err := NewAdmin(AdminConfig{Console: c, Authorize: byHeader, Audit: log.add})
	if err != nil {
		t.Fatal(err)
	}
	return a, log
}

func TestNewAdminNamesMistakes(t *testing.T) {
	c := open(t, Config{})
	for field, cfg := range map[string]AdminConfig{
		"authorize":   {Console: c},
		"console":     {Authorize: byHeader},
		"maxDuration": {Console: c, Authorize: byHeader, MaxDuration: 25 * time.Hour},
	} {
		if _, err := NewAdmin(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("NewAdmin without %s = %v", field, err)
		}
	}
}

func TestAdminRefuses(t *testing.T) {
	c := open(t, Config{})
	m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {}}})
	if err := call(t.Context(), m, "orders", 0, nil); err != nil {
		t.Fatal(err)
	}
	a, log := openAdmin(t, c)
	const good = `{"action":"eject","service":"orders","addr":"10.0.0.1:80","for":"1m","why":"disk is full"}`
	header := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	for _, test := range []struct {
		what, body string
		change     func(*http.Request)
		want       int
		strange    bool // nobody is known
	}{
		{"foreign host", good, func(r *http.Request) { r.Host = "evil.example" }, 403, true},
		{"other site", good, header("Sec-Fetch-Site", "cross-site"), 403, true},
		{"site beside", good, header("Sec-Fetch-Site", "same-site"), 403, true},
		{"other origin of an old browser", good, func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "http://evil.example") }, 403, true},
		{"origin null", good, func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "null") }, 403, true},
		{"nobody", good, func(r *http.Request) { r.Header.Del("X-User") }, 403, true},
		{"form", "action=eject", header("Content-Type", "application/x-www-form-urlencoded"), 415, false},
		{"text", good, header("Content-Type", "text/plain"), 415, false},
		{"no type", good, func(r *http.Request) { r.Header.Del("Content-Type") }, 415, false},
		{"too long", `{"why":"` + strings.Repeat("x", maxAdminRequest) + `"}`, nil, 413, false},
		{"no JSON", "eject", nil, 400, false},
		{"two requests", good + good, nil, 400, false},
		{"unknown field", strings.Replace(good, `"why"`, `"because"`, 1), nil, 400, false},
		{"no reason", strings.Replace(good, "disk is full", "", 1), nil, 400, false},
		{"no time limit", strings.Replace(good, `"for":"1m",`, "", 1), nil, 400, false},
		{"for ever", strings.Replace(good, "1m", "9000h", 1), nil, 400, false},
		{"too long for this admin", strings.Replace(good, "1m", "61m", 1), nil, 400, false},
		{"for no time", strings.Replace(good, "1m", "-1s", 1), nil, 400, false},
		{"unknown action", strings.Replace(good, "eject", "delete", 1), nil, 422, false},
		{"unknown service", strings.Replace(good, "orders", "nobody", 1), nil, 404, false},
		{"unknown mesh", strings.Replace(good, `"service"`, `"mesh":"7","service"`, 1), nil, 404, false},
		{"unknown endpoint", strings.Replace(good, "10.0.0.1", "10.9.9.9", 1), nil, 404, false},
		{"no endpoint", strings.Replace(good, `"addr":"10.0.0.1:80",`, "", 1), nil, 422, false},
		{"state of no breaker", strings.Replace(good, `"for"`, `"state":"forced-open","for"`, 1), nil, 400, false},
		{"state that is none", `{"action":"force breaker","service":"orders","state":"ajar","for":"1m","why":"x"}`, nil, 422, false},
		{"release of nothing", `{"action":"release","service":"orders","why":"x"}`, nil, 422, false},
		{"release for a while", `{"action":"release","service":"orders","for":"1m","why":"x"}`, nil, 400, false},
	} {
		status, answer := post(a, test.body, test.change)
		if status != test.want || answer.Done || answer.Error == "" {
			t.Errorf("%s: %d %+v, want %d", test.what, status, answer, test.want)
		}
		list := log.take()
		if len(list) != 1 || list[0].Err == nil || (list[0].Who == "") != test.strange {
			t.Errorf("%s: audited %+v, want one refusal", test.what, list)
		}
		if test.strange && (answer.Error != errNobody.Error() || list[0].Request != (AdminRequest{})) {
			t.Errorf("%s: a stranger was told %q, and %+v was read", test.what, answer.Error, list[0].Request)
		}
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "OPTIONS"} {
		if status, _ := post(a, good, func(r *http.Request) { r.Method = method }); status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d, want 405", method, status)
		}
	}
	if v := view[ServiceView](t, c, "/api/service?service=orders"); v.Line.Out != 0 {
		t.Errorf("%d endpoints are out, want 0: all was refused", v.Line.Out)
	}
	events := view[EventsView](t, c, "/api/events").Events
	if len(events) == 0 || events[0].Kind != "admin refused" || events[0].By != "ann" {
		t.Errorf("last event = %+v, want that ann was refused", events)
	}
}

func TestAdminActsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{AdminPath: "/admin"})
		four := discovery.Static{"orders": {{Addr: "10.0.0.1:80"}, {Addr: "10.0.0.2:80"}, {Addr: "10.0.0.3:80"}, {Addr: "10.0.0.4:80"}}}
		m := mesh(t, c.Hooks(), four, zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {ServiceBreaker: zerohop.Breaker{Mode: zerohop.On}}}})
		if err := call(t.Context(), m, "orders", 0, nil); err != nil {
			t.Fatal(err)
		}
		a, log := openAdmin(t, c)
		do := func(body string) {
			t.Helper()
			if status, answer := post(a, body, nil); status != http.StatusOK || !answer.Done {
				t.Fatalf("%s: %d %+v", body, status, answer)
			}
			list := log.take()
			if len(list) != 1 || list[0].Err != nil || list[0].Who != "ann" || list[0].Request.Why != "disk is full" || list[0].Time.IsZero() || list[0].Remote == "" {
				t.Errorf("%s: audited %+v", body, list)
			}
		}
		line := func() ServiceLine { return view[Summary](t, c, "/api/summary?service=orders").Services[0] }
		status := func() Status { return view[ServiceView](t, c, "/api/service?service=orders").Endpoints[0].Status }

		for action, want := range map[string]Status{"eject": StatusOut, "drain": StatusDraining} {
			do(`{"action":"` + action + `","mesh":"1","service":"orders","addr":"10.0.0.1:80","for":"1m","why":"disk is full"}`)
			time.Sleep(fresh)
			if got := status(); got != want {
				t.Errorf("%s: %s, want %s", action, got, want)
			}
			for range 20 {
				_, err := zerohop.Do(t.Context(), m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
					if n.Addr() == "10.0.0.1:80" {
						t.Errorf("%s: a call went there", action)
					}
					return 0, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := status(); got != StatusOK {
				t.Errorf("%s, after its time: %s, want ok", action, got)
			}
		}
		do(`{"action":"pause retries","service":"orders","for":"1m","why":"disk is full"}`)
		do(`{"action":"force breaker","state":"forced-open","service":"orders","for":"1m","why":"disk is full"}`)
		time.Sleep(fresh)
		if l := line(); l.RetriesPaused <= 0 || l.Forced <= 0 || l.Breaker != string(resilience.BreakerForcedOpen) || l.Status != StatusDown {
			t.Errorf("line = %+v, want retries paused and the breaker forced open", l)
		}
		do(`{"action":"release","service":"orders","why":"disk is full"}`)
		time.Sleep(fresh)
		if l := line(); l.RetriesPaused != 0 || l.Forced != 0 || l.Status != StatusOK {
			t.Errorf("line = %+v, want nothing of operators", l)
		}
		var acts, ends int
		for _, e := range view[EventsView](t, c, "/api/events?service=orders").Events {
			switch e.Kind {
			case "operator":
				acts++
				if e.By != "ann" || !strings.Contains(e.Text, "disk is full") {
					t.Errorf("event = %+v, want who and why", e)
				}
			case "operator_ended":
				ends++
			}
		}
		if acts != 4 || ends != 4 {
			t.Errorf("%d actions and %d ends in the timeline, want 4 of each", acts, ends)
		}
		if got := view[Summary](t, c, "/api/summary").Admin; got != "/admin" {
			t.Errorf("admin path = %q", got)
		}
	})
}

func TestAdminReadsWhatIsWritten(t *testing.T) {
	c := open(t, Config{})
	m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {}}})
	if err := call(t.Context(), m, "orders", 0, nil); err != nil {
		t.Fatal(err)
	}
	a, log := openAdmin(t, c)
	const good = `{"action":"eject","service":"orders","addr":"10.0.0.1:80","for":"1m","why":"disk is full"}`
	for what, body := range map[string]string{
		"a key twice":              strings.Replace(good, `"for"`, `"service":"stock","for"`, 1),
		"a key twice, escaped":     strings.Replace(good, `"for"`, `"\u0073ervice":"orders","for"`, 1),
		"a key in capital letters": strings.Replace(good, `"for"`, `"FOR"`, 1),
		"a key in two cases":       strings.Replace(good, `"for"`, `"Service":"orders","for"`, 1),
		"null":                     "null",
		"a list":                   "[" + good + "]",
		"deep":                     strings.Repeat("[", 8000),
		"a number":                 strings.Replace(good, `"1m"`, "60000000000", 1),
		"no number":                strings.Replace(good, `"1m"`, `"NaN"`, 1),
		"infinite":                 strings.Replace(good, `"1m"`, `"Inf"`, 1),
		"huge":                     strings.Replace(good, `"1m"`, `"99999999999999999999h"`, 1),
		"overflow":                 strings.Replace(good, `"1m"`, `"2562047h47m16.854775808s"`, 1),
		"too short to be":          strings.Replace(good, `"1m"`, `"0.1ns"`, 1),
		"garbage behind":           good + "]",
	} {
		status, answer := post(a, body, nil)
		if status != http.StatusBadRequest || answer.Done || answer.Error == "" {
			t.Errorf("%s: %d %+v, want 400", what, status, answer)
		}
		if list := log.take(); len(list) != 1 || list[0].Err == nil || list[0].Who != "ann" {
			t.Errorf("%s: audited %+v, want one refusal of ann", what, list)
		}
	}
	if status, answer := post(a, " "+good+"\n", nil); status != http.StatusOK {
		t.Errorf("%d %+v, want that it is done", status, answer)
	}
}

func TestAdminTellsOfAuthorizeThatPanics(t *testing.T) {
	c := open(t, Config{})
	log := &audits{}
	a, err := NewAdmin(AdminConfig{Console: c, Audit: log.add, Authorize: func(*http.Request) (string, error) { panic("no database") }})
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is hidden")
			}
		}()
		post(a, `{"action":"release","service":"orders","why":"x"}`, nil)
	}()
	if list := log.take(); len(list) != 1 || list[0].Err == nil || list[0].Who != "" {
		t.Errorf("audited %+v, want one refusal", list)
	}
	if v := view[EventsView](t, c, "/api/events"); len(v.Events) != 1 || v.Events[0].Kind != "admin refused" {
		t.Errorf("events %+v, want a refusal", v)
	}
}

func TestAdminCountsFromWhenItActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Config{})
		m := mesh(t, c.Hooks(), twoServices, zerohop.Spec{Services: map[string]zerohop.Policy{"orders": {}}})
		_ = call(t.Context(), m, "orders", 0, nil)
		a, err := NewAdmin(AdminConfig{Console: c, Authorize: func(*http.Request) (string, error) { time.Sleep(30 * time.Second); return "ann", nil }})
		if err != nil {
			t.Fatal(err)
		}
		status, answer := post(a, `{"action":"eject","service":"orders","addr":"10.0.0.1:80","for":"1m","why":"x"}`, nil)
		if want := time.Now().Add(time.Minute); status != http.StatusOK || !answer.Until.Equal(want) {
			t.Errorf("%d, until %v, want %v", status, answer.Until, want)
		}
	})
}
