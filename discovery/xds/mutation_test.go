package xds

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/zerohop/zerohop/discovery"
)

// inject is a Resolver whose answers are what a store makes of resources in the encoding of the wire.
type inject struct {
	answers [][2][]byte // cluster, assignment
}

func (in inject) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	st := newStore(defaultDeleteGrace)
	st.root(service)
	for _, a := range in.answers {
		st.refresh()
		feed(st.clusters, clusterType, a[0], decodeCluster)
		st.refresh()
		feed(st.assignments, assignmentType, a[1], decodeAssignment)
		st.refresh()
		if v := st.roots[service].view; v != nil && v.err == nil {
			update(append([]discovery.Endpoint(nil), v.set...))
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// feed takes one resource as the stream does.
func feed[T any](all map[string]*resource[T], typeURL string, data []byte, decode func([]byte) (T, error)) {
	known := make(map[string]resource[T])
	for name, r := range all {
		known[name] = *r
	}
	items, _ := readAnswer([]*anypb.Any{{TypeUrl: typeURL, Value: data}}, typeURL, known, decode)
	for name, it := range items {
		all[name].take(it)
	}
}

// mutate flips bytes, cuts, repeats and inserts.
func mutate(rng *rand.Rand, data []byte) []byte {
	out := append([]byte(nil), data...)
	for range 1 + rng.IntN(4) {
		if len(out) == 0 {
			break
		}
		at := rng.IntN(len(out))
		switch rng.IntN(6) {
		case 0:
			out[at] ^= 1 << rng.IntN(8)
		case 1:
			out[at] = byte(rng.Uint32())
		case 2:
			out = append(out[:at:at], out[min(at+1+rng.IntN(8), len(out)):]...)
		case 3:
			end := min(at+1+rng.IntN(32), len(out))
			out = append(out[:end:end], out[at:]...)
		case 4:
			out = append(out[:at:at], append(protowire.AppendVarint(nil, rng.Uint64()>>rng.IntN(64)), out[at:]...)...)
		case 5:
			out = out[:at]
		}
	}
	return out
}

func TestMutatedAnswers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const count = 10_000
	cluster := marshal(t, edsCluster("a"))
	load := marshal(t, loadOf("a", manyEndpoints(20)...))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	published := 0
	for chunk := range 10 {
		answers := [][2][]byte{{cluster, load}}
		for range count / 10 {
			answers = append(answers, [2][]byte{mutate(rng, cluster), mutate(rng, load)})
		}
		answers = append(answers, [2][]byte{cluster, load})
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		_ = discovery.Run(ctx, inject{answers}, "a", discovery.RunOptions{Observe: func(e discovery.Event) {
			if e.Kind == discovery.EventWatchFailed {
				t.Errorf("chunk %d: %v", chunk, e.Err)
				cancel()
			}
		}}, func(set []discovery.Endpoint) {
			if n++; n == 1 {
				time.AfterFunc(20*time.Millisecond, cancel)
			}
			if len(set) == 0 {
				t.Errorf("chunk %d: the set became empty", chunk)
			}
		})
		cancel()
		published += n
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	t.Logf("%d sets published", published)
}

func TestAnswersAreBounded(t *testing.T) {
	// Two bytes on the wire for each locality, endpoint or resource that takes a hundred in memory.
	tiny := func(field protowire.Number, n int) []byte {
		var data []byte
		for range n {
			data = protowire.AppendBytes(protowire.AppendTag(data, field, protowire.BytesType), nil)
		}
		return data
	}
	wrapped := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), tiny(2, 1<<16))
	inline := protowire.AppendBytes(protowire.AppendTag(nil, 33, protowire.BytesType), wrapped)
	for name, call := range map[string]func() error{
		"localities": func() error { _, err := decodeAssignment(tiny(2, 1<<16)); return err },
		"endpoints":  func() error { _, err := decodeAssignment(wrapped); return err },
		"inline":     func() error { _, err := decodeCluster(inline); return err },
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if got := testing.AllocsPerRun(1, func() { err = call() }); got > 100 || err == nil {
				t.Errorf("%v allocations, error %v, want few and an error", got, err)
			}
		})
	}
}

func FuzzDecodeCluster(f *testing.F) {
	f.Add(marshal(f, edsCluster("a")))
	f.Add(marshal(f, staticCluster("a", "192.0.2.1:80")))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeCluster(data)
		if sources := btoi(c.resource != "") + btoi(c.inline != nil) + btoi(len(c.parts) > 0); err == nil && sources > 1 {
			t.Errorf("%+v has %d sources of endpoints, want one", c, sources)
		}
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func FuzzDecodeAssignment(f *testing.F) {
	f.Add(marshal(f, loadOf("a", manyEndpoints(3)...)))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := decodeAssignment(data)
		if err != nil {
			return
		}
		for _, e := range a.set {
			if e.Addr == "" || e.Weight == 0 || e.Weight > maxWeight || int(e.Priority) >= a.levels {
				t.Errorf("endpoint %+v of %d levels", e, a.levels)
			}
		}
	})
}

func BenchmarkDecodeAssignment(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			data := marshal(b, loadOf("a", manyEndpoints(n)...))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decodeAssignment(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
