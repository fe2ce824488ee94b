//go:build unix

package etcdtest

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// do sends a request to the JSON gateway of etcd: the key is "a", the value "b", both in base64.
func do(t *testing.T, s *Server, call, body string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post("http://"+s.Addr()+"/v3/kv/"+call, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, %s %s", call, err, resp.Status, text)
	}
	return string(text)
}

func TestServerLivesThroughSignals(t *testing.T) {
	s := Start(t, Options{})
	has := func() bool { return strings.Contains(do(t, s, "range", `{"key":"YQ=="}`), `"value":"Yg=="`) }
	do(t, s, "put", `{"key":"YQ==","value":"Yg=="}`)
	s.Stop(t)
	if s.healthy() {
		t.Error("a stopped server answers")
	}
	s.Cont(t)
	if !has() {
		t.Error("the key is gone after a pause")
	}
	s.Kill(t)
	if s.healthy() {
		t.Error("a killed server answers")
	}
	s.Restart(t)
	if !has() {
		t.Error("the key is gone after a restart")
	}
	s.Kill(t)
	s.Wipe(t)
	s.Restart(t)
	if has() {
		t.Error("the key is there after its data was removed")
	}
}

func TestClusterOutlivesAServer(t *testing.T) {
	servers := StartCluster(t, 3, Options{})
	do(t, servers[0], "put", `{"key":"YQ==","value":"Yg=="}`)
	servers[0].Kill(t)
	if !ready(t, servers[1:]) {
		t.Fatal("the others have ended")
	}
	if got := do(t, servers[1], "range", `{"key":"YQ=="}`); !strings.Contains(got, `"value":"Yg=="`) {
		t.Errorf("range after the loss of a server = %s, want the value", got)
	}
	servers[0].Restart(t)
}
