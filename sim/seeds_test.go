package sim

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	seeds = flag.Int("seeds", 300, "how many seeds TestRandomSeeds tries; CI has 10,000")
	seed  = flag.Uint64("seed", 0, "the only seed that TestRandomSeeds tries, and that of set-ups, if not 0")
)

// twice is how many of the seeds run twice, to see that nothing but the seed decides what happens.
const twice = 50

// What must always hold does in random scenarios, and soon after the last fault nobody sees anything of it any more.
func TestRandomSeeds(t *testing.T) {
	switch {
	case *seed != 0:
		tryOut(t, *seed, true)
		return
	case testing.Short():
		*seeds = min(*seeds, 20)
	}
	for _, old := range failed(t) {
		t.Run(fmt.Sprint("again=", old), func(t *testing.T) { tryOut(t, old, false) })
	}
	every := uint64(max(*seeds/twice, 1))
	Seeds(t, *seeds, func(t *testing.T, seed uint64) { tryOut(t, seed, seed%every == 0) })
}

// tryOut simulates the scenario of a seed.
func tryOut(t *testing.T, seed uint64, again bool) {
	d := random(seed)
	r, err := d.try(t)
	if err != nil {
		t.Errorf("%v\nReplay: go test ./sim -run 'TestRandomSeeds$' -seed %d", err, seed)
		s := Shrink(t, d.Scenario, func(r *Result, err error) bool { return err != nil || d.verify(r) != nil })
		t.Fatalf("These faults are enough for something of the kind: %v", s.Faults)
	}
	if again {
		if r2, _ := random(seed).try(t); r2.Hash != r.Hash || r2.String() != r.String() {
			t.Errorf("seed %d: hash of a second run = %x, want %x", seed, r2.Hash, r.Hash)
		}
	}
}

// failed returns the seeds that have failed once.
func failed(t *testing.T) (list []uint64) {
	f, err := os.Open("testdata/seeds")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		first, _, _ := strings.Cut(lines.Text(), " ")
		if first == "#" {
			continue
		}
		n, err := strconv.ParseUint(first, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

func TestRandomFaultsAreThoseOfTheSeed(t *testing.T) {
	kinds := map[string]bool{}
	for seed := range uint64(100) {
		s := eventful(seed)
		list := RandomFaults(seed, s, 5)
		if again := RandomFaults(seed, s, 5); !reflect.DeepEqual(list, again) {
			t.Fatalf("seed %d: faults %v, then %v", seed, list, again)
		}
		for _, f := range list {
			v := reflect.ValueOf(f)
			for i := range v.NumField() {
				if !v.Field(i).IsZero() {
					kinds[v.Type().Field(i).Name] = true
				}
			}
			if f.At+f.For > s.For/2 {
				t.Errorf("seed %d: a fault ends after half of the time: %v", seed, f)
			}
		}
	}
	if want := reflect.TypeFor[Fault]().NumField(); len(kinds) != want {
		t.Errorf("100 seeds have %d kinds of fields set, want %d: %v", len(kinds), want, kinds)
	}
}

func TestShrinkLeavesTheFaultThatMatters(t *testing.T) {
	s := random(1).Scenario
	s.Faults = append(s.Faults, Fault{Service: "a", At: 16 * time.Second, Fail: 1})
	fails := func(r *Result, err error) bool {
		if r == nil {
			t.Fatal(err)
		}
		return r.Success(17*time.Second, 0) < 0.5
	}
	if got := Shrink(t, s, fails).Faults; len(got) != 1 || got[0].Fail != 1 || got[0].At != 16*time.Second {
		t.Errorf("faults that are left: %v, want the last one", got)
	}
}
