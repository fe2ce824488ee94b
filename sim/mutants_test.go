package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

var mutants = flag.Bool("mutants", false, "build zerohop with defects and see whether the random seeds find them; CI does")

// mutantVariable names the defect that a binary with all of them has.
const mutantVariable = "ZEROHOP_MUTANT"

// seedsForMutant is after how many seeds a defect must have been found.
const seedsForMutant = 1000

// mutant is a defect that somebody could make, and that the tests must find.
type mutant struct {
	name string // as in a sentence: what is wrong
	file string
	old  string // a regular expression with a single match
	new  string // what becomes of it; mutant(name) is true in the process that has the defect
	test string // that must find it; that of random seeds if empty
}

// The defects are made by what the compiler reads instead of a file, go build -overlay, and not by build tags: code that
// users run has no trace of them, and still it takes a single build. Where a file has changed so that a defect is not
// found in it any more, the test says so.
var defects = []mutant{
	{name: "a permit of a breaker is kept when nothing came of its attempt",
		file: "loadbalance/pick.go", old: `\bp\.permit\.Done\(.*\)`,
		new: `if !mutant(NAME) || r.Outcome != resilience.Neutral { $0 }`},
	{name: "an attempt that was given up stays in flight",
		file: "loadbalance/pick.go", old: `\n\tn\.end\(\)\n`,
		new: "\nif mutant(NAME) && r.Outcome == resilience.Neutral { return }$0"},
	{name: "the share of ejected endpoints is that before the ejection",
		file: "loadbalance/outlier.go", old: `after := ejected \+ 1`,
		new: "$0\nif mutant(NAME) { after-- }"},
	{name: "an endpoint returns by an answer from before its ejection",
		file: "loadbalance/ejection.go", old: `if until <= 0 \|\| int64\(start\) <= h\.since\.Load\(\) \{`,
		new: `if until <= 0 || int64(start) <= h.since.Load() && !mutant(NAME) {`},
	{name: "the sum of weights has 32 bits",
		file: "loadbalance/roundrobin.go", old: `sum \+= uint64\(weight\(n\)\)\n`,
		new: "$0\nif mutant(NAME) { sum &= 1<<32 - 1 }\n", test: "TestHugeWeightsAreShared"},
	{name: "the budget grants every repetition",
		file: "service.go", old: `\bs\.budget = resilience\.NewBudget\(.*\)`,
		new: `if !mutant(NAME) { $0 }`},
	{name: "backups are free",
		file: "resilience/call.go", old: `c\.Config\.Budget\.(Take\(\)|take\(now\))`,
		new: `(mutant(NAME) || $0)`},
	{name: "what must not be repeated is, after it was sent",
		file: "resilience/call.go", old: `case !v\.Unsent && !c\.Config\.Idempotent:`,
		new: `case !v.Unsent && !c.Config.Idempotent && !mutant(NAME):`},
	{name: "attempts begin although the deadline will have passed",
		file: "resilience/call.go", old: `return d == 0 \|\|`,
		new: `return mutant(NAME) || d == 0 ||`},
	{name: "pauses have no jitter",
		file: "resilience/backoff.go", old: `\bunit\(r\)\)`,
		new: `map[bool]float64{false: unit(r), true: 1}[mutant(NAME)])`},
	{name: "an empty answer of a registry is believed at once",
		file: "discovery/guard.go", old: `\(left == 0 \|\|`,
		new: `(left == 0 && !mutant(NAME) ||`},
	{name: "a registry that forgets most endpoints is believed at once",
		file: "discovery/guard.go", old: `gone > 1 && of >= fewGuarded`,
		new: `!mutant(NAME) && $0`, test: "TestRegistryFaultsComeToClients"},
	{name: "a call that goes away while it waits for a place gets it later",
		file: "resilience/limit.go", old: `l\.dismiss\(t\)\n\treturn true\n`,
		new: "if !mutant(NAME) { l.dismiss(t) }\n\treturn true\n"},
	{name: "those who wait for a place get it whatever their level",
		file: "resilience/limit_queue.go", old: `for i := levels - 1; i >= 0; i-- \{\n`,
		new: "$0\nif mutant(NAME) { i = levels - 1 - i }\nswitch l := &q.lines[i]; { case mutant(NAME) && l.n > 0: return l.oldest; case mutant(NAME): i = levels - 1 - i; continue }\n"},
	{name: "a limit of calls in flight lets in one too many",
		file: "resilience/limit.go", old: `if l\.inflight < (l\.rooms\[t\.level\]) && !t`,
		new: `if (l.inflight < $1 || mutant(NAME) && l.inflight == $1) && !t`},
	{name: "a rate limit has one turn more than its burst",
		file: "resilience/ratelimit.go", old: `l\.ahead = .*\n`,
		new: "$0\nif mutant(NAME) { l.ahead += l.interval }\n"},
	{name: "the context of an attempt ends with its answer",
		file: "answer.go", old: `mine := a\.answer\n`,
		new: "$0\nif mine && mutant(NAME) { defer a.scope().cancel() }\n"},
}

