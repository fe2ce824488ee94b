package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/consulapi"
	"github.com/zerohop/zerohop/internal/pace"
)

// respond writes an answer with the headers of a healthy server, which pairs of key and value replace.
func respond(w http.ResponseWriter, index string, body string, headers ...string) {
	w.Header().Set("X-Consul-Index", index)
	w.Header().Set("X-Consul-KnownLeader", "true")
	w.Header().Set("X-Consul-LastContact", "0")
	for i := 0; i < len(headers); i += 2 {
		w.Header().Set(headers[i], headers[i+1])
	}
	fmt.Fprint(w, body)
}

// instances is the JSON of passing instances with the given ports.
func instances(ports ...int) string {
	list := make([]string, len(ports))
	for i, port := range ports {
		list[i] = fmt.Sprintf(`{"Service": {"Address": "192.0.2.1", "Port": %d}}`, port)
	}
	return "[" + strings.Join(list, ",") + "]"
}

// addrs lists the addresses of a set.
func addrs(set []discovery.Endpoint) string {
	list := make([]string, len(set))
	for i, ep := range set {
		list[i] = ep.Addr
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func ignore([]discovery.Endpoint) {}

func TestWatchBlocksOnlyOnUsableIndexes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []string{"10", "12", "3", "0", "", "abc", "18446744073709551616", "7"}
		var asked []string
		var at []time.Duration
		start := time.Now()
		c := client(t, func(w http.ResponseWriter, req *http.Request) {
			n := len(asked)
			asked = append(asked, req.FormValue("index"))
			at = append(at, time.Since(start))
			if n == len(answers) {
				<-req.Context().Done()
				return
			}
			respond(w, answers[n], instances(n+1))
		})
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		var got []string
		err := Resolver{Client: c}.Watch(ctx, "orders", func(set []discovery.Endpoint) { got = append(got, addrs(set)) })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Watch() = %v, want the end of the context", err)
		}
		if want := []string{"", "10", "12", "", "", "", "", "", "7"}; !slices.Equal(asked, want) {
			t.Errorf("asked for indexes %q, want %q", asked, want)
		}
		for n := range answers {
			want := fmt.Sprintf("192.0.2.1:%d", n+1)
			if n == 2 { // went backwards: what it lacks is kept until the leader has answered
				want = "192.0.2.1:2 " + want
			}
			if n >= len(got) || got[n] != want {
				t.Fatalf("sets are %q, want each answer", got)
			}
		}
		for n := 4; n < 8; n++ { // the answers before these had no usable index
			if gap := at[n] - at[n-1]; gap < pollInterval || gap > pollInterval*6/5 {
				t.Errorf("request %d came %v after the one before, want %v", n, gap, pollInterval)
			}
		}
	})
}

func TestWatchAsksOnceASecondWhateverTheServerDoes(t *testing.T) {
	for name, answer := range map[string]func(path string) string{
		"instances": func(string) string { return instances(1) },
		"nothing that needs a second request": func(path string) string {
			if strings.HasSuffix(path, "/consul") {
				return instances(8300)
			}
			return "[]"
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				c := client(t, func(w http.ResponseWriter, req *http.Request) {
					requests++
					respond(w, fmt.Sprint(requests), answer(req.URL.Path), "X-Consul-Default-ACL-Policy", "deny")
				})
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second-time.Millisecond)
				defer cancel()
				_ = Resolver{Client: c}.Watch(ctx, "orders", ignore)
				if want := 30 + pace.Burst - 1; requests != want {
					t.Errorf("%d requests in 30 s, want %d", requests, want)
				}
			})
		})
	}
}

func TestWatchHoldsRemovalsWhileStale(t *testing.T) {
	const both, second = "192.0.2.1:1 192.0.2.1:2", "192.0.2.1:2"
	for name, test := range map[string]struct {
		headers []string
		want    string
	}{
		"fresh":                   {nil, second},
		"leader heard 10 s ago":   {[]string{"X-Consul-LastContact", "10000"}, second},
		"leader not heard":        {[]string{"X-Consul-LastContact", "10001"}, both},
		"no leader":               {[]string{"X-Consul-KnownLeader", "false"}, both},
		"stream tells no leader":  {[]string{"X-Consul-KnownLeader", "false", "X-Consul-Query-Backend", "streaming"}, second},
		"no index and no leader":  {[]string{"X-Consul-Index", "", "X-Consul-KnownLeader", "false"}, both},
		"index of the past":       {[]string{"X-Consul-Index", "4"}, both},
		"cache of 10 s ago":       {[]string{"X-Cache", "HIT", "Age", "10"}, second},
		"cache of 11 s ago":       {[]string{"X-Cache", "HIT", "Age", "11"}, both},
		"stream that lags behind": {[]string{"X-Consul-LastContact", "60000", "X-Consul-Query-Backend", "streaming"}, both},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				var third url.Values
				c := client(t, func(w http.ResponseWriter, req *http.Request) {
					if n++; n == 3 {
						third = req.URL.Query()
					}
					switch n {
					case 1:
						respond(w, "5", instances(1))
					case 2:
						respond(w, "6", instances(2), test.headers...)
					case 3:
						respond(w, "6", instances(2))
					default:
						<-req.Context().Done()
					}
				})
				var got []string
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				_ = Resolver{Client: c}.Watch(ctx, "orders", func(set []discovery.Endpoint) {
					got = append(got, addrs(set))
					clear(set) // it is ours, and what is held must not suffer
				})
				if want := []string{"192.0.2.1:1", test.want, second}; !slices.Equal(got, want) {
					t.Errorf("sets are %q, want %q", got, want)
				}
				// The index does not change when the leader is back: waiting for that would hold on for too long.
				if asked := third.Has("consistent") && !third.Has("index"); asked != (test.want == both) {
					t.Errorf("the request after the answer is %v, want the leader asked at once only if it is doubted", third)
				}
			})
		})
	}
}

