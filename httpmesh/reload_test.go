package httpmesh

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/routing"
)

// reloading is a mesh over real servers that are told by which generation a request was sent.
type reloading struct {
	mesh   *zerohop.Mesh
	client *http.Client
	conns  atomic.Int64 // accepted
}

func newReloading(t *testing.T) *reloading {
	r := &reloading{}
	set := discovery.Static{}
	for _, name := range []string{"a", "b"} {
		for v := 1; v <= 2; v++ {
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Rule", req.Header.Get("Rule"))
				w.Header().Set("Backend", req.Header.Get("Backend"))
				w.Header().Set("Server", fmt.Sprint(name, v))
				_, _ = io.WriteString(w, "ok")
			}))
			s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					r.conns.Add(1)
				}
			}
			s.Start()
			t.Cleanup(s.Close)
			set[name] = append(set[name], discovery.Endpoint{Addr: addr(s), Meta: map[string]string{"v": strconv.Itoa(v)}})
		}
	}
	r.mesh = open(t, zerohop.Config{Resolver: set, Spec: moved(0)})
	r.client = &http.Client{Transport: client(t, r.mesh)}
	return r
}

// moved returns the spec number n: routes lead elsewhere with each.
func moved(n int) zerohop.Spec {
	id := strconv.Itoa(n)
	backend := func(service, v string, weight int) routing.Backend {
		b := routing.Backend{Service: service, Weight: uint32(weight), Headers: routing.Headers{Set: map[string]string{"Backend": id}}}
		if v != "" {
			b.Select = map[string]string{"v": v}
		}
		return b
	}
	rule := routing.Rule{
		Name: "shop", Match: routing.Match{Service: "shop"}, Policy: "shop",
		Rewrite: routing.Rewrite{
			Request:  routing.Headers{Set: map[string]string{"Rule": id}},
			Response: routing.Headers{Set: map[string]string{"Answer": id}},
		},
	}
	switch n % 4 {
	case 0:
		rule.Backends = []routing.Backend{backend("a", "", 1)}
	case 1:
		rule.Backends = []routing.Backend{backend("a", "1", n%9+1), backend("a", "2", 3)}
	case 2:
		rule.Backends = []routing.Backend{backend("a", "", 1), backend("b", "2", n%7+1)}
	case 3:
		rule.Backends = []routing.Backend{backend("b", "", 1)}
	}
	return zerohop.Spec{
		Services: map[string]zerohop.Policy{
			"a": {Balance: []string{"peak-ewma", "least-request", "random"}[n%3], Budget: zerohop.Budget{Tokens: float64(10 + n%5)}},
			"b": {Outlier: zerohop.Outlier{Consecutive: 5 + n%3}},
		},
		Routes: []routing.Rule{rule},
		Policies: map[string]zerohop.Policy{"shop": {
			Retry: zerohop.Retry{Attempts: 2 + n%3}, Timeout: time.Minute,
			Backup: zerohop.Backup{Mode: zerohop.Off}, // one whenever this machine is slow, with a connection of its own
		}},
	}
}

// get makes a call, and reports one that failed or was sent by several generations.
func (r *reloading) get(t *testing.T) {
	resp, err := r.client.Get("http://shop/")
	if err != nil {
		t.Errorf("a call failed: %v", err)
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	h := resp.Header
	if h.Get("Rule") == "" || h.Get("Rule") != h.Get("Backend") || h.Get("Rule") != h.Get("Answer") {
		t.Errorf("a call of generations %q, %q and %q", h.Get("Rule"), h.Get("Backend"), h.Get("Answer"))
	}
	n, _ := strconv.Atoi(h.Get("Rule"))
	if at := h.Get("Server"); n%4 <= 1 && at[0] != 'a' || n%4 == 3 && at[0] != 'b' || n%4 == 2 && at == "b1" {
		t.Errorf("generation %d at %s", n, at)
	}
}

// wrong returns what an Update refuses: something invalid, or what is over a limit.
func wrong(n int, over bool) zerohop.Spec {
	s := moved(n)
	if over {
		s.Routes = make([]routing.Rule, 1001)
		return s
	}
	switch n % 3 {
	case 0:
		s.Routes[0].Policy = "none"
	case 1:
		s.Defaults.Retry.Attempts = 99
	default:
		s.Defaults.Timeout = -1
	}
	return s
}

func TestThousandReloadsUnderLoad(t *testing.T) {
	const reloads, rate, workers, lasting = 1000, 500, 10, 3 * time.Second
	r := newReloading(t)
	for range workers {
		r.get(t)
	}
	goroutines, before := runtime.NumGoroutine(), heap()
	var calls sync.WaitGroup
	var made atomic.Int64
	over := make(chan struct{})
	for range workers {
		calls.Go(func() {
			tick := time.NewTicker(time.Second * workers / rate)
			defer tick.Stop()
			for {
				r.get(t)
				made.Add(1)
				select {
				case <-tick.C:
				case <-over:
					return
				}
			}
		})
	}
	present, refused, generation := moved(0), 0, uint64(1)
	tick := time.NewTicker(lasting / reloads)
	defer tick.Stop()
	for i := range reloads {
		<-tick.C
		var spec zerohop.Spec
		bad := i%10 <= 5
		switch {
		case bad:
			spec = wrong(i, i%10 == 5)
		case i%10 <= 7:
			spec = present
		default:
			spec, generation = moved(i), generation+1
			present = spec
		}
		change, err := r.mesh.Update(spec)
		if (err != nil) != bad || change.Generation != generation {
			t.Errorf("reload %d: generation %d, %v, want %d, refused: %v", i, change.Generation, err, generation, bad)
		}
		if bad {
			refused++
		}
	}
	close(over)
	calls.Wait()
	if want := int64(lasting.Seconds()*rate) * 8 / 10; made.Load() < want {
		t.Errorf("%d calls, want %d", made.Load(), want)
	}
	if got := r.conns.Load(); got > 4*workers {
		t.Errorf("%d connections, want at most one to each server for each caller", got)
	}
	after := heap()
	if after > before+1<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	t.Logf("%d calls, %d reloads of which %d were refused, generation %d, %d connections, heap %d -> %d KiB, goroutines %d -> %d",
		made.Load(), reloads, refused, generation, r.conns.Load(), before>>10, after>>10, goroutines, runtime.NumGoroutine())
}

func TestReloadsThatChangeNothingOpenNoConnection(t *testing.T) {
	r := newReloading(t)
	for range 20 { // all servers that there are for it
		r.get(t)
	}
	conns := r.conns.Load()
	for i := range 100 {
		spec, bad := moved(0), i%2 == 0
		if bad {
			spec = wrong(i, false)
		}
		if i%10 == 1 { // what says nothing of endpoints loses none either
			spec.Policies["shop"] = zerohop.Policy{Retry: zerohop.Retry{Attempts: 2 + i%3}, Timeout: time.Hour}
			spec.Services["a"] = zerohop.Policy{Balance: "random", Budget: zerohop.Budget{Tokens: 20}, Outlier: zerohop.Outlier{Window: time.Minute}}
		}
		if _, err := r.mesh.Update(spec); (err != nil) != bad {
			t.Fatal(err)
		}
		r.get(t)
	}
	if got := r.conns.Load(); got != conns {
		t.Errorf("%d connections, %d before", got, conns)
	}
}
