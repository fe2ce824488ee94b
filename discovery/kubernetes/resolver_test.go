package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/kubeapi"
)

// watchFor watches orders for d in a bubble and returns the sets and why the watch ended.
func watchFor(t *testing.T, d time.Duration, r Resolver) (sets []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	err = r.Watch(ctx, "orders", func(set []discovery.Endpoint) { sets = append(sets, addrs(set)) })
	return sets, err
}

func compare(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, " | ") != strings.Join(want, " | ") {
		t.Errorf("sets = %q, want %q", got, want)
	}
}

func TestWatchTellsListAndChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		c := client(func(w http.ResponseWriter, req *http.Request) {
			q := req.URL.Query()
			asked = append(asked, fmt.Sprintf("%s %s %s", req.URL.Path, q.Get("labelSelector"), q.Get("resourceVersion")))
			other := slice("c", "192.0.2.9") // of a server that does not know label selectors
			other.Labels["kubernetes.io/service-name"] = "payments"
			if !watching(req) {
				sendList(w, "5", slice("a", "192.0.2.1"), other)
				return
			}
			for i, step := range []struct {
				kind   watch.EventType
				object any
			}{
				{watch.Added, slice("b", "192.0.2.2")},
				{watch.Added, other},
				{watch.Bookmark, slice("")},
				{watch.Modified, slice("a", "192.0.2.1", "192.0.2.3")},
				{watch.Deleted, slice("b", "192.0.2.2")},
			} {
				time.Sleep(time.Second * time.Duration(i+1))
				sendEvent(w, step.kind, step.object)
			}
			<-req.Context().Done()
		})
		got, err := watchFor(t, time.Minute, Resolver{Client: c})
		const a, b, three = "192.0.2.1:8080", "192.0.2.2:8080", "192.0.2.3:8080"
		// The service of another name changes nothing; what is deleted stays for a moment, as it may only have moved.
		compare(t, got, a, a+" "+b, a+" "+b, a+" "+b+" "+three, a+" "+b+" "+three, a+" "+three)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Watch() = %v, want %v", err, context.DeadlineExceeded)
		}
		path := "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices kubernetes.io/service-name=orders "
		compare(t, asked, path, path+"5")
	})
}

// A server that has forgotten the version says so in three ways. All is listed again at once, and nothing is missing meanwhile.
func TestForgottenHistoryIsListedAgain(t *testing.T) {
	gone := status(http.StatusGone, "too old resource version")
	for name, answer := range map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusGone)
			send(w, gone)
		},
		"event": func(w http.ResponseWriter, _ *http.Request) { sendEvent(w, watch.Error, gone) },
		"body of 200": func(w http.ResponseWriter, req *http.Request) {
			time.Sleep(time.Second) // ends without an error: the list that follows asks for the version
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				watches := 0
				c := client(func(w http.ResponseWriter, req *http.Request) {
					switch {
					case watching(req) && watches == 0:
						watches++
						answer(w, req)
					case watching(req):
						hang(w, req)
					case req.URL.Query().Get("resourceVersion") != "":
						send(w, gone)
					case watches == 0:
						sendList(w, "5", slice("a", "192.0.2.1", "192.0.2.2"))
					default:
						sendList(w, "3", slice("a", "192.0.2.2", "192.0.2.3"))
					}
				})
				started := time.Now()
				var after time.Duration
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var sets []string
				err := Resolver{Client: c}.Watch(ctx, "orders", func(set []discovery.Endpoint) {
					sets = append(sets, addrs(set))
					after = time.Since(started)
				})
				compare(t, sets, "192.0.2.1:8080 192.0.2.2:8080", "192.0.2.1:8080 192.0.2.2:8080 192.0.2.3:8080", "192.0.2.2:8080 192.0.2.3:8080")
				if after > 2500*time.Millisecond {
					t.Errorf("true again after %v, want at most 2.5 s", after)
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Watch() = %v, want %v", err, context.DeadlineExceeded)
				}
			})
		})
	}
}

// Whatever a server does, a watch costs it at most a request a second.
func TestRequestsArePaced(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"ends watches at once": func(http.ResponseWriter, *http.Request) {},
		"has no history":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) },
		"has no history in streams": func(w http.ResponseWriter, _ *http.Request) {
			sendEvent(w, watch.Error, status(http.StatusGone, "gone"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var requests atomic.Int32
				c := client(func(w http.ResponseWriter, req *http.Request) {
					requests.Add(1)
					if watching(req) {
						answer(w, req)
						return
					}
					sendList(w, "5", slice("a", "192.0.2.1"))
				})
				if _, err := watchFor(t, time.Minute, Resolver{Client: c}); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Watch() = %v, want %v", err, context.DeadlineExceeded)
				}
				if got := requests.Load(); got < 50 || got > 63 {
					t.Errorf("%d requests in a minute, want 50 to 63", got)
				}
			})
		})
	}
}

