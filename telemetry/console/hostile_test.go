package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/resilience"
	"github.com/zerohop/zerohop/routing"
)

// hostile are texts that mean something to a browser, a terminal or a reader.
var hostile = []string{
	"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "' onmouseover='alert(1)", "&lt;b&gt;", "</script><svg/onload=alert(1)>", "javascript:alert(1)",
	"\u202egnp.exe", "a\u2066b\u2069", "\u200f\u200e", "\x00\x01\x1b[31mred\x1b[0m", "line\nbreak\r\n\r\nSet-Cookie: a=b", "\u2028\u2029", "\xff\xfe\xc0\xaf", "\xed\xa0\x80",
	"e\u0301\u0301\u0301\u0301\u0301", "\ufeff\u200b\u00ad", "\U000e0041\U000e0042", "\u0085\u009f\x7f", `\u{202e}`, `\`, "data: x\n\nevent: summary\ndata: {}", strings.Repeat("\u202e<", 500), "日本語 ok", "\u115f\u3164\uffa0",
	"\ufe0f\ufe00", "{{.}}", "${jndi:ldap://x}", "__proto__", "constructor",
}

// everything shows a text wherever views have one.
func everything(s string) []any {
	st := zerohop.ServiceState{
		Name: s, Balance: s, Discovery: zerohop.DiscoveryState{Known: true, Err: errors.New(s)}, Budget: -1, Throttle: -1,
		Endpoints: []zerohop.EndpointState{{Addr: s, Zone: s, Health: s, Ejection: s, EjectedUntil: time.Now().Add(time.Hour), Meta: map[string]string{s: s, "plain": s}}},
	}
	o := &openMesh{id: "1", collector: &collector{}}
	list := []any{o.line(&st, nil, time.Now(), true), discoveryView(&st.Discovery, time.Now()), endpointView(&st.Endpoints[0], nil, time.Now(), 1, 2)}
	e := zerohop.Explanation{
		CallInfo: zerohop.CallInfo{Service: s, Host: s, Route: s, Lane: s, Method: s, Protocol: s, Instead: s}, Error: s, Reason: zerohop.Reason(s), N: 1, NR: 1,
		CallResult: zerohop.CallResult{Outcome: resilience.Failure, Err: errors.New(s)},
	}
	e.Tries[0] = zerohop.Try{Addr: s, Zone: s, Error: s}
	e.Tries[0].Choice.N, e.Tries[0].Choice.Nodes = 1, 1
	e.Tries[0].Choice.Compared[0] = loadbalance.Candidate{Addr: s, Zone: s}
	e.Refusals[0].Stage = zerohop.Stage(s)
	k := kept{1, "1", &e}
	list = append(list, k.view())
	for _, kind := range []zerohop.StateKind{zerohop.StateEjected, zerohop.StateOperator, zerohop.StateShedding, zerohop.StateKind(s)} {
		list = append(list, stateEvent("1", s, zerohop.StateEvent{Kind: kind, Addr: s, Zone: s, Cause: s, By: s, Why: s, To: resilience.BreakerState(s)}))
	}
	for kind := range discovery.EventKind(12) {
		list = append(list, discoveryEvent("1", s, discovery.Event{Kind: kind, Err: errors.New(s)}))
	}
	list = append(list,
		healthEvent("1", s, zerohop.HealthEvent{Endpoint: discovery.Endpoint{Addr: s, Zone: s}, Err: errors.New(s)}),
		updateEvent("1", zerohop.UpdateEvent{Err: errors.New(s)}), updateEvent("1", zerohop.UpdateEvent{Change: zerohop.Change{Fields: []zerohop.FieldChange{{Path: s, Old: s, New: s}}}}),
	)
	fields := []routing.Field{{Name: s, Value: s}}
	rule := routing.Rule{
		Name: s, Policy: s, Match: routing.Match{Service: s, Method: s, Path: routing.Path{Exact: s}, RPC: routing.RPC{Service: s, Method: s}, Headers: fields, Query: fields, Cookies: fields, Lane: s},
		Or:       []routing.Match{{Path: routing.Path{Prefix: s}}, {Path: routing.Path{Regex: s}}},
		Backends: []routing.Backend{{Service: s, Select: map[string]string{s: s}}}, Mirrors: []routing.Mirror{{Service: s}},
	}
	return append(list, routeView("1", 0, &rule, nil), value(s, s), value("plain", s), hashText(zerohop.HashSource{Header: s}), AdminAnswer{Error: text(s)})
}

// checkShown checks that JSON has nothing that means something to a browser or cannot be seen.
func checkShown(t *testing.T, what string, data []byte) {
	t.Helper()
	if i := bytes.IndexAny(data, "<>&\u2028\u2029\x7f"); i >= 0 {
		t.Fatalf("%s: %q in %.200q", what, data[i], data[max(0, i-50):])
	}
	for _, c := range bytes.TrimSuffix(data, []byte("\n")) {
		if c < ' ' {
			t.Fatalf("%s: control character %#x in JSON", what, c)
		}
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil || !utf8.Valid(data) {
		t.Fatalf("%s: %v", what, err)
	}
	var walk func(key string, v any)
	walk = func(key string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				walk(k, x)
			}
		case []any:
			for _, x := range v {
				walk(key, x)
			}
		case string:
			if key == "text" {
				v = strings.ReplaceAll(v, "\n", "")
			}
			if len(v) > 64<<10 {
				t.Fatalf("%s: %s has %d bytes", what, key, len(v))
			}
			for _, r := range v {
				if r == utf8.RuneError || r != ' ' && !unicode.IsGraphic(r) || unicode.In(r, unicode.Bidi_Control, unicode.Cf, unicode.Cc, unicode.Co, unicode.Cs, unicode.Mn, unicode.Me, unicode.Zl, unicode.Zp) {
					t.Fatalf("%s: %s shows %U in %.200q", what, key, r, v)
				}
			}
		}
	}
	walk("", v)
}

func FuzzNothingHostileIsShown(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for i, v := range everything(s) {
			data, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			checkShown(t, fmt.Sprintf("view %d of %.100q", i, s), data)
		}
		if len(s) <= maxText {
			if got := spelled(t, name(s)); got != s {
				t.Fatalf("%q is shown as %q, which reads %q", s, name(s), got)
			}
		}
	})
}

// spelled returns the name that is shown as that.
func spelled(t *testing.T, shown string) string {
	var b []byte
	for i := 0; i < len(shown); {
		rest := shown[i:]
		switch {
		case strings.HasPrefix(rest, `\\`):
			b, i = append(b, '\\'), i+2
		case rest[0] == '\\':
			end := strings.IndexByte(rest, '}')
			n, err := strconv.ParseUint(rest[3:end], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			if rest[1] == 'x' {
				b = append(b, byte(n))
			} else {
				b = utf8.AppendRune(b, rune(n))
			}
			i += end + 1
		default:
			b, i = append(b, rest[0]), i+1
		}
	}
	return string(b)
}

// What a registry says comes through all requests without harm, and is found again by the name that is shown.
func TestHostileNamesComeThroughRequests(t *testing.T) {
	c := open(t, Config{Name: hostile[0] + "\u202e\xff"})
	r, spec := discovery.Static{}, zerohop.Spec{Services: map[string]zerohop.Policy{}}
	for i, s := range hostile {
		if s = strings.ToLower(s); len(s) <= 253 {
			spec.Services[s] = zerohop.Policy{}
			r[s] = []discovery.Endpoint{{Addr: fmt.Sprintf("10.0.0.%d:80", i+1), Zone: s, Meta: map[string]string{s: s}}}
		}
	}
	const printable = "<img/src=x/onerror=alert(1)>" // all that a spec lets through
	spec.Policies = map[string]zerohop.Policy{printable: {Timeout: time.Second}}
	spec.Routes = []routing.Rule{{Name: printable, Policy: printable, Backends: []routing.Backend{{Service: printable}}}}
	m := mesh(t, c.Named(hostile[6]), r, spec)
	for s := range spec.Services {
		_ = call(t.Context(), m, s, 0, errors.New(s))
	}
	c.sample()
	for _, target := range []string{"/api/summary", "/api/routes", "/api/failures", "/api/events?limit=1000", "/api/topology"} {
		w := ask(c, target)
		if w.Code != http.StatusOK {
			t.Errorf("GET %s: %d", target, w.Code)
		}
		checkShown(t, target, w.Body.Bytes())
	}
	lines := view[Summary](t, c, "/api/summary").Services
	if len(lines) < len(spec.Services) {
		t.Errorf("%d services are shown, want %d", len(lines), len(spec.Services))
	}
	for _, l := range lines {
		for _, path := range []string{"service", "policy"} {
			w := ask(c, "/api/"+path+"?service="+url.QueryEscape(l.Service))
			if w.Code != http.StatusOK {
				t.Errorf("%s of %q: %d", path, l.Service, w.Code)
			}
			checkShown(t, path, w.Body.Bytes())
		}
		if w := ask(c, "/api/policy?policy="+url.QueryEscape(printable)+"&service="+url.QueryEscape(l.Service)); w.Code != http.StatusOK {
			t.Errorf("policy of %q under a route: %d", l.Service, w.Code)
		}
	}
	for _, s := range hostile { // as parameters
		for _, path := range []string{"service", "summary", "policy", "routes", "failures", "events", "topology"} {
			w := ask(c, "/api/"+path+"?service="+url.QueryEscape(s)+"&mesh="+url.QueryEscape(s)+"&policy="+url.QueryEscape(s))
			if body := w.Body.String(); strings.Contains(body, "<") || strings.ContainsRune(body, '\u202e') {
				t.Errorf("%s of %q: %s", path, s, body)
			}
		}
	}
}

func TestSecretsAreLeftOut(t *testing.T) {
	const secret = "hunter2hunter2"
	for _, s := range []string{
		"https://user:" + secret + "@host/path", "postgres://" + secret + "@db:5432/x?sslmode=off", `Get "http://orders/v1?token=` + secret + `": EOF`,
		"redis://:" + secret + "@[::1]:6379", "http://host/#" + secret, "password=" + secret, "Password: " + secret, `{"api_key": "` + secret + `"}`, "api-key=" + secret + "; x", "Authorization: Bearer " + secret,
		"got header bearer " + secret, "client_secret='" + secret + "'", "DB_PASSWORD=" + secret + ",HOST=x", "X-Auth-Token: " + secret, "set cookie=" + secret,
		"https://user:p@" + secret + "@host/path", `Get "https://user:` + secret, "dial https://user:" + secret + "/rest", // cut, or not escaped
		fmt.Sprintf("status 401: %q", `{"password":"`+secret+`"}`), fmt.Sprintf("%q", fmt.Sprintf("%q", `{"token": "`+secret+`"}`)), `{"password":"a\"` + secret + `"}`, `{"password":"` + secret, `{"password": "a ` + secret,
		"Authorization: ApiKey " + secret, "authorization: Token " + secret, "pwd=" + secret, "passphrase: " + secret, "session_id=" + secret, "aws_access_key_id=" + secret,
		"http://h/?" + strings.Repeat("a", 4*maxText-40) + " redis://user:" + secret + "/" + strings.Repeat("b", 40) + "@host",
	} {
		if got := text(s); strings.Contains(got, secret) {
			t.Errorf("text(%q) = %q", s, got)
		}
	}
	for _, key := range []string{"password", "DB_PASSWD", "apiKey", "api-key", "x.token", "Authorization", "secret-ref", "session", "private_key", "auth", "sas", "db.key", "dsn", "COOKIE"} {
		if got := value(key, secret); got != redacted {
			t.Errorf("value of %s = %q, want it left out", key, got)
		}
	}
	for _, s := range []string{"dial tcp 10.0.0.1:80: connect: connection refused", "version 1.2.3", "http://orders/v1/orders: EOF", "no token for you", "http://orders:8080/v1: EOF", "http://[::1]:80", "https://10.0.0.1:443"} {
		if got := text(s); got != s {
			t.Errorf("text(%q) = %q, want it as it is", s, got)
		}
	}
	for key, s := range map[string]string{"version": "1", "zone": "a", "author": "x", "monkey": "y", "keyboard": "z", "compass": "n"} {
		if got := value(key, s); got != s {
			t.Errorf("value of %s = %q, want %q", key, got, s)
		}
	}
}

func TestNumbersAreOnesThatJSONHas(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.SmallestNonzeroFloat64, -1e-310, math.MaxFloat64, 1e-300, 0, -1} {
		if _, err := json.Marshal(round(v)); err != nil {
			t.Errorf("round(%v) = %v: %v", v, round(v), err)
		}
	}
}
