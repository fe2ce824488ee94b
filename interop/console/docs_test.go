package console

import (
	"os"
	"strings"
	"testing"
)

func TestDocumentationShowsTheExample(t *testing.T) {
	var files [2]string
	for i, name := range []string{"../../docs/console.md", "example_test.go"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = strings.ReplaceAll(string(data), "\t", "")
	}
	blocks := strings.Split(files[0], "```go\n")[1:]
	if len(blocks) != 1 {
		t.Fatalf("docs/console.md has %d blocks of Go, want 1", len(blocks))
	}
	if code, _, _ := strings.Cut(blocks[0], "```"); !strings.Contains(files[1], code) {
		t.Errorf("not in example_test.go:\n%s", code)
	}
}
