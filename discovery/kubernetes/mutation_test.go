package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/kubeapi"
)

// encode returns object as the server would send it.
func encode(t testing.TB, media string, object kruntime.Object) []byte {
	t.Helper()
	info, _ := kruntime.SerializerInfoForMediaType(kubeapi.Codecs.SupportedMediaTypes(), media)
	data, err := kruntime.Encode(kubeapi.Codecs.EncoderForVersion(info.Serializer, discoveryv1.SchemeGroupVersion), object)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// frame returns an event as the server would send it in a stream.
func frame(t testing.TB, media string, kind watch.EventType, object kruntime.Object) []byte {
	t.Helper()
	info, _ := kruntime.SerializerInfoForMediaType(kubeapi.Codecs.SupportedMediaTypes(), media)
	event := &metav1.WatchEvent{Type: string(kind), Object: kruntime.RawExtension{Raw: encode(t, media, object)}}
	var out bytes.Buffer
	if err := info.StreamSerializer.Encode(event, info.StreamSerializer.Framer.NewFrameWriter(&out)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// listOf returns a list of slices with 100 endpoints each, as the control plane fills them.
func listOf(n int) *discoveryv1.EndpointSliceList {
	list := &discoveryv1.EndpointSliceList{ListMeta: metav1.ListMeta{ResourceVersion: "5"}}
	for i := range n {
		if i%100 == 0 {
			list.Items = append(list.Items, slice(fmt.Sprintf("orders-%d", i)))
		}
		s := &list.Items[len(list.Items)-1]
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)},
			NodeName:   ptr(fmt.Sprintf("node-%d", i%50)),
			Zone:       ptr(fmt.Sprintf("zone-%d", i%3)),
			TargetRef:  ref(i),
		})
	}
	return list
}

// mutate returns data with a few changes that a parser may not like.
func mutate(r *rand.Rand, data []byte) []byte {
	data = slices.Clone(data)
	hostile := []string{
		"null", "-1", "1e999", "99999999999999999999", "[]", "{}", `""`, "true", `"169.254.169.254"`, `"::1"`, `"fe80::1%eth0"`,
		`"0.0.0.0"`, "\"\x00\"", `"a\nb"`, "\xff\xff\xff\xff", "\x00\x00\x00\x00", strings.Repeat("[", 2000), strings.Repeat("x", 5000),
	}
	for range 1 + r.IntN(4) {
		if len(data) < 2 {
			return data
		}
		at := r.IntN(len(data))
		end := min(len(data), at+1+r.IntN(40))
		switch r.IntN(6) {
		case 0:
			data[at] ^= byte(1 << r.IntN(8))
		case 1:
			data = slices.Delete(data, at, end)
		case 2:
			data = slices.Insert(data, at, data[at:end]...)
		case 3:
			data = slices.Replace(data, at, end, []byte(hostile[r.IntN(len(hostile))])...)
		case 4: // a value of JSON
			if i := bytes.IndexByte(data[at:], ':'); i >= 0 {
				value := at + i + 1
				if j := bytes.IndexAny(data[value:], ",}]"); j >= 0 {
					data = slices.Replace(data, value, value+j, []byte(hostile[r.IntN(len(hostile))])...)
				}
			}
		case 5:
			data = data[:at]
		}
	}
	return data
}

