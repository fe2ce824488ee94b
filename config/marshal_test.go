package config

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

// texts are what readers of YAML take for something else, and what is hard to write.
var texts = []string{
	"", "a", "on", "off", "yes", "No", "true", "null", "~", "1", "1.10", "0123", "0x1f", "1e3", ".inf", "2026-01-02", "12:30", "<<", "=", "-", "?", ":",
	"a: b", "a #b", "# a", " a", "a ", "a\nb", "\na\n", "a\r\nb", "\ta", "a\tb", "\x00", "\x7f", "\u0085", "\u2028", "\ufeff", "\ufffd", "größer", "😀", "'a'",
	`"a"`, `\n`, "${A}", "$$", "*a", "&a", "!a", "[a]", "{a: b}", "a,b", "|", ">", "%", "@", "`", "---", "...", "a\\", strings.Repeat("long ", 100), "a\n  b\n\n c",
}

// random returns a random value of a type: about a share of its fields is set.
func random(rng *rand.Rand, t reflect.Type, share float64) reflect.Value {
	v := reflect.New(t).Elem()
	if scalar(t) {
		switch {
		case t == timeType:
			v.Set(reflect.ValueOf(time.Unix(rng.Int64N(1<<33), rng.Int64N(1e9)).In(time.FixedZone("", 3600*rng.IntN(5)))))
		case t.Kind() == reflect.String:
			v.SetString(texts[rng.IntN(len(texts))])
		case t.Kind() == reflect.Bool:
			v.SetBool(rng.IntN(2) == 0)
		case v.CanFloat():
			v.SetFloat(math.Float64frombits(rng.Uint64()))
			if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
				v.SetFloat(0.1)
			}
			if rng.IntN(2) == 0 {
				v.SetFloat(float64(rng.IntN(200) - 100))
			}
		case v.CanInt():
			v.SetInt(int64(rng.Uint64() >> rng.IntN(64)))
		default:
			v.SetUint(rng.Uint64() >> rng.IntN(64))
			if list := enumOf(t); list != nil {
				v.SetUint(rng.Uint64N(uint64(len(list)) + 1))
			}
		}
		return v
	}
	switch t.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		v.Elem().Set(random(rng, t.Elem(), share))
	case reflect.Struct:
		for _, f := range fieldsOf(t) {
			if rng.Float64() < share {
				v.Field(f.index).Set(random(rng, f.typ, share))
			}
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(t))
		for range rng.IntN(3) {
			v.SetMapIndex(reflect.ValueOf(texts[rng.IntN(len(texts))]).Convert(t.Key()), random(rng, t.Elem(), share))
		}
	case reflect.Slice:
		for range rng.IntN(3) {
			v.Set(reflect.Append(v, random(rng, t.Elem(), share)))
		}
	}
	return v
}

func TestMarshalledSpecsAreReadBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 13))
	const rounds = 45
	for round := range rounds {
		share := []float64{0.05, 0.2, 0.6}[round%3]
		spec := random(rng, reflect.TypeFor[zerohop.Spec](), share).Interface().(zerohop.Spec)
		text, err := Marshal(spec)
		if err != nil {
			t.Fatalf("round %d: Marshal() = %v", round, err)
		}
		d, err := Read(text, ParseOptions{})
		if err != nil {
			t.Fatalf("round %d: Read() = %v\n%s", round, err, text)
		}
		if diff := cmp.Diff(d.Spec, spec, cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(0)); diff != "" {
			t.Fatalf("round %d: got - want +\n%s\n%s", round, diff, text)
		}
		again, err := Marshal(d.Spec)
		if err != nil || string(again) != string(text) {
			t.Fatalf("round %d: a second Marshal() differs, %v\n%s\n%s", round, err, again, text)
		}
	}
}

