package vet

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zerohop/zerohop/config"
)

// now is when testdata is judged.
var now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// read returns the document in a file.
func read(t testing.TB, name string) Document {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	d, err := config.Read(data, config.ParseOptions{Name: filepath.Base(name)})
	if err != nil {
		t.Fatal(err)
	}
	return Document{Name: filepath.Base(name), Spec: d.Spec, Locate: locator(d)}
}

func locator(d *config.Document) func(string) (int, int) {
	return func(path string) (line, column int) {
		line, column, _ = d.Position(path)
		return line, column
	}
}

// readGraph returns the graph in a file, and the documents that it names.
func readGraph(t testing.TB, name string) (*Graph, []Document) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	g := &Graph{Name: filepath.Base(name)}
	d, err := config.Decode(data, config.ParseOptions{Name: g.Name}, g)
	if err != nil {
		t.Fatal(err)
	}
	g.Locate = locator(d)
	var documents []Document
	seen := map[string]bool{"": true}
	for _, s := range g.Services {
		if !seen[s.Spec] {
			seen[s.Spec] = true
			documents = append(documents, read(t, filepath.Join(filepath.Dir(name), s.Spec)))
		}
	}
	return g, documents
}

// wanted returns what the comments "# want: ..." of files say.
func wanted(t testing.TB, names ...string) []string {
	t.Helper()
	list := []string{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "# want: "); ok {
				list = append(list, rest)
			}
		}
	}
	slices.Sort(list)
	return list
}

// brief returns findings as "severity id document path", sorted.
func brief(findings []Finding) []string {
	list := []string{}
	for _, f := range findings {
		list = append(list, strings.Join([]string{string(f.Severity), f.ID, f.Document, f.Path}, " "))
	}
	slices.Sort(list)
	return list
}

// Each file of testdata has the findings that it says, and no other. Those that say nothing are good.
func TestEveryFaultIsFoundAndNothingElse(t *testing.T) {
	specs, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil || len(specs) < 40 {
		t.Fatalf("%d files in testdata, %v", len(specs), err)
	}
	found := map[string]bool{}
	for _, dir := range dirs(t) {
		files, _ := filepath.Glob(filepath.Join(dir, "*.yaml"))
		t.Run(filepath.Base(dir), func(t *testing.T) {
			findings, err := Run(judge(t, dir))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := brief(findings), wanted(t, files...); !cmp.Equal(got, want) {
				t.Errorf("findings differ from those wanted (-want +got):\n%s", cmp.Diff(want, got))
				for _, f := range findings {
					t.Log(f)
				}
			}
			for _, f := range findings {
				found[f.ID] = true
				if f.Line == 0 && f.Document != "" {
					t.Errorf("no line for %v", f)
				}
			}
		})
	}
	for _, c := range Checks() {
		if !found[c.ID] {
			t.Errorf("nothing in testdata has a finding of %s", c.ID)
		}
	}
}

func dirs(t testing.TB) []string {
	t.Helper()
	list, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// judge returns what is in a directory of testdata.
func judge(t testing.TB, dir string) Config {
	t.Helper()
	c := Config{Now: now}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(files, filepath.Join(dir, "graph.yaml")) {
		c.Graph, c.Documents = readGraph(t, filepath.Join(dir, "graph.yaml"))
		return c
	}
	for _, f := range files {
		c.Documents = append(c.Documents, read(t, f))
	}
	return c
}

// There are 10^9 ways through the graph.
func TestDenseGraphsAreVettedInTime(t *testing.T) {
	const layers, width = 10, 10
	name := func(layer, i int) string { return fmt.Sprintf("s%d-%d", layer, i) }
	g := &Graph{Name: "dense", Entries: []Entry{{Service: name(0, 0), Rate: 1, Deadline: time.Second}}, Services: map[string]Service{}}
	for layer := range layers {
		for i := range width {
			s := Service{Instances: 4}
			for to := range width {
				if layer+1 < layers {
					s.Calls = append(s.Calls, Call{Service: name(layer+1, to)})
				}
			}
			g.Services[name(layer, i)] = s
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := Run(Config{Graph: g})
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("a graph of 100 services is not vetted in 20s")
	}
}
