//go:build unix

package faulttest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// One call in fifteen is refused by the first backend it gets to, which the default budget can pay for. The backends
// say where calls have been.
func TestUnavailableIsRepeatedElsewhere(t *testing.T) {
	const (
		calls    = 15_000
		unlikely = 15
		callers  = 16
	)
	list := startBackends(t, 5, capacity{Workers: 100, Mean: time.Millisecond, Fixed: true})
	m, _ := newMesh(t, static(protocols[1].addrs(list)))
	client := meshedEcho(t, m, service)
	var next atomic.Int64
	var work sync.WaitGroup
	for range callers {
		work.Go(func() {
			for i := next.Add(1); i <= calls; i = next.Add(1) {
				text := fmt.Sprint("lucky ", i)
				if i%unlikely == 0 {
					text = fmt.Sprint(unlucky, " ", i)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				ctx = zerohop.WithCall(ctx, zerohop.CallOptions{Backup: zerohop.Off}) // it would be served elsewhere, too
				r, err := client.Say(ctx, &echopb.SayRequest{Text: text})
				cancel()
				if err != nil || r.Text != text {
					t.Errorf("call %q = %v, %v", text, r, err)
				}
			}
		})
	}
	work.Wait()

	refusedBy, servedBy := map[string][]int{}, map[string][]int{}
	for i, b := range list {
		here := map[string]int{}
		for _, text := range b.logged(t, refused) {
			refusedBy[text] = append(refusedBy[text], i)
			here[text]--
		}
		for _, text := range b.logged(t, began) {
			if here[text]++; here[text] > 0 && strings.HasPrefix(text, unlucky) {
				servedBy[text] = append(servedBy[text], i)
			}
		}
	}
	elsewhere := 0
	for text, by := range refusedBy {
		if to := servedBy[text]; len(by) == 1 && len(to) == 1 && by[0] != to[0] {
			elsewhere++
		} else {
			t.Errorf("%q was refused by %v and served by %v, want one each and not the same", text, by, to)
		}
	}
	t.Logf("%d of %d calls that a backend refused were repeated on another one", elsewhere, len(refusedBy))
	if want := calls / unlikely; elsewhere != want {
		t.Errorf("%d calls were repeated on another backend, want %d", elsewhere, want)
	}
}
