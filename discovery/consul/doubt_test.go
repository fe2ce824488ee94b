package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// A server that has lost its leader adds instances and removes none, for as long as nobody can say more.
func TestWatchKeepsInstancesWhileNobodyLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		healed := func() bool { return time.Since(start) > time.Minute }
		requests, first := 0, true
		c := client(t, func(w http.ResponseWriter, req *http.Request) {
			if !healed() {
				requests++
			}
			switch consistent := req.URL.Query().Has("consistent"); {
			case first:
				first = false
				respond(w, "5", instances(1))
			case healed() && req.FormValue("index") != "":
				<-req.Context().Done()
			case healed():
				respond(w, "9", instances(3))
			case consistent:
				http.Error(w, "No cluster leader", http.StatusInternalServerError)
			default:
				respond(w, "7", instances(2), "X-Consul-KnownLeader", "false")
			}
		})
		var got []string
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+pollInterval*6/5)
		defer cancel()
		err := Resolver{Client: c, AllowStale: true}.Watch(ctx, "orders", func(set []discovery.Endpoint) { got = append(got, addrs(set)) })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Watch() = %v, want %v", err, context.DeadlineExceeded)
		}
		const only, both, last = "192.0.2.1:1", "192.0.2.1:1 192.0.2.1:2", "192.0.2.1:3"
		if want := []string{only, both, last}; !slices.Equal(slices.Compact(got), want) {
			t.Errorf("sets are %q, want %q", got, want)
		}
		if requests > 30 {
			t.Errorf("%d requests in a minute without a leader, want at most 30", requests)
		}
	})
}

// A watch that begins again may be answered by a server that knows less than the one before.
func TestWatchKnowsAnswersOlderThanThoseOfEarlierWatches(t *testing.T) {
	const both = "192.0.2.1:1 192.0.2.1:2"
	for name, test := range map[string]struct {
		index  string // of the first answer to the second watch
		header []string
		leader string // index of the answer of the leader; empty if there is none
		want   string // the first set of the second watch; empty if it fails
		asks   bool   // whether the leader is asked
	}{
		"same index":              {"100", nil, "", "192.0.2.1:1", false},
		"newer":                   {"101", nil, "", "192.0.2.1:1", false},
		"older":                   {"99", nil, "100", both, true},
		"older, catalog restored": {"5", nil, "5", both, true},
		"older, no leader":        {"99", nil, "", "", true},
		"newer, server alone":     {"101", []string{"X-Consul-KnownLeader", "false"}, "", "", true},
		"newer, server cut off":   {"101", []string{"X-Consul-LastContact", "60000"}, "102", both, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				again, asked := false, 0
				c := client(t, func(w http.ResponseWriter, req *http.Request) {
					switch {
					case req.URL.Query().Has("consistent"):
						asked++
						if test.leader == "" {
							http.Error(w, "No cluster leader", http.StatusInternalServerError)
							return
						}
						respond(w, test.leader, instances(1, 2))
					case req.FormValue("index") != "":
						<-req.Context().Done()
					case again:
						respond(w, test.index, instances(1), test.header...)
					default:
						respond(w, "100", instances(1, 2))
					}
				})
				watch := func() (first string, err error) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					err = Resolver{Client: c, AllowStale: true}.Watch(ctx, "orders", func(set []discovery.Endpoint) {
						if first == "" {
							first = addrs(set)
						}
					})
					return first, err
				}
				if got, err := watch(); got != both || asked != 0 {
					t.Fatalf("first watch: set %q after %d questions to the leader (%v), want %q at once", got, asked, err, both)
				}
				again = true
				got, err := watch()
				if got != test.want || asked > 0 != test.asks {
					t.Errorf("second watch: set %q after %d questions to the leader, want %q", got, asked, test.want)
				}
				if failed := !errors.Is(err, context.DeadlineExceeded); failed != (test.want == "") {
					t.Errorf("second watch: %v", err)
				}
				if test.leader == "5" { // which is what it knows now
					if got, _ := watch(); got != "192.0.2.1:1" || asked != 1 {
						t.Errorf("third watch: set %q after %d questions to the leader, want it believed", got, asked)
					}
				}
			})
		})
	}
}

