package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// The columns.
const plainHTTP, meshHTTP, plainGRPC, meshGRPC = 0, 1, 2, 3

func TestCallsSurviveFaultsWithZerohopOnly(t *testing.T) {
	var s *show
	for range 3 { // a machine that stalls by itself says little about faults
		s = newShow(&screen{out: io.Discard}, 1500*time.Millisecond)
		if err := s.play(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.late() < busy {
			break
		}
	}
	for _, b := range s.backends {
		if b.cmd.ProcessState == nil {
			t.Errorf("backend %s still runs", b.name)
		}
	}
	for n, p := range story {
		all := s.results[n].stats()
		for column, st := range all {
			if want := int(s.length.Seconds() * rate); st.calls != want {
				t.Errorf("%s, %s: %d calls, want %d", p.name, headings[column], st.calls, want)
			}
		}
		if p.fault == beHealthy {
			continue
		}
		if all[plainHTTP].failed == 0 {
			t.Errorf("%s: the plain HTTP client lost no call", p.name)
		}
		// round_robin of grpc-go leaves a broken connection out by itself.
		if all[plainGRPC].failed == 0 && p.fault != beKilled {
			t.Errorf("%s: the plain gRPC client lost no call", p.name)
		}
	}
	if s.noticed == 0 {
		t.Error("the registry did not notice that a backend was killed")
	}
	checkMesh(t, s, meshHTTP, plainHTTP)
	checkMesh(t, s, meshGRPC, plainGRPC)
}

// checkMesh compares a client on the mesh with a plain one.
func checkMesh(t *testing.T, s *show, mesh, other int) {
	t.Helper()
	var calls, lost, executed, lostByOther int
	for n := range story {
		all := s.results[n].stats()
		st := all[mesh]
		calls, lost, executed = calls+st.calls, lost+st.failed, executed+st.executed()
		lostByOther += all[other].failed
		if st.failure != nil {
			t.Logf("%s, column %d: lost %d of %d, the first one: %v", story[n].name, mesh, st.failed, st.calls, st.failure)
		}
	}
	if got := float64(executed) / float64(calls); got < 0.95 || got > 1.2 {
		t.Errorf("column %d: %.3f attempts per call with zerohop, want about 1", mesh, got)
	}
	compare := fmt.Sprintf("column %d: lost %d of %d calls with zerohop and %d without", mesh, lost, calls, lostByOther)
	if late := s.late(); late >= busy { // a stall takes calls from both
		t.Logf("calls began up to %v late, so that losses are not held to 0.1 %%; %s", late, compare)
		if lost > lostByOther {
			t.Error(compare)
		}
		return
	}
	if lost*4 > lostByOther || lost*1000 > calls {
		t.Errorf("%s, want at most a quarter of that and 0.1 %%", compare)
	}
}

// A writerFunc is an io.Writer.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestBackendThatEndsUnaskedEndsTheShow(t *testing.T) {
	var s *show
	s = newShow(&screen{out: writerFunc(func(p []byte) (int, error) {
		return len(p), s.backends[0].cmd.Process.Kill() // as soon as the first phase is announced
	})}, time.Minute)
	err := s.play(t.Context())
	if want := "backend a ended unasked"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("play = %v, want an error that says %q", err, want)
	}
}
