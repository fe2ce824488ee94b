package file

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/discovery"
)

// A writer that stops halfway, empties or removes the file leaves the mesh at the last good Spec, and what he writes in the end
// counts.
func TestMeshFollowsItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mesh.yaml")
	src := Source{Path: path, settle: 20 * time.Millisecond}
	events := make(chan config.Event, 100)
	opts := config.RunOptions{Parse: config.ParseOptions{Name: "mesh.yaml"}, Observe: func(e config.Event) { events <- e }}
	document := func(timeout string) []byte {
		return []byte("defaults: {timeout: " + timeout + "}\nroutes:\n- match: {service: orders}\n  backends: [{service: orders-2}]\n")
	}
	write(t, path, document("1s"))
	spec, err := config.Load(t.Context(), src, opts)
	if err != nil {
		t.Fatal(err)
	}
	mesh, err := zerohop.New(zerohop.Config{Spec: spec, Resolver: discovery.Static{}})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- config.Run(ctx, mesh, src, opts) }()
	defer func() { cancel(); <-done }()

	for i, step := range []struct {
		change  func()
		want    config.EventKind
		timeout time.Duration // in force afterwards
	}{
		{func() {}, config.EventUnchanged, time.Second},
		{func() { write(t, path, document("2s")) }, config.EventApplied, 2 * time.Second},
		{func() { d := document("3s"); write(t, path, d[:len(d)-20]) }, config.EventRefused, 2 * time.Second},
		{func() { write(t, path, document("3s")) }, config.EventApplied, 3 * time.Second},
		{func() { write(t, path, nil) }, config.EventRefused, 3 * time.Second},
		{func() { remove(t, path) }, config.EventMissing, 3 * time.Second},
		{func() { write(t, path, document("3s")) }, config.EventUnchanged, 3 * time.Second},
		{func() { write(t, path+".new", document("4s")); rename(t, path+".new", path) }, config.EventApplied, 4 * time.Second},
	} {
		step.change()
		late := time.After(10 * time.Second)
		for told := config.EventKind(0); told != step.want; {
			select {
			case e := <-events:
				told = e.Kind
			case <-late:
				t.Fatalf("step %d: told %v, want %v", i, told, step.want)
			}
		}
		if spec, _ := mesh.Spec(); spec.Defaults.Timeout != step.timeout {
			t.Fatalf("step %d: timeout is %v, want %v", i, spec.Defaults.Timeout, step.timeout)
		}
	}
}
