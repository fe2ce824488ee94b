package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// snippets returns the blocks of YAML in the documentation, by name.
func snippets(t testing.TB) map[string]string {
	t.Helper()
	list := map[string]string{}
	for _, page := range []string{"configuration.md", "lanes.md", "routing.md"} {
		text, err := os.ReadFile("../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range strings.Split(string(text), "\n```yaml\n")[1:] {
			block, _, closed := strings.Cut(block, "\n```")
			if !closed {
				t.Fatalf("%s: block %d has no end", page, i)
			}
			list[fmt.Sprintf("%s, block %d", page, i+1)] = block + "\n"
		}
	}
	if len(list) < 6 {
		t.Fatalf("%d blocks of YAML in the documentation", len(list))
	}
	return list
}

func TestDocumentationIsValid(t *testing.T) {
	for name, text := range snippets(t) {
		unset := func(string) (string, bool) { return "", false }
		if _, err := Parse([]byte(text), ParseOptions{Name: name, Expand: unset}); err != nil {
			t.Error(err)
		}
	}
}
