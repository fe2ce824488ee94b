package config_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/config/configtest"
	"github.com/zerohop/zerohop/loadbalance"
)

func TestJudgeAppliesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := newMesh(t, zerohop.Spec{})
		defer mesh.Close()
		var (
			source configtest.Memory
			mu     sync.Mutex
			told   []string        // guarded by mu
			shadow *zerohop.Shadow // guarded by mu
		)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- config.Judge(ctx, mesh, &source, config.RunOptions{Observe: func(e config.Event) {
				mu.Lock()
				defer mu.Unlock()
				text, _, _ := strings.Cut(described(e), ":")
				if told = append(told, text); e.Kind == config.EventJudged {
					shadow = e.Shadow
				}
			}})
		}()
		step := func(document string) {
			time.Sleep(time.Second)
			source.Set([]byte(document))
			time.Sleep(time.Second)
		}
		step("defaults: {timeout: 1ms}")
		step("defaults:\n  timeout: 1ms")
		if _, err := zerohop.Do(t.Context(), mesh, "orders", func(context.Context, *loadbalance.Node) (int, error) {
			time.Sleep(time.Second)
			return 0, nil
		}); err != nil {
			t.Errorf("a call that only the document would cut: %v", err)
		}
		step("defaults: {timeout: -1s}")
		mu.Lock()
		report := shadow.Report()
		mu.Unlock()
		if report.Calls != 1 || len(report.Services) != 1 || report.Services[0].LostToTime != 1 {
			t.Errorf("Report() = %v, want one call, lost to time", report)
		}
		if _, got := mesh.Spec(); got != 1 {
			t.Errorf("the mesh has generation %d, want the first one", got)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Judge() = %v, want that its context has ended", err)
		}
		before := shadow.Report().Calls
		_, _ = zerohop.Do(t.Context(), mesh, "orders", func(context.Context, *loadbalance.Node) (int, error) { return 0, nil })
		if got := shadow.Report().Calls; got != before {
			t.Errorf("%d calls were judged after Judge returned", got-before)
		}
		if want := []string{"missing 1", "judged 1", "unchanged 1", "refused 1"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}