func TestDefectsAreFound(t *testing.T) {
	if !*mutants {
		t.Skip("builds the module anew: make test has it")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	binary := build(t, root)
	t.Logf("built in %v", time.Since(began).Round(time.Second))
	if out, err := run(binary, "none", "TestFindDefect", 20); err != nil {
		t.Fatalf("something is found where there is no defect: %v\n%s", err, out)
	}
	for _, m := range defects {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			test := m.test
			if test == "" {
				test = "TestFindDefect"
			}
			out, err := run(binary, m.name, test, seedsForMutant)
			if err == nil {
				t.Fatal("the defect is not found")
			}
			t.Logf("%s", last(out))
		})
	}
}

// build returns a binary of the tests of this package with all defects in it.
func build(t *testing.T, root string) string {
	dir := t.TempDir()
	replace := map[string]string{}
	write := func(path string, content []byte) {
		tmp := filepath.Join(dir, fmt.Sprint(len(replace), ".go"))
		if err := os.WriteFile(tmp, content, 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, path)] = tmp
	}
	patched := map[string][]byte{}
	for _, m := range defects {
		code := patched[m.file]
		if code == nil {
			var err error
			if code, err = os.ReadFile(filepath.Join(root, m.file)); err != nil {
				t.Fatal(err)
			}
		}
		old := regexp.MustCompile(m.old)
		if n := len(old.FindAll(code, -1)); n != 1 {
			t.Errorf("%s has %d places for the defect that %s, want 1: %s", m.file, n, m.name, m.old)
			continue
		}
		patched[m.file] = old.ReplaceAll(code, []byte(strings.ReplaceAll(m.new, "NAME", strconv.Quote(m.name))))
	}
	packages := map[string]string{}
	for file, code := range patched {
		write(file, code)
		packages[filepath.Dir(file)] = filepath.Base(filepath.Dir(filepath.Join("zerohop", file)))
	}
	for dir, name := range packages {
		write(filepath.Join(dir, "mutant.go"), fmt.Appendf(nil,
			"package %s\n\nimport \"os\"\n\nvar defect = os.Getenv(%q)\n\nfunc mutant(name string) bool { return name == defect }\n", name, mutantVariable))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "sim.test")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-c", "-overlay="+list, "-o", binary, "./sim")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

func run(binary, defect, test string, seeds int) ([]byte, error) {
	cmd := exec.Command(binary, "-test.run=^"+test+"$", fmt.Sprint("-seeds=", seeds))
	cmd.Env = append(os.Environ(), mutantVariable+"="+defect)
	return cmd.CombinedOutput()
}

// last returns the line that tells of the seed that found a defect, and the one after it.
func last(out []byte) (line string) {
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if s := lines.Text(); strings.Contains(s, "seed ") || strings.Contains(s, "panic") || strings.Contains(s, "_test.go") {
			line = strings.TrimSpace(s)
		}
	}
	return line
}

// TestFindDefect is what binaries with a defect run: seeds until one finds something.
func TestFindDefect(t *testing.T) {
	if os.Getenv(mutantVariable) == "" {
		t.Skip("has no defect")
	}
	for seed := range uint64(*seeds) {
		if _, err := random(seed + 1).try(t); err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			t.Fatalf("seed %d: %s", seed+1, first)
		}
	}
}

// Weights at their limit add up to more than 32 bits in a service of 5,000 endpoints. No random scenario has so many.
func TestHugeWeightsAreShared(t *testing.T) {
	heavy(t)
	const endpoints = 5000
	r := Run(t, Scenario{
		Services: map[string]Service{"s": {Endpoints: endpoints, Weights: []uint32{1_000_000, 900_000}}},
		Clients:  []Client{{Service: "s", Rate: 10_000, Mesh: policy(zerohop.Policy{Balance: "weighted-round-robin"})}},
		For:      2 * time.Second,
	})
	var odd, late int
	s := r.Services["s"]
	for i, e := range s.Endpoints {
		if i%2 == 1 {
			odd += e.Started(0, 0)
		}
		if i >= endpoints/2 {
			late += e.Started(0, 0)
		}
	}
	all := float64(s.Attempts.Started(0, 0))
	for _, part := range []struct {
		name      string
		got, want float64
	}{{"the lighter half", float64(odd) / all, 0.9 / 1.9}, {"the second half", float64(late) / all, 0.5}} {
		if part.got < 0.95*part.want || part.got > 1.05*part.want {
			t.Errorf("%s of the endpoints gets %.4f of the calls, want %.4f within 5 %%", part.name, part.got, part.want)
		}
	}
}
