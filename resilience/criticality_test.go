package resilience

import (
	"encoding/json"
	"testing"
)

func TestCriticalityReadsWhatItWrites(t *testing.T) {
	for _, want := range []Criticality{Unspecified, Sheddable, SheddablePlus, Critical, CriticalPlus} {
		text, err := want.MarshalText()
		if err != nil {
			t.Fatalf("MarshalText() of %v: %v", want, err)
		}
		got := Criticality(99)
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("UnmarshalText(%q) = %v, %v, want %v", text, got, err, want)
		}
		if want != Unspecified && string(text) != want.String() {
			t.Errorf("MarshalText() = %q, want %q", text, want.String())
		}
	}
	if text, err := (CriticalPlus + 1).MarshalText(); err == nil {
		t.Errorf("MarshalText() beyond the last level = %q, want an error", text)
	}
	if got := (CriticalPlus + 1).String(); got != "unknown" {
		t.Errorf("String() beyond the last level = %q, want unknown", got)
	}
}

func TestCriticalityReadsNothingElse(t *testing.T) {
	for _, text := range []string{" critical", "Critical", "CRITICAL_PLUS", "sheddable_plus", "unspecified", "unknown", "3", "\x00"} {
		got := Sheddable
		if err := got.UnmarshalText([]byte(text)); err == nil || got != Sheddable {
			t.Errorf("UnmarshalText(%q) = %v, %v, want an error and no change", text, got, err)
		}
	}
}

func TestCriticalityIsData(t *testing.T) {
	type policy struct {
		C Criticality `json:"c,omitempty"`
	}
	for want, c := range map[string]Criticality{`{}`: Unspecified, `{"c":"sheddable"}`: Sheddable, `{"c":"critical-plus"}`: CriticalPlus} {
		got, err := json.Marshal(policy{c})
		if err != nil || string(got) != want {
			t.Errorf("Marshal() = %s, %v, want %s", got, err, want)
		}
		var p policy
		if err := json.Unmarshal(got, &p); err != nil || p.C != c {
			t.Errorf("Unmarshal(%s) = %v, %v, want %v", got, p.C, err, c)
		}
	}
}

func TestOnlyUnspecifiedCriticalityGivesWay(t *testing.T) {
	if got := Unspecified.Or(Sheddable); got != Sheddable {
		t.Errorf("Or() = %v, want sheddable", got)
	}
	if got := Sheddable.Or(CriticalPlus); got != Sheddable {
		t.Errorf("Or() = %v, want sheddable", got)
	}
}
