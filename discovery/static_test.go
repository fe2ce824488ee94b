package discovery

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

func TestStaticDeliversACopyAndBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		static := Static{"orders": endpoints("b:1", "a:1"), "idle": nil}
		ctx, cancel := context.WithCancel(t.Context())
		var got [][]Endpoint
		done := make(chan error, 1)
		go func() { done <- static.Watch(ctx, "orders", func(set []Endpoint) { got = append(got, set) }) }()
		synctest.Wait()
		if len(got) != 1 || addrs(got[0]) != "b:1 a:1" {
			t.Fatalf("sets %v, want b:1 a:1 once", got)
		}
		clear(got[0])
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch() = %v, want %v", err, context.Canceled)
		}
		if want := "b:1 a:1"; addrs(static["orders"]) != want {
			t.Errorf("the callee changed the source to %v, want %s", static["orders"], want)
		}
	})
}

func TestStaticFindsAServiceWhateverItsCase(t *testing.T) {
	static := Static{"Orders": endpoints("a:1"), "ORDERS": endpoints("b:1"), "orders2": endpoints("c:1")}
	for service, want := range map[string]string{"Orders": "a:1", "ORDERS": "b:1", "orders": "b:1", "ORDERS2": "c:1"} {
		ctx, cancel := context.WithCancel(t.Context())
		var got string
		err := static.Watch(ctx, service, func(set []Endpoint) {
			got = addrs(set)
			cancel()
		})
		if got != want || !errors.Is(err, context.Canceled) {
			t.Errorf("Watch(%q) found %q and ended with %v, want %q", service, got, err, want)
		}
	}
}

func TestStaticNamesAnUnknownService(t *testing.T) {
	err := Static{"orders": nil}.Watch(t.Context(), "ordres", func([]Endpoint) { t.Error("update of an unknown service") })
	if !errors.Is(err, ErrUnknownService) || !strings.Contains(err.Error(), "ordres") {
		t.Errorf("Watch() = %v, want %v with the name", err, ErrUnknownService)
	}
}
