package discovery

import "testing"

func TestNamesAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for k := EventKind(0); k <= EventEnded; k++ {
		seen[k.String()] = true
	}
	if got, want := len(seen), 9; got != want {
		t.Errorf("%d names of kinds, want %d", got, want)
	}
	clear(seen)
	for h := Healthy; h <= Unhealthy+1; h++ {
		seen[h.String()] = true
	}
	if got, want := len(seen), 4; got != want {
		t.Errorf("%d names of health, want %d", got, want)
	}
}
