package vet

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the list of checks in docs/vet.md anew")

const listBegins = "<!-- What follows is written by: go test ./vet -run Documentation -update -->\n"

// The documentation has every check, with an example from testdata and what is said of it.
func TestDocumentationListsTheChecks(t *testing.T) {
	const name = "../docs/vet.md"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(text), listBegins)
	if !ok {
		t.Fatalf("%s has no line %q", name, listBegins)
	}
	want := head + listBegins + list(t)
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(text) {
		t.Errorf("%s is out of date: go test ./vet -run Documentation -update", name)
	}
}

// list is what the documentation says of each check.
func list(t *testing.T) string {
	type example struct {
		files []string
		line  string
	}
	examples := map[string]example{}
	for _, dir := range dirs(t) {
		files, _ := filepath.Glob(filepath.Join(dir, "*.yaml"))
		findings, err := Run(judge(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range findings {
			old, ok := examples[f.ID]
			if !ok || len(files) < len(old.files) {
				examples[f.ID] = example{files, f.String()}
			}
		}
	}
	var b strings.Builder
	b.WriteString("\n| id | severity | needs a graph | |\n|---|---|---|---|\n")
	for _, c := range Checks() {
		graph := ""
		if c.Graph {
			graph = "yes"
		}
		fmt.Fprintf(&b, "| [%s](#%[1]s) | %s | %s | %s |\n", c.ID, c.Severity, graph, c.Summary)
	}
	for _, c := range Checks() {
		e := examples[c.ID]
		fmt.Fprintf(&b, "\n### %s\n\n%s %s\n\n**What to do.** %s\n\n```yaml\n", c.ID, sentence(c.Summary), c.Why, c.Do)
		for i, name := range e.files {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "# %s\n", filepath.Base(name))
			for line := range strings.Lines(string(data)) {
				if !strings.HasPrefix(line, "# want: ") {
					b.WriteString(line)
				}
			}
		}
		fmt.Fprintf(&b, "```\n\n```\n%s\n```\n", e.line)
	}
	return b.String()
}
