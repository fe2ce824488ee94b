package config_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/config/configtest"
	"github.com/zerohop/zerohop/discovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// a is an endpoint of each service in the tests.
var resolver = discovery.Static{"orders": {{Addr: "192.0.2.1:80"}}}

func newMesh(t *testing.T, spec zerohop.Spec) *zerohop.Mesh {
	t.Helper()
	mesh, err := zerohop.New(zerohop.Config{Resolver: resolver, Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	return mesh
}

// described is an event in words.
func described(e config.Event) string {
	s := fmt.Sprintf("%v %d", e.Kind, e.Generation)
	for _, f := range e.Change.Fields {
		s += " " + f.Path
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func TestRunKeepsTheLastGoodSpec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := newMesh(t, zerohop.Spec{})
		defer mesh.Close()
		var (
			source configtest.Memory
			mu     sync.Mutex
			told   []string // guarded by mu
		)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- config.Run(ctx, mesh, &source, config.RunOptions{
				Parse: config.ParseOptions{Name: "mesh.yaml"},
				Observe: func(e config.Event) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, described(e))
				},
			})
		}()
		down := errors.New("connection refused")
		for _, step := range []struct {
			change  func()
			want    string
			timeout time.Duration // in force afterwards
		}{
			{func() {}, "missing 1", 0},
			{func() { source.Set([]byte("defaults: {timeout: 2s}")) }, "applied 2 defaults.timeout", 2 * time.Second},
			{func() { source.Set([]byte("defaults: {timeout: 2s}")) }, "unchanged 2", 2 * time.Second},
			{func() { source.Set([]byte("defaults:\n  timeout: 2000ms")) }, "unchanged 2", 2 * time.Second},
			{func() { source.Set([]byte("defaults: {timeout: 2}")) }, "refused 2: mesh.yaml:1:21: defaults.timeout: is 2", 2 * time.Second},
			{func() { source.Set([]byte("defaults:\n  timeout: -1s\n  retry: {attempts: 9}")) },
				"refused 2: mesh.yaml:2:3: defaults.timeout: must not be negative, got -1s\nmesh.yaml:3:11: defaults.retry.attempts: must be", 2 * time.Second},
			{func() { source.Set([]byte("defaults: {timeout: 2s}")) }, "unchanged 2", 2 * time.Second},
			{func() { source.Set(nil) }, "missing 2", 2 * time.Second},
			{func() { source.Set([]byte{}) }, "refused 2: mesh.yaml: the document is empty", 2 * time.Second},
			{func() { source.Set([]byte("# defaults: {timeout: 2s}\n")) }, "refused 2: mesh.yaml: the document is empty", 2 * time.Second},
			{func() { source.Break(down) }, "watch failed 2: connection refused", 2 * time.Second},
			{func() { source.Break(nil); source.Set([]byte("defaults: {timeout: 3s}")) }, "applied 3 defaults.timeout", 3 * time.Second},
			{func() { source.Set([]byte("{}")) }, "applied 4 defaults.timeout", 0},
		} {
			step.change()
			time.Sleep(time.Minute)
			synctest.Wait()
			mu.Lock()
			if len(told) == 0 || !strings.HasPrefix(told[len(told)-1], step.want) || len(told) > 1 && !strings.HasPrefix(step.want, "watch") {
				t.Errorf("told %q, want %q", told, step.want)
			}
			told = nil
			mu.Unlock()
			if spec, _ := mesh.Spec(); spec.Defaults.Timeout != step.timeout {
				t.Errorf("after %q the timeout is %v, want %v", step.want, spec.Defaults.Timeout, step.timeout)
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v, want %v", err, context.Canceled)
		}
	})
}

// Others may update the mesh, too: then the document that made it what it was counts as news.
func TestRunAppliesADocumentAgainAfterAnotherUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := newMesh(t, zerohop.Spec{})
		defer mesh.Close()
		var source configtest.Memory
		source.Set([]byte("defaults: {timeout: 2s}"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- config.Run(ctx, mesh, &source, config.RunOptions{}) }()
		time.Sleep(time.Second)
		if _, err := mesh.Update(zerohop.Spec{}); err != nil {
			t.Fatal(err)
		}
		source.Set([]byte("defaults: {timeout: 2s}"))
		time.Sleep(time.Second)
		if spec, generation := mesh.Spec(); spec.Defaults.Timeout != 2*time.Second || generation != 4 {
			t.Errorf("timeout is %v in generation %d, want 2s in 4", spec.Defaults.Timeout, generation)
		}
		cancel()
		<-done
	})
}

func TestLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var source configtest.Memory
		load := func() (zerohop.Spec, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			return config.Load(ctx, &source, config.RunOptions{Parse: config.ParseOptions{Name: "mesh.yaml"}})
		}
		if _, err := load(); !errors.Is(err, config.ErrNoDocument) {
			t.Errorf("Load() = %v, want %v", err, config.ErrNoDocument)
		}
		source.Set([]byte("defaults: {retry: {attempts: 9}}"))
		if _, err := load(); err == nil || !strings.HasPrefix(err.Error(), "mesh.yaml:1:20: defaults.retry.attempts: must be") {
			t.Errorf("Load() of an invalid document = %v", err)
		}
		source.Set([]byte(" "))
		if _, err := load(); fmt.Sprint(err) != "mesh.yaml: the document is empty: write {} for one that sets nothing" {
			t.Errorf("Load() of an empty document = %v", err)
		}
		down := errors.New("connection refused")
		source.Break(down)
		begin := time.Now()
		if _, err := load(); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, down) || time.Since(begin) != 5*time.Second {
			t.Errorf("Load() of a broken source = %v after %v, want both reasons after 5s", err, time.Since(begin))
		}
		source.Set([]byte("defaults: {timeout: 2s}"))
		time.AfterFunc(time.Second, func() { source.Break(nil) })
		if spec, err := load(); err != nil || spec.Defaults.Timeout != 2*time.Second {
			t.Errorf("Load() = %v, %v, want a timeout of 2s", spec, err)
		}
	})
}
