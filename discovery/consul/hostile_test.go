package consul

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// entry is an instance as a real agent lists it, with a check of the node and one of the service.
const entry = `{"Node":{"ID":"83be8d83-2492-e98f-413d-d457205d318a","Node":"node-%[1]d","Address":"10.%[2]s","Datacenter":"dc1",` +
	`"TaggedAddresses":{"lan":"10.%[2]s","lan_ipv4":"10.%[2]s","wan":"10.%[2]s","wan_ipv4":"10.%[2]s"},` +
	`"Meta":{"consul-network-segment":"","consul-version":"1.22.2","zone":"eu-1"},"CreateIndex":13,"ModifyIndex":14},` +
	`"Service":{"ID":"orders-%[1]d","Service":"orders","Tags":["blue","secure=false"],"Address":"10.%[2]s","TaggedAddresses":` +
	`{"lan_ipv4":{"Address":"10.%[2]s","Port":8080},"wan_ipv4":{"Address":"10.%[2]s","Port":8080}},"Meta":{"version":"2","zone":"eu-1"},` +
	`"Port":8080,"Weights":{"Passing":7,"Warning":1},"EnableTagOverride":false,"Proxy":{"Mode":"","MeshGateway":{},"Expose":{}},` +
	`"Connect":{},"PeerName":"","CreateIndex":20,"ModifyIndex":20},"Checks":[{"Node":"node-%[1]d","CheckID":"serfHealth","Name":` +
	`"Serf Health Status","Status":"passing","Notes":"","Output":"Agent alive and reachable","ServiceID":"","ServiceName":"",` +
	`"ServiceTags":[],"Type":"","Interval":"","Timeout":"","ExposedPort":0,"PeerName":"","Definition":{},"CreateIndex":13,"ModifyIndex":13},` +
	`{"Node":"node-%[1]d","CheckID":"service:orders-%[1]d","Name":"Service 'orders' check","Status":"passing","Notes":"","Output":"",` +
	`"ServiceID":"orders-%[1]d","ServiceName":"orders","ServiceTags":["blue","secure=false"],"Type":"ttl","Interval":"","Timeout":"",` +
	`"ExposedPort":0,"PeerName":"","Definition":{},"CreateIndex":20,"ModifyIndex":21}]}`

// answerOf is the answer of a real agent with n instances.
func answerOf(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		b.WriteByte(',')
		addr := fmt.Sprintf("%d.%d.%d", i>>16, i>>8&255, i&255)
		fmt.Fprintf(&b, entry, i, addr)
	}
	body := b.Bytes()
	body[0] = '['
	return append(body, ']')
}

// hostile are values that stand in answers where others are expected.
var hostile = []string{
	`null`, `-1`, `0`, `65536`, `1e999`, `184467440737095516160`, `""`, `"127.0.0.1"`, `"169.254.169.254"`, `"::ffff:127.0.0.1"`, `"0x7f.1"`,
	`"[::1]"`, `"fe80::1%eth0"`, `"a\u0000b"`, `"\ud800"`, `"\r\nX: y"`, `{}`, `[]`, `[[[[]]]]`, `true`, `"` + strings.Repeat("x", 5000) + `"`,
}

// mutate changes a copy of body: bytes, parts of it and values.
func mutate(r *rand.Rand, body []byte) []byte {
	body = bytes.Clone(body)
	for range 1 + r.IntN(4) {
		if len(body) < 2 {
			break
		}
		i := r.IntN(len(body))
		j := min(len(body), i+1+r.IntN(200))
		switch r.IntN(6) {
		case 0:
			body[i] ^= 1 << r.IntN(8)
		case 1:
			body = append(body[:i], body[j:]...)
		case 2:
			body = append(body[:j:j], body[i:]...)
		case 3:
			body = body[:i]
		default: // a value
			start := bytes.IndexByte(body[i:], ':')
			if start < 0 {
				continue
			}
			start += i + 1
			end := bytes.IndexAny(body[start:], ",}]")
			if end < 0 {
				continue
			}
			body = append(append(bytes.Clone(body[:start]), hostile[r.IntN(len(hostile))]...), body[start+end:]...)
		}
	}
	return body
}

// Whatever an agent answers, the set in use is valid, and true again with the next good answer.
func TestRunSurvivesMutatedAnswers(t *testing.T) {
	t.Parallel()
	const answers = 10_000
	good := answerOf(1)
	huge := []byte("[" + strings.Repeat(`{"Service":{"Address":"10.0.0.1","Port":1}},`, 100_000) + `{}]`)
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		n, broken, sets := 0, 0, 0
		ctx, cancel := context.WithCancel(t.Context())
		c := client(t, func(w http.ResponseWriter, req *http.Request) {
			switch n++; {
			case n == 1 || n > answers && n < answers+5:
				respond(w, fmt.Sprint(n), string(good))
			case n == answers/2:
				respond(w, fmt.Sprint(n), string(huge))
			case n <= answers:
				respond(w, fmt.Sprint(n), string(mutate(r, good)))
			default:
				time.Sleep(20 * time.Second) // all doubts are over
				cancel()
			}
		})
		var last []discovery.Endpoint
		_ = discovery.Run(ctx, Resolver{Client: c}, "orders", discovery.RunOptions{
			Rand: r.Uint64,
			Observe: func(e discovery.Event) {
				if e.Kind == discovery.EventWatchFailed {
					broken++
					if strings.Contains(e.Err.Error(), "panic") {
						t.Error(e.Err)
					}
				}
			},
		}, func(set []discovery.Endpoint) {
			sets++
			last = set
			for _, ep := range set {
				host, err := netip.ParseAddrPort(ep.Addr)
				if err == nil && (host.Addr().IsLoopback() || host.Addr().IsLinkLocalUnicast() || host.Addr().IsUnspecified()) {
					t.Errorf("%s is in the set", ep.Addr)
				}
			}
		})
		var got []string
		for _, ep := range last {
			got = append(got, ep.Addr)
		}
		if want := "10.0.0.0:8080"; strings.Join(got, " ") != want {
			t.Errorf("the set is %q after good answers, want %q", got, want)
		}
		if broken < answers/10 || sets < answers/100 {
			t.Errorf("%d answers broke the watch and %d sets came, want many of both", broken, sets)
		}
		t.Logf("%d answers: %d broke the watch, %d sets", n, broken, sets)
	})
}

// The way from an answer of 10,000 instances to the set: most of it is encoding/json in api.Client.
func BenchmarkAnswer(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			body := string(answerOf(n))
			c := client(b, func(w http.ResponseWriter, req *http.Request) { respond(w, "5", body) })
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				ctx, cancel := context.WithCancel(b.Context())
				got := 0
				_ = discovery.Run(ctx, Resolver{Client: c}, "orders", discovery.RunOptions{}, func(set []discovery.Endpoint) { got = len(set); cancel() })
				if got != n {
					b.Fatalf("%d endpoints, want %d", got, n)
				}
			}
		})
	}
}
