package etcd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/zerohop/zerohop/discovery"
)

var goodValues = []string{
	"192.0.2.1:8080",
	`{"Op":0,"Addr":"192.0.2.2:8080","Metadata":{"version":"2","n":1},"Weight":5,"Zone":"eu-1","Priority":2,"Health":"draining","Tags":["a"]}`,
	`{"id":"7","name":"orders","metadata":{"weight":"20"},"endpoints":["http://192.0.2.3:8000?isSecure=false"]}`,
	`{"network":"tcp","address":"192.0.2.4:8888","weight":10,"tags":{"version":"2"}}`,
}

var hostile = []string{
	"null", "[]", "{}", `""`, "-1", "1e999", "99999999999999999999", "169.254.169.254:80", "127.0.0.1:80", "[::1]:22", "0.0.0.0:0",
	"[fe80::1%25eth0]:80", "\x00\xff", strings.Repeat("[", 1000), strings.Repeat("9", 1000), "a\r\nb:80", `{"Addr":{"Addr":1}}`,
}

// mutate returns an answer that is wrong in some way.
func mutate(r *rand.Rand, n int) *pb.RangeResponse {
	resp := &pb.RangeResponse{Header: header(int64(n))}
	for i := range r.IntN(8) {
		value := []byte(goodValues[r.IntN(len(goodValues))])
		switch r.IntN(5) {
		case 0:
			value[r.IntN(len(value))] ^= 1 << r.IntN(8)
		case 1:
			value = value[:r.IntN(len(value))]
		case 2:
			value = []byte(hostile[r.IntN(len(hostile))])
		case 3:
			at := r.IntN(len(value))
			value = []byte(string(value[:at]) + hostile[r.IntN(len(hostile))] + string(value[at:]))
		}
		resp.Kvs = append(resp.Kvs, kv(fmt.Sprintf("orders/%d", i), string(value), r.Int64N(3)))
	}
	data, err := resp.Marshal()
	if err != nil {
		return resp
	}
	if len(data) > 0 && r.IntN(2) == 0 {
		data[r.IntN(len(data))] ^= 1 << r.IntN(8)
	}
	broken := new(pb.RangeResponse)
	if broken.Unmarshal(data) != nil {
		return resp
	}
	return broken
}

type watchFunc func(context.Context, string, func([]discovery.Endpoint)) error

func (f watchFunc) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	return f(ctx, service, update)
}

func (watchFunc) Remote() bool { return true }

func TestMutatedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const answers = 10_000
		r := rand.New(rand.NewPCG(1, 2))
		ctx, cancel := context.WithCancel(t.Context())
		usable := 0
		_ = discovery.Run(ctx, watchFunc(func(ctx context.Context, _ string, update func([]discovery.Endpoint)) error {
			for n := range answers {
				s := newSet("orders")
				for _, kv := range mutate(r, n).Kvs {
					if err := s.put(kv); err != nil {
						t.Fatal(err)
					}
				}
				// The same by events, of which some are old.
				if err := s.Apply([]*mvccpb.Event{{Kv: kv("orders/x", hostile[r.IntN(len(hostile))], int64(n))}, {Type: mvccpb.DELETE, Kv: kv("orders/1", "", 1)}}); err != nil {
					t.Fatal(err)
				}
				update(s.endpoints())
				time.Sleep(200 * time.Millisecond) // each is told
			}
			cancel()
			return ctx.Err()
		}), "orders", discovery.RunOptions{}, func(set []discovery.Endpoint) {
			usable++
			if len(set) == 0 && usable > 1 {
				t.Errorf("the set became empty")
			}
			for _, ep := range set {
				if addr, err := netip.ParseAddrPort(ep.Addr); err == nil && (addr.Addr().IsLoopback() || addr.Addr().IsLinkLocalUnicast() || addr.Addr().IsUnspecified()) {
					t.Errorf("%s is in the set", ep.Addr)
				}
			}
		})
		if usable < answers/10 {
			t.Errorf("%d of %d answers changed the set: the test tries nothing", usable, answers)
		}
	})
}

// tenThousand is the answer for a large service.
func tenThousand() *pb.RangeResponse {
	resp := &pb.RangeResponse{Header: header(5)}
	for n := range 10_000 {
		value := fmt.Sprintf(`{"Op":0,"Addr":"10.0.%d.%d:8080","Metadata":{"version":"2"},"Weight":5,"Zone":"eu-%d"}`, n/250, n%250+1, n%3)
		resp.Kvs = append(resp.Kvs, kv(fmt.Sprintf("orders/orders-%d", n), value, int64(n)))
	}
	return resp
}

func BenchmarkTenThousandEndpoints(b *testing.B) {
	data, err := tenThousand().Marshal()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var resp pb.RangeResponse
		if err := resp.Unmarshal(data); err != nil {
			b.Fatal(err)
		}
		s := newSet("orders")
		for _, kv := range resp.Kvs {
			if err := s.put(kv); err != nil {
				b.Fatal(err)
			}
		}
		if got := len(s.endpoints()); got != 10_000 {
			b.Fatalf("%d endpoints", got)
		}
	}
	b.ReportMetric(heldPerThousand(data), "B/1000endpoints")
}

// heldPerThousand returns what a set takes as long as it is watched.
func heldPerThousand(data []byte) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var resp pb.RangeResponse
	_ = resp.Unmarshal(data)
	s := newSet("orders")
	for _, kv := range resp.Kvs {
		_ = s.put(kv)
	}
	resp = pb.RangeResponse{}
	runtime.GC()
	runtime.ReadMemStats(&after)
	held := float64(after.HeapAlloc) - float64(before.HeapAlloc)
	runtime.KeepAlive(s)
	return held / 10
}
