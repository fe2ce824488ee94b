package zerohop_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wallClock are the methods of time.Time whose result is about the wall clock, which may step by an hour at any time.
// Differences between times from time.Now are not: these have a monotonic reading as well, which Round(0) takes away.
var wallClock = []string{
	"Round", "Truncate", "Unix", "UnixMilli", "UnixMicro", "UnixNano", "UTC", "Local", "In", "Date", "Clock", "Format", "MarshalJSON",
}

// knownSteps are where the wall clock is looked at in code that decides, and why that does no harm.
var knownSteps = map[string]string{
	"call.go: Round":             "tells whether a deadline has a monotonic reading: if not, the caller means the wall clock",
	"resilience/stack.go: Round": "the same",
}

// No timeout, budget, breaker or cache may go by the wall clock. Simulations cannot show that: their clock does not step.
func TestDecisionsDoNotUseTheWallClock(t *testing.T) {
	used := map[string]bool{}
	for _, dir := range []string{".", "resilience", "loadbalance", "discovery", "routing", "healthcheck"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && path != dir && (dir == "." || d.Name() == "testdata"):
				return filepath.SkipDir
			case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			for _, use := range usesOfWallClock(t, path) {
				if used[use] = true; knownSteps[use] == "" {
					t.Errorf("%s: the wall clock may step; see knownSteps in clock_test.go", use)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for use := range knownSteps {
		if !used[use] {
			t.Errorf("%s is allowed, but not used any more", use)
		}
	}
}

// usesOfWallClock returns "file: method" for each call of such a method on something else than a duration.
func usesOfWallClock(t *testing.T, path string) (uses []string) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains(wallClock, sel.Sel.Name) {
			return true
		}
		if len(call.Args) == 1 { // durations are rounded, too, but never by 0
			if arg, ok := call.Args[0].(*ast.BasicLit); sel.Sel.Name == "Truncate" || sel.Sel.Name == "Round" && !(ok && arg.Value == "0") {
				return true
			}
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == "math" {
			return true
		}
		uses = append(uses, filepath.ToSlash(path)+": "+sel.Sel.Name)
		return true
	})
	return uses
}