// A server whose streams lose changes, or that answers with an older list, is believed until the next list at most.
func TestListsMendWhatStreamsLose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lists := 0
		c := client(func(w http.ResponseWriter, req *http.Request) {
			if watching(req) {
				hang(w, req)
				return
			}
			lists++
			switch lists {
			case 1:
				sendList(w, "9", slice("a", "192.0.2.1", "192.0.2.2"))
			case 2: // another server, with a history of its own
				sendList(w, "4", slice("a", "192.0.2.1", "192.0.2.8"))
			default:
				sendList(w, "12", slice("a", "192.0.2.1"))
			}
		})
		var changed []time.Duration
		started := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
		defer cancel()
		var last string
		_ = Resolver{Client: c}.Watch(ctx, "orders", func(set []discovery.Endpoint) {
			last = addrs(set)
			changed = append(changed, time.Since(started))
		})
		if want := "192.0.2.1:8080"; last != want {
			t.Errorf("last set %q, want %q", last, want)
		}
		if first := changed[1]; first < 8*time.Minute || first > 12*time.Minute+time.Second {
			t.Errorf("listed again after %v, want 8 to 12 min", first)
		}
	})
}

// A server that does not answer, or stops to, is noticed. HTTP/2 has pings, which the transport sends.
func TestSilenceIsNoticed(t *testing.T) {
	list := func(w http.ResponseWriter) { sendList(w, "5", slice("a", "192.0.2.1")) }
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		proto   int
		want    time.Duration
		says    string
	}{
		"list": {func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }, 2, kubeapi.AnswerTime, "list of"},
		"body of list": {func(w http.ResponseWriter, req *http.Request) {
			_, _ = w.Write([]byte("{"))
			<-req.Context().Done()
		}, 2, kubeapi.AnswerTime, "list of"},
		"watch": {func(w http.ResponseWriter, req *http.Request) {
			if watching(req) {
				<-req.Context().Done()
				return
			}
			list(w)
		}, 2, kubeapi.AnswerTime, "watch of"},
		"stream of HTTP/1.1": {func() http.HandlerFunc {
			var dead atomic.Bool
			return func(w http.ResponseWriter, req *http.Request) {
				switch {
				case dead.Load():
					<-req.Context().Done()
				case watching(req):
					dead.Store(true)
					hang(w, req)
				default:
					list(w)
				}
			}
		}(), 1, kubeapi.PlainTime + kubeapi.AnswerTime, "list of"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				started := time.Now()
				_, err := watchFor(t, time.Hour, Resolver{Client: clientOf(inProcess{tt.handler, tt.proto})})
				if got := time.Since(started); got != tt.want {
					t.Errorf("noticed after %v, want %v", got, tt.want)
				}
				for _, part := range []string{tt.says, serverAddr, "no answer within 10s"} {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("Watch() = %v, want %q in it", err, part)
					}
				}
			})
		})
	}
}

// Panics of update outside of the call of Watch would end the process.
func TestPanicOfLateUpdateEndsWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(func(w http.ResponseWriter, req *http.Request) {
			if !watching(req) {
				sendList(w, "5", slice("a", "192.0.2.1"))
				return
			}
			sendEvent(w, watch.Modified, slice("a", "192.0.2.2")) // told when the gap is over
			<-req.Context().Done()
		})
		calls := 0
		err := Resolver{Client: c}.Watch(t.Context(), "orders", func([]discovery.Endpoint) {
			if calls++; calls == 2 {
				panic("boom")
			}
		})
		if err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("Watch() = %v, want the panic", err)
		}
	})
}

func TestNames(t *testing.T) {
	r := Resolver{Client: &Client{}, Services: map[string]string{"short": "long-name.shop:grpc"}}
	pod := Resolver{Client: &Client{namespace: "team"}, Port: "http"}
	own := Resolver{Client: &Client{namespace: "team"}, Namespace: "own"}
	for _, tt := range []struct {
		resolver Resolver
		service  string
		want     target
		valid    bool
	}{
		{r, "orders", target{"orders", "default", ""}, true},
		{r, "Orders", target{"orders", "default", ""}, true},
		{r, "Short", target{"long-name", "shop", "grpc"}, true},
		{r, "orders.shop:8080", target{"orders", "shop", "8080"}, true},
		{r, "orders.shop.svc:web", target{"orders", "shop", "web"}, true},
		{r, "orders.shop.svc.cluster.local", target{"orders", "shop", ""}, true},
		{r, "orders.shop.example.com", target{"orders", "shop.example.com", ""}, false},
		{pod, "orders", target{"orders", "team", "http"}, true},
		{pod, "orders.shop:grpc", target{"orders", "shop", "grpc"}, true},
		{own, "orders", target{"orders", "own", ""}, true},
		{r, "", target{"", "default", ""}, false},
		{r, "a/b", target{"a/b", "default", ""}, false},
		{r, "..", target{"", ".", ""}, false},
		{r, "a,b=c", target{"a,b=c", "default", ""}, false},
		{r, strings.Repeat("a", 64), target{strings.Repeat("a", 64), "default", ""}, false},
	} {
		got := tt.resolver.target(tt.service)
		if got != tt.want {
			t.Errorf("target(%q) = %#v, want %#v", tt.service, got, tt.want)
		}
		if err := got.check(); (err == nil) != tt.valid {
			t.Errorf("check of %q = %v, want valid = %v", tt.service, err, tt.valid)
		}
	}
	if err := (Resolver{}).Watch(t.Context(), "orders", nil); !errors.Is(err, errNoClient) {
		t.Errorf("Watch() without a client = %v, want %v", err, errNoClient)
	}
	if err := r.Watch(t.Context(), "a/b", nil); err == nil {
		t.Error("Watch() of a name with a slash = nil")
	}
}
