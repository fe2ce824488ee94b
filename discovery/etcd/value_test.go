package etcd

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/zerohop/zerohop/discovery"
)

func TestDecodeKnownForms(t *testing.T) {
	const kratos = `{"id":"7","name":"orders","version":"v1","metadata":{"weight":"20","zone":"eu-1","version":"2"},` +
		`"endpoints":["http://192.0.2.1:8000?isSecure=false","grpcs://192.0.2.1:9000"]}`
	for name, test := range map[string]struct {
		value, scheme string
		want          discovery.Endpoint
	}{
		"go-zero":             {"192.0.2.1:8080", "", discovery.Endpoint{Addr: "192.0.2.1:8080"}},
		"go-zero with spaces": {" 192.0.2.1:8080\n", "", discovery.Endpoint{Addr: "192.0.2.1:8080"}},
		"gRPC naming":         {`{"Op":0,"Addr":"192.0.2.1:8080","Metadata":null}`, "", discovery.Endpoint{Addr: "192.0.2.1:8080"}},
		"gRPC naming with metadata": {`{"Op":0,"Addr":"192.0.2.1:8080","Metadata":{"weight":3,"zone":"eu-1","a":true,"b":1.50,"c":{"d":"e"}}}`, "",
			discovery.Endpoint{Addr: "192.0.2.1:8080", Weight: 3, Zone: "eu-1", Meta: map[string]string{"a": "true", "b": "1.50"}}},
		"gRPC naming with other metadata": {`{"Addr":"192.0.2.1:8080","Metadata":"blue"}`, "", discovery.Endpoint{Addr: "192.0.2.1:8080"}},
		"ours": {`{"Op":0,"Addr":"192.0.2.1:8080","Metadata":{"version":"2"},"Weight":5,"Zone":"eu-1","Priority":2,"Health":"draining","Tags":["a","b"]}`, "",
			discovery.Endpoint{Addr: "192.0.2.1:8080", Weight: 5, Zone: "eu-1", Priority: 2, Health: discovery.Draining,
				Meta: map[string]string{"version": "2", "tags": "a,b"}}},
		"fields before metadata": {`{"Addr":"a:1","Weight":5,"Zone":"x","Priority":2,"Metadata":{"weight":"6","zone":"y","zerohop-priority":"3"}}`, "",
			discovery.Endpoint{Addr: "a:1", Weight: 5, Zone: "x", Priority: 2, Meta: map[string]string{"weight": "6", "zone": "y", "zerohop-priority": "3"}}},
		"priority in metadata": {`{"Addr":"a:1","Metadata":{"zerohop-priority":"3"}}`, "", discovery.Endpoint{Addr: "a:1", Priority: 3}},
		"odd health":           {`{"Addr":"a:1","Health":"sick"}`, "", discovery.Endpoint{Addr: "a:1", Health: discovery.Unhealthy}},
		"odd weight":           {`{"Addr":"a:1","Weight":"heavy"}`, "", discovery.Endpoint{Addr: "a:1"}},
		"small weight":         {`{"Addr":"a:1","Weight":0.2}`, "", discovery.Endpoint{Addr: "a:1", Weight: 1}},
		"endless weight":       {`{"Addr":"a:1","Weight":1e999}`, "", discovery.Endpoint{Addr: "a:1", Weight: 1<<31 - 1}},
		"negative weight":      {`{"Addr":"a:1","Weight":-1}`, "", discovery.Endpoint{Addr: "a:1", Weight: 1<<32 - 1}},
		"Kratos, http":         {kratos, "http", discovery.Endpoint{Addr: "192.0.2.1:8000", Weight: 20, Zone: "eu-1", Meta: map[string]string{"version": "2"}}},
		"Kratos, grpc": {kratos, "grpc", discovery.Endpoint{Addr: "192.0.2.1:9000", Weight: 20, Zone: "eu-1",
			Meta: map[string]string{"version": "2", "secure": "true"}}},
		"Kratos, one URL": {`{"endpoints":["grpc://192.0.2.1:9000?isSecure=false"]}`, "", discovery.Endpoint{Addr: "192.0.2.1:9000"}},
		"Kitex": {`{"network":"tcp","address":"192.0.2.1:8888","weight":10,"tags":{"version":"2","zone":"eu-1"}}`, "",
			discovery.Endpoint{Addr: "192.0.2.1:8888", Weight: 10, Zone: "eu-1", Meta: map[string]string{"version": "2"}}},
	} {
		got, err := decode([]byte(test.value), test.scheme)
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: decode() = %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func TestDecodeSaysWhatIsWrong(t *testing.T) {
	for value, want := range map[string]string{
		"":                              "empty",
		"{":                             "unexpected end",
		`{"Addr":1}`:                    "Addr",
		`{}`:                            "none of Addr",
		`{"Addr":"a:1","Priority":256}`: "Priority",
		`{"endpoints":["grpc://a:1","http://a:2"]}`:      "Resolver.Scheme",
		`{"endpoints":["a:1"," ://","grpc://"]}`:         "no usable endpoint",
		`{"network":"unix","address":"/tmp/kitex.sock"}`: `"unix"`,
	} {
		if ep, err := decode([]byte(value), ""); want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("decode(%.60s) = %v, %v, want an error with %q", value, ep, err, want)
		}
	}
	if _, err := decode([]byte(`{"Op":1,"Addr":"a:1"}`), ""); !errors.Is(err, errGone) {
		t.Errorf("decode of a removal = %v, want %v", err, errGone)
	}
}

func newSet(service string) *set {
	return &set{
		prefix: prefixOf("", service), entries: make(map[string]*entry),
		decode: func(_ string, value []byte) (discovery.Endpoint, error) { return decode(value, "") },
	}
}

func kv(key, value string, revision int64) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: revision}
}