// Whatever a server answers, what was known stays in use.
func TestMutatedAnswersLeaveTheLastSet(t *testing.T) {
	rounds := 10_000
	if testing.Short() {
		rounds = 500
	}
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	good := listOf(5)
	leaving := good.Items[0].DeepCopy()
	leaving.Endpoints[0].Conditions.Terminating = ptr(true)
	var lists, streams [][]byte
	media := []string{kubeapi.JSONType, kubeapi.ProtobufType}
	for _, m := range media {
		lists = append(lists, encode(t, m, good))
		streams = append(streams, slices.Concat(frame(t, m, watch.Added, &good.Items[0]), frame(t, m, watch.Modified, leaving),
			frame(t, m, watch.Error, status(500, "etcd"))))
	}
	target := target{name: "orders", namespace: "default"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var published, empty atomic.Int32
	// One watch for each answer, as Run would start them; it is ended by its resolver.
	answers := 0
	err := discovery.Run(ctx, resolverFunc(func(_ context.Context, _ string, update func([]discovery.Endpoint)) error {
		m := &merged{}
		apply := func() error {
			set, _, err := m.set(time.Time{})
			if err == nil {
				update(set)
			}
			return err
		}
		put := func(s *discoveryv1.EndpointSlice, exists bool) error {
			if err := m.put(s, exists); err != nil {
				return err
			}
			return apply()
		}
		must(t, m.replace(good.Items, target))
		must(t, apply())
		for answers < rounds {
			answers++
			i := r.IntN(len(media))
			if r.IntN(2) == 0 {
				list, err := kubeapi.ParseList[*discoveryv1.EndpointSliceList](response(media[i], mutate(r, lists[i])))
				if err == nil && m.replace(list.Items, target) == nil {
					_ = apply() // fails if no slice has a port
				}
			} else {
				_, _ = kubeapi.Events(response(media[i], mutate(r, streams[i])), "5", put)
			}
		}
		cancel()
		return ctx.Err()
	}), "orders", discovery.RunOptions{}, func(set []discovery.Endpoint) {
		published.Add(1)
		if len(set) == 0 {
			empty.Add(1)
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %v", err)
	}
	if published.Load() == 0 || empty.Load() > 0 {
		t.Errorf("%d of %d sets are empty with seed %d, want none", empty.Load(), published.Load(), seed)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := int64(after.HeapAlloc) - int64(before.HeapAlloc); got > 64<<20 {
		t.Errorf("%d bytes more are in use after %d answers", got, answers)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type resolverFunc func(context.Context, string, func([]discovery.Endpoint)) error

func (f resolverFunc) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	return f(ctx, service, update)
}

func response(media string, body []byte) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {media}}, Body: io.NopCloser(bytes.NewReader(body))}
}

// Run takes at most 10,000 endpoints.
func TestHugeAnswerLeavesTheLastSet(t *testing.T) {
	m := &merged{}
	if err := m.replace(listOf(10_001).Items, target{name: "orders", namespace: "default"}); err != nil {
		t.Fatal(err)
	}
	huge, _, err := m.set(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sizes []int
	var rejected error
	_ = discovery.Run(ctx, resolverFunc(func(_ context.Context, _ string, update func([]discovery.Endpoint)) error {
		update([]discovery.Endpoint{{Addr: "192.0.2.1:80"}})
		update(huge)
		cancel()
		return ctx.Err()
	}), "orders", discovery.RunOptions{Observe: func(e discovery.Event) {
		if e.Kind == discovery.EventAnswerRejected {
			rejected = e.Err
		}
	}}, func(set []discovery.Endpoint) { sizes = append(sizes, len(set)) })
	if len(sizes) != 1 || sizes[0] != 1 || rejected == nil {
		t.Errorf("sets of sizes %v, rejected for %v, want one of 1 and a rejection", sizes, rejected)
	}
}

func FuzzList(f *testing.F) {
	for _, media := range []string{kubeapi.JSONType, kubeapi.ProtobufType} {
		f.Add(media, encode(f, media, listOf(3)))
	}
	f.Fuzz(func(t *testing.T, media string, data []byte) {
		list, err := kubeapi.ParseList[*discoveryv1.EndpointSliceList](response(media, data))
		if (err == nil) != (list != nil) {
			t.Fatalf("kubeapi.ParseList[*discoveryv1.EndpointSliceList]() = %v, %v", list, err)
		}
		if err != nil {
			return
		}
		m := &merged{}
		if m.replace(list.Items, target{name: "orders", namespace: "default"}) == nil {
			checkSet(t, m)
		}
	})
}

func FuzzStream(f *testing.F) {
	list := listOf(3)
	for _, media := range []string{kubeapi.JSONType, kubeapi.ProtobufType} {
		f.Add(media, slices.Concat(frame(f, media, watch.Added, &list.Items[0]), frame(f, media, watch.Error, status(410, "gone"))))
	}
	f.Fuzz(func(t *testing.T, media string, data []byte) {
		m := &merged{slices: make(map[string]part)}
		if _, err := kubeapi.Events(response(media, data), "5", m.put); err == nil {
			t.Fatal("the end of a stream is no error")
		}
		checkSet(t, m)
	})
}

// checkSet checks that no address stands in the set twice, and that it fails only without endpoints.
func checkSet(t *testing.T, m *merged) {
	t.Helper()
	set, _, err := m.set(time.Now())
	if err != nil && len(set) > 0 {
		t.Fatalf("set() = %v, %v", set, err)
	}
	seen := make(map[string]bool)
	for _, e := range set {
		if seen[e.Addr] {
			t.Fatalf("%q is in the set twice", e.Addr)
		}
		seen[e.Addr] = true
	}
}

// From the bytes of an answer to what Run takes over.
func BenchmarkAnswerToSet(b *testing.B) {
	for _, n := range []int{100, 1_000, 10_000} {
		for name, media := range map[string]string{"protobuf": kubeapi.ProtobufType, "JSON": kubeapi.JSONType} {
			data := encode(b, media, listOf(n))
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					ctx, cancel := context.WithCancel(b.Context())
					got := 0
					_ = discovery.Run(ctx, resolverFunc(func(_ context.Context, _ string, update func([]discovery.Endpoint)) error {
						defer cancel()
						list, err := kubeapi.ParseList[*discoveryv1.EndpointSliceList](response(media, data))
						if err != nil {
							b.Fatal(err)
						}
						m := &merged{}
						if err := m.replace(list.Items, target{name: "orders", namespace: "default"}); err != nil {
							b.Fatal(err)
						}
						set, _, err := m.set(time.Now())
						if err != nil {
							b.Fatal(err)
						}
						update(set)
						return ctx.Err()
					}), "orders", discovery.RunOptions{}, func(set []discovery.Endpoint) { got = len(set) })
					if got != n {
						b.Fatalf("%d endpoints, want %d", got, n)
					}
				}
			})
		}
	}
}

// What a watch keeps of its slices.
func BenchmarkMemoryOfWatch(b *testing.B) {
	const n = 10_000
	data := encode(b, kubeapi.ProtobufType, listOf(n))
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	var m *merged
	for b.Loop() {
		list, err := kubeapi.ParseList[*discoveryv1.EndpointSliceList](response(kubeapi.ProtobufType, data))
		if err != nil {
			b.Fatal(err)
		}
		m = &merged{}
		if err := m.replace(list.Items, target{name: "orders", namespace: "default"}); err != nil {
			b.Fatal(err)
		}
		if _, _, err := m.set(time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(heap()-before)/(n/1000), "B/1000-endpoints")
	runtime.KeepAlive(m)
}