// Every field alone: none is left out of documents.
func TestMarshalKnowsEveryField(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var visit func(t2 reflect.Type, set func(reflect.Value) zerohop.Spec, at string)
	fields := 0
	visit = func(typ reflect.Type, set func(reflect.Value) zerohop.Spec, at string) {
		if typ.Kind() == reflect.Struct && !scalar(typ) {
			for i := range typ.NumField() {
				visit(typ.Field(i).Type, func(v reflect.Value) zerohop.Spec {
					s := reflect.New(typ).Elem()
					s.Field(i).Set(v)
					return set(s)
				}, at+"."+typ.Field(i).Name)
			}
			return
		}
		fields++
		var v reflect.Value
		for v = random(rng, typ, 1); unset(v); v = random(rng, typ, 1) {
		}
		spec := set(v)
		text, err := Marshal(spec)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		d, err := Read(text, ParseOptions{})
		if err != nil {
			t.Errorf("%s: Read(%q) = %v", at, text, err)
		} else if diff := cmp.Diff(d.Spec, spec, cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(0)); diff != "" {
			t.Errorf("%s, got - want +\n%s", at, diff)
		}
	}
	visit(reflect.TypeFor[zerohop.Policy](), func(v reflect.Value) zerohop.Spec {
		return zerohop.Spec{Services: map[string]zerohop.Policy{"a": v.Interface().(zerohop.Policy)}}
	}, "Policy")
	visit(reflect.TypeFor[routing.Rule](), func(v reflect.Value) zerohop.Spec {
		return zerohop.Spec{Routes: []routing.Rule{v.Interface().(routing.Rule)}}
	}, "Rule")
	if fields < 150 {
		t.Errorf("only %d fields were tried", fields)
	}
}

func TestMarshalWritesWhatPeopleWrite(t *testing.T) {
	got, err := Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	want := `defaults:
  timeout: 2s
  criticality: critical-plus
services:
  api.example.com: {}
  orders:
    balance: rendezvous
    hash:
      - header: X-User
      - path: true
    panic: 0.25
    retry:
      attempts: 2
      base: 25ms
      max: 1m30s
    breaker:
      mode: on
routes:
  - name: beta
    match:
      service: orders
      path:
        prefix: /v2
      headers:
        - name: X-Beta
          value: yes
      after: 2026-01-02T15:04:05Z
      percent: 12.5
    backends:
      - service: orders-beta
        weight: 1
      - service: orders
        weight: 9
    policy: slow
    rewrite:
      path:
        prefix: ""
  - match:
      service: gone
    response: {}
policies:
  slow:
    timeout: 30s
    select:
      match:
        version: "1.10"
      fallback: any
`
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("got - want +\n%s", diff)
	}
	if got, err := Marshal(zerohop.Spec{}); err != nil || string(got) != "{}\n" {
		t.Errorf("Marshal() of the zero Spec = %q, %v, want {}", got, err)
	}
}

func TestMarshalRefuses(t *testing.T) {
	for _, test := range []struct {
		policy zerohop.Policy
		want   string
	}{
		{zerohop.Policy{Balance: "\xff"}, `config: defaults: balance: "\xff" is not UTF-8`},
		{zerohop.Policy{Panic: math.NaN()}, `config: defaults: panic: must be finite, got NaN`},
		{zerohop.Policy{Panic: math.Inf(1)}, `config: defaults: panic: must be finite, got +Inf`},
		{zerohop.Policy{Criticality: 9}, `config: defaults: criticality: resilience: no such criticality: 9`},
	} {
		if _, err := Marshal(zerohop.Spec{Defaults: test.policy}); fmt.Sprint(err) != test.want {
			t.Errorf("Marshal() = %v, want %s", err, test.want)
		}
	}
	at := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	_, err := Marshal(zerohop.Spec{Routes: []routing.Rule{{Match: routing.Match{After: at}}}})
	if want := "config: routes: [0]: match: after: the year must be between 0 and 9999, got 10000"; fmt.Sprint(err) != want {
		t.Errorf("Marshal() = %v, want %s", err, want)
	}
}