func TestWatchFindsSilentAgents(t *testing.T) {
	for name, answers := range map[string]int{"at the first request": 0, "while blocking": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := client(t, func(w http.ResponseWriter, req *http.Request) {
					if answers--; answers >= 0 {
						respond(w, "5", instances(1))
						return
					}
					<-req.Context().Done()
				})
				start := time.Now()
				err := Resolver{Client: c}.Watch(t.Context(), "orders", ignore)
				if got := time.Since(start); got > 45*time.Second {
					t.Errorf("Watch() took %v, want at most 45 s", got)
				}
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), agentAddr+": no answer within") {
					t.Errorf("Watch() = %v, want a time-out that names %s", err, agentAddr)
				}
			})
		})
	}
}

func TestWatchReturnsWhenTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(t, func(w http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		if err := (Resolver{Client: c}).Watch(ctx, "orders", ignore); !errors.Is(err, context.Canceled) {
			t.Errorf("Watch() = %v, want %v", err, context.Canceled)
		}
		if got, want := time.Since(start), time.Second; got != want {
			t.Errorf("Watch() took %v, want %v", got, want)
		}
	})
}

func TestWatchRefused(t *testing.T) {
	for name, test := range map[string]struct {
		code       int
		retryAfter string
		wantAfter  time.Duration
		wantDenied bool
		wantText   string
	}{
		"denied":           {http.StatusForbidden, "", 0, true, `: permission denied: status 403 "why"`},
		"not known":        {http.StatusUnauthorized, "", 0, true, `: permission denied: status 401 "why"`},
		"limited":          {http.StatusTooManyRequests, "7", 7 * time.Second, false, `: status 429 "why"`},
		"limited for long": {http.StatusTooManyRequests, "86400", time.Minute, false, `: status 429 "why"`},
		"failing":          {http.StatusInternalServerError, "soon", 0, false, `: status 500 "why"`},
		"redirected":       {http.StatusTemporaryRedirect, "", 0, false, ": status 307: redirects are not followed"},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Location", "http://elsewhere.test/")
				w.Header().Set("Retry-After", test.retryAfter)
				w.WriteHeader(test.code)
				fmt.Fprintln(w, "why")
			})
			err := Resolver{Client: c}.Watch(t.Context(), "orders", ignore)
			refused, ok := errors.AsType[*discovery.RefusedError](err)
			if !ok {
				t.Fatalf("Watch() = %v, want a RefusedError", err)
			}
			if got, want := refused.After, test.wantAfter; got != want {
				t.Errorf("After = %v, want %v", got, want)
			}
			if got, want := refused.Denied, test.wantDenied; got != want {
				t.Errorf("Denied = %v, want %v", got, want)
			}
			want := `consul: health of "orders" at ` + agentAddr + test.wantText
			if got := strings.TrimSuffix(err.Error(), " (no token was sent)"); got != want {
				t.Errorf("error is %q, want %q", got, want)
			}
		})
	}
}

func TestWatchNamesTheDatacenter(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "No path to datacenter", http.StatusInternalServerError)
	})
	err := Resolver{Client: c, Datacenter: "dc-2"}.Watch(t.Context(), "orders", ignore)
	if got, want := fmt.Sprint(err), `health of "orders" in datacenter "dc-2" at `; !strings.Contains(got, want) {
		t.Errorf("Watch() = %s, want an error with %s", got, want)
	}
}