// Without knowledge of its own, a watch takes what it can get, save that nothing is there.
func TestFirstWatchTakesStaleAnswers(t *testing.T) {
	for body, want := range map[string]string{instances(1): "192.0.2.1:1", "[]": ""} {
		c := client(t, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Query().Has("consistent") {
				http.Error(w, "No cluster leader", http.StatusInternalServerError)
				return
			}
			respond(w, "5", body, "X-Consul-KnownLeader", "false")
		})
		ctx, cancel := context.WithCancel(t.Context())
		got := ""
		err := Resolver{Client: c}.Watch(ctx, "orders", func(set []discovery.Endpoint) { got = addrs(set); cancel() })
		cancel()
		if got != want || want == "" && (err == nil || !strings.Contains(err.Error(), "No cluster leader")) {
			t.Errorf("%s: set %q, error %v, want %q", body, got, err, want)
		}
	}
}

func TestEmptyAnswersAtSecondHandAreConfirmed(t *testing.T) {
	streamed := []string{"X-Consul-Query-Backend", "streaming", "X-Consul-KnownLeader", "false"}
	for name, test := range map[string]struct {
		with    Resolver
		headers []string
		want    bool
	}{
		"leader": {Resolver{}, nil, false},
		"cache":  {Resolver{UseCache: true}, nil, true},
		"any":    {Resolver{AllowStale: true}, nil, true},
		"stream": {Resolver{}, streamed, true},
	} {
		for _, begun := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, begun %v", name, begun), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n, asked := 0, 0
					c := client(t, func(w http.ResponseWriter, req *http.Request) {
						n++
						switch {
						case req.URL.Query().Has("consistent"):
							asked++
							if req.URL.Query().Has("cached") || req.URL.Query().Has("stale") || req.FormValue("index") != "" {
								t.Errorf("the leader is asked with %s", req.URL.RawQuery)
							}
							respond(w, "7", instances(1))
						case n == 1 && begun:
							respond(w, "5", instances(1))
						case asked > 0:
							<-req.Context().Done()
						default:
							respond(w, "6", "[]", test.headers...)
						}
					})
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					empty := 0
					r := test.with
					r.Client = c
					_ = r.Watch(ctx, "orders", func(set []discovery.Endpoint) {
						if len(set) == 0 {
							empty++
						}
					})
					if asked > 0 != test.want || empty == 0 != test.want {
						t.Errorf("the leader was asked %d times, the set empty %d times, want it confirmed: %v", asked, empty, test.want)
					}
				})
			})
		}
	}
}

// What the leader has confirmed is not asked again with each answer that says the same.
func TestConfirmedEmptinessIsNotAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, asked := 0, 0
		c := client(t, func(w http.ResponseWriter, req *http.Request) {
			n++
			if req.URL.Query().Has("consistent") {
				asked++
			}
			respond(w, fmt.Sprint(n), "[]")
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_ = Resolver{Client: c, UseCache: true}.Watch(ctx, "orders", ignore)
		if asked != 1 {
			t.Errorf("the leader was asked %d times, want once", asked)
		}
	})
}

func TestWatchRejectsNegativeStaleness(t *testing.T) {
	c := client(t, func(_ http.ResponseWriter, req *http.Request) { t.Errorf("request of %s", req.URL) })
	err := Resolver{Client: c, MaxStale: -1}.Watch(t.Context(), "orders", ignore)
	if err == nil || !strings.Contains(err.Error(), "Resolver.MaxStale") {
		t.Errorf("Watch() = %v, want an error that names Resolver.MaxStale", err)
	}
}

// A source that limits or denies us is asked less and less often while there is a set to work with.
func TestRunAsksSeldomWhileRefused(t *testing.T) {
	for name, status := range map[string]int{"limited": 429, "denied": 403, "failing": 500} {
		for _, after := range []string{"", "5"} {
			t.Run(name+" "+after, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					refused, requests := false, 0
					c := client(t, func(w http.ResponseWriter, req *http.Request) {
						switch {
						case refused:
							requests++
							w.Header().Set("Retry-After", after)
							w.WriteHeader(status)
						case req.FormValue("index") != "":
							time.Sleep(time.Second)
							refused = true
							w.WriteHeader(status)
						default:
							respond(w, "5", instances(1))
						}
					})
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Second)
					defer cancel()
					sets := 0
					word := uint64(1) << 63 // the mean of the jitter
					_ = discovery.Run(ctx, Resolver{Client: c}, "orders", discovery.RunOptions{Rand: func() uint64 { return word }}, func([]discovery.Endpoint) { sets++ })
					if requests > 12 || requests < 3 || sets != 1 {
						t.Errorf("%d requests in a minute and %d sets, want 3 to 12 and the first set alone", requests, sets)
					}
				})
			})
		}
	}
}
