//go:build unix

package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/internal/consultest"
)

// TestCallerFindsServices runs the program as its opening comment says, against a real agent.
func TestCallerFindsServices(t *testing.T) {
	agent := consultest.Start(t, consultest.Options{})
	bin := filepath.Join(t.TempDir(), "example")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	env := append(os.Environ(), "CONSUL_HTTP_ADDR="+agent.Addr())

	var servers []*exec.Cmd
	for range 2 {
		cmd := exec.Command(bin, "serve")
		cmd.Env = env
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "serving greeter on 127.0.0.1:") {
			t.Fatalf("serve printed %q, %v: %s", line, err, stderr.String())
		}
		servers = append(servers, cmd)
	}
	caller := exec.Command(bin, "call", "-n", "3")
	caller.Env = env
	out, err := caller.CombinedOutput()
	if err != nil {
		t.Fatalf("call: %v\n%s", err, out)
	}
	if got, want := strings.Count(string(out), "hello from 127.0.0.1:"), 3; got != want {
		t.Errorf("call printed %d greetings, want %d:\n%s", got, want, out)
	}
	for _, s := range servers {
		if err := s.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := s.Wait(); err != nil {
			t.Errorf("serve ended with %v, want nil", err)
		}
	}
	client, err := api.NewClient(agent.Config(""))
	if err != nil {
		t.Fatal(err)
	}
	left, _, err := client.Health().Service("greeter", "", false, nil)
	if err != nil || len(left) != 0 {
		t.Errorf("registered after the end: %v, %v, want none", left, err)
	}
}
