package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGatewayHidesInstancesThatFail runs the program as its opening comment says, with real backends: one breaks every
// connection.
func TestGatewayHidesInstancesThatFail(t *testing.T) {
	backend := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	echo := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s", r.URL, r.Header.Get("X-Forwarded-For"))
	}
	broken := backend(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })

	bin := filepath.Join(t.TempDir(), "gateway")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	gateway := exec.Command(bin, "-listen", "127.0.0.1:0", "orders="+broken+","+backend(echo), "users="+backend(echo))
	stdout, err := gateway.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // if the test ended early
		_ = gateway.Process.Kill()
		_ = gateway.Wait()
	})
	printed := bufio.NewReader(stdout)
	line, err := printed.ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		t.Fatalf("gateway printed %q, %v", line, err)
	}

	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return resp.StatusCode, string(body)
	}
	for range 50 {
		for _, service := range []string{"orders", "users"} {
			if code, body := get("/" + service + "/v1/42?q=1"); code != 200 || body != "/v1/42?q=1 for 127.0.0.1" {
				t.Errorf("answer of %s = %d %q", service, code, body)
			}
		}
	}
	if code, _ := get("/" + broken + "/"); code != 404 {
		t.Errorf("status for a host that is no service = %d, want 404", code)
	}
	if err := gateway.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(printed)
	want := regexp.MustCompile(`\A(GET of orders: status 200 after 2 attempts\n)+\z`)
	if err != nil || !want.Match(rest) {
		t.Errorf("gateway printed %q, %v, want what matches %v", rest, err, want)
	}
}
