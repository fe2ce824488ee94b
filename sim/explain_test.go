package sim

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

// What calls say of their decisions follows from the seed, too.
func TestSeedDecidesExplanations(t *testing.T) {
	run := func(seed uint64) (texts []string) {
		s := eventful(seed)
		s.For = 4 * time.Second
		s.Clients[0].Mesh.Spec.Defaults.Explain.Sample = 0.5
		for i := range s.Clients {
			s.Clients[i].Mesh.Hooks.Explained = func(_ context.Context, e *zerohop.Explanation) {
				data, err := json.Marshal(e)
				if err != nil {
					t.Error(err)
				}
				texts = append(texts, string(data))
			}
		}
		Run(t, s)
		return texts
	}
	first, again := run(7), run(7)
	if len(first) < 50 || len(first) != len(again) {
		t.Fatalf("%d explanations, and %d with the same seed", len(first), len(again))
	}
	for i := range first {
		if first[i] != again[i] {
			t.Fatalf("explanation %d of %d differs:\n%s\n%s", i, len(first), first[i], again[i])
		}
	}
	t.Logf("%d explanations", len(first))
}