func TestWatchTellsHiddenFromEmpty(t *testing.T) {
	deny := []string{"X-Consul-Default-ACL-Policy", "deny"}
	for name, test := range map[string]struct {
		token   string
		headers []string
		servers string // the answer to who asks for the Consul servers
		want    string // of the text of the error; empty if the set is to be believed
	}{
		"no ACLs":                      {"", nil, "[]", ""},
		"token may not":                {"t0ken", append([]string{"X-Consul-Results-Filtered-By-ACLs", "true"}, deny...), "[]", "ACLs hide the service"},
		"token may":                    {"t0ken", deny, "[]", ""},
		"no token, others are visible": {"", deny, instances(8300), ""},
		"no token, nothing is visible": {"", deny, "[]", "ACLs hide the service (no token was sent)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := clientOf(t, configOf(inProcess{http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					switch {
					case strings.HasSuffix(req.URL.Path, "/consul"):
						respond(w, "5", test.servers, deny...)
					case req.FormValue("index") == "":
						respond(w, "5", "[]", test.headers...)
					default:
						<-req.Context().Done()
					}
				})}, test.token))
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				sets := 0
				err := Resolver{Client: c}.Watch(ctx, "orders", func([]discovery.Endpoint) { sets++ })
				if test.want == "" {
					if sets != 1 || !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("Watch() = %v after %d sets, want one empty set", err, sets)
					}
					return
				}
				refused, ok := errors.AsType[*discovery.RefusedError](err)
				if !ok || !refused.Denied || !strings.HasSuffix(err.Error(), test.want) || sets != 0 {
					t.Errorf("Watch() = %v after %d sets, want a denial that ends in %q", err, sets, test.want)
				}
				if test.token != "" && strings.Contains(err.Error(), test.token) {
					t.Errorf("error %q contains the token", err)
				}
			})
		})
	}
}

func TestWatchReadsTheTokenFileBeforeEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "token")
		write := func(token string) {
			if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		c := client(t, func(w http.ResponseWriter, req *http.Request) {
			got = append(got, req.Header.Get("X-Consul-Token"))
			respond(w, fmt.Sprint(len(got)), instances(1))
		})
		write("first\n")
		err := Resolver{Client: c, TokenFile: file}.Watch(t.Context(), "orders", func([]discovery.Endpoint) {
			if len(got) == 1 {
				write("second")
			} else if err := os.Remove(file); err != nil {
				t.Error(err)
			}
		})
		if want := []string{"first", "second"}; !slices.Equal(got, want) {
			t.Errorf("tokens are %q, want %q", got, want)
		}
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Watch() = %v, want %v", err, os.ErrNotExist)
		}
	})
}

func TestWatchSendsItsOptions(t *testing.T) {
	var got map[string][]string
	var path string
	c := client(t, func(w http.ResponseWriter, req *http.Request) {
		path, got = req.URL.EscapedPath(), req.URL.Query()
		w.WriteHeader(http.StatusInternalServerError)
	})
	r := Resolver{Client: c, Datacenter: "dc2", Tags: []string{"a", "b"}, Filter: "x == 1", AllowStale: true}
	_ = r.Watch(t.Context(), "or?ders #1%2F", ignore)
	want := map[string][]string{
		"dc": {"dc2"}, "tag": {"a", "b"}, "filter": {"x == 1"}, "stale": {""}, "passing": {"1"}, "wait": {"30000ms"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("query (-want +got):\n%s", diff)
	}
	if want := "/v1/health/service/or%3Fders%20%231%252F"; path != want {
		t.Errorf("path is %s, want %s", path, want)
	}

	_ = Resolver{Client: c, IncludeFailing: true}.Watch(t.Context(), "orders", ignore)
	if want := map[string][]string{"wait": {"30000ms"}}; !cmp.Equal(got, want) {
		t.Errorf("query is %v, want %v", got, want)
	}
}

func TestWatchRejectsWhatItCannotAsk(t *testing.T) {
	c := client(t, func(_ http.ResponseWriter, req *http.Request) { t.Errorf("request of %s", req.URL) })
	for _, service := range []string{"", ".", "..", "a/b", "../../agent/self"} {
		if err := (Resolver{Client: c}).Watch(t.Context(), service, ignore); err == nil || !strings.Contains(err.Error(), "service name") {
			t.Errorf("Watch(%q) = %v, want an error that names the service name", service, err)
		}
	}
	if err := (Resolver{}).Watch(t.Context(), "orders", ignore); !errors.Is(err, consulapi.ErrNoClient) {
		t.Errorf("Watch() without a client = %v, want %v", err, consulapi.ErrNoClient)
	}
}

func TestWatchReportsGarbage(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, req *http.Request) { respond(w, "5", `[{"Service": {"Port": "x"}}]`) })
	err := Resolver{Client: c}.Watch(t.Context(), "orders", func([]discovery.Endpoint) { t.Error("a set was made of garbage") })
	if err == nil || !strings.Contains(err.Error(), agentAddr) {
		t.Errorf("Watch() = %v, want an error that names %s", err, agentAddr)
	}
}