func TestSetPrefersTheLastOfAnAddress(t *testing.T) {
	s := newSet("a")
	for _, kv := range []*mvccpb.KeyValue{kv("a/1", `{"Addr":"a:1","Weight":1}`, 5), kv("a/2", `{"Addr":"a:1","Weight":2}`, 7), kv("a/3", "b:1", 6)} {
		if err := s.put(kv); err != nil {
			t.Fatal(err)
		}
	}
	want := []discovery.Endpoint{{Addr: "a:1", Weight: 2}, {Addr: "b:1"}, {Addr: "a:1", Weight: 1}}
	if diff := cmp.Diff(want, s.endpoints()); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
}

func TestSetTakesNoKeysOfOthers(t *testing.T) {
	s := newSet("a")
	for _, key := range []string{"a", "a/", "a-b/1", "a/b/1", "ab/1", "b/1", "/a/1"} {
		if err := s.put(kv(key, "192.0.2.1:80", 1)); err != nil || len(s.entries) != 0 {
			t.Errorf("put(%q) = %v, entries %v, want none", key, err, s.entries)
		}
	}
}

func TestSetSkipsEventsItKnows(t *testing.T) {
	s := newSet("a")
	s.revision = 10
	put := func(key string, revision int64) *mvccpb.Event {
		return &mvccpb.Event{Kv: kv(key, "192.0.2.1:80", revision)}
	}
	gone := put("a/new", 12)
	gone.Type = mvccpb.DELETE
	for n, step := range []struct {
		event *mvccpb.Event
		want  int
	}{{nil, 0}, {&mvccpb.Event{}, 0}, {put("a/old", 10), 0}, {put("a/new", 11), 1}, {gone, 0}} {
		if err := s.Apply([]*mvccpb.Event{step.event}); err != nil || len(s.entries) != step.want {
			t.Errorf("step %d: %v, %d entries, want %d", n, err, len(s.entries), step.want)
		}
	}
	if s.size != 0 {
		t.Errorf("the size of an empty set is %d", s.size)
	}
}

func TestSetIsBounded(t *testing.T) {
	s := newSet("a")
	value := strings.Repeat("x", 1<<20)
	var err error
	for n := range 32 {
		if err = s.put(kv("a/same", value, 1)); err != nil {
			t.Fatalf("put %d of the same key = %v", n, err)
		}
	}
	for n := range 32 {
		if err = s.put(kv("a/"+string(rune('a'+n)), value, 1)); err != nil {
			break
		}
	}
	if !errors.Is(err, errTooLarge) {
		t.Errorf("put of 32 MiB = %v, want %v", err, errTooLarge)
	}
}

func FuzzDecode(f *testing.F) {
	for _, value := range []string{
		"192.0.2.1:8080",
		`{"Op":0,"Addr":"192.0.2.1:8080","Metadata":{"version":"2","n":1},"Weight":5,"Zone":"eu-1","Priority":2,"Health":"draining","Tags":["a"]}`,
		`{"id":"7","name":"orders","metadata":{"weight":"20"},"endpoints":["http://192.0.2.1:8000","grpcs://192.0.2.1:9000"]}`,
		`{"network":"tcp","address":"192.0.2.1:8888","weight":-10,"tags":{"version":"2"}}`,
	} {
		f.Add([]byte(value), "grpc")
	}
	f.Fuzz(func(t *testing.T, value []byte, scheme string) {
		ep, err := decode(value, scheme)
		if err == nil && ep.Addr == "" {
			t.Errorf("decode() = %+v without an error", ep)
		}
		if err != nil && ep.Addr != "" {
			t.Errorf("decode() = %+v and %v", ep, err)
		}
		if ep.Health > discovery.Terminating {
			t.Errorf("health is %d", ep.Health)
		}
	})
}
