package discoverytest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/conformance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("connection refused")

// memorySource puts a Memory under the control of the suite, with r in front of it if r is not nil.
func memorySource(m *Memory, r discovery.Resolver) Source {
	if r == nil {
		r = m
	}
	return Source{
		Resolver: r,
		Set: func(_ testing.TB, service string, set []discovery.Endpoint) {
			if len(set) == 0 {
				m.Remove(service)
				return
			}
			m.Set(service, set...)
		},
		Break:   func(testing.TB) { m.Break(errDown) },
		Heal:    func(testing.TB) { m.Break(nil) },
		Timeout: 10 * time.Second,
	}
}

// Memory delivers what discovery.Static does, so this covers Static too.
func TestMemoryConforms(t *testing.T) {
	m := &Memory{}
	Test(t, memorySource(m, nil))

	t.Run("empty instead of unknown", func(t *testing.T) {
		src := memorySource(m, nil)
		src.Set = func(_ testing.TB, service string, set []discovery.Endpoint) { m.Set(service, set...) }
		src.Break, src.Timeout = nil, 0
		Test(t, src)
	})
}

type watchFunc func(ctx context.Context, service string, update func([]discovery.Endpoint)) error

func (f watchFunc) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	return f(ctx, service, update)
}

// failuresOf returns what the named check says of a resolver.
func failuresOf(t *testing.T, name string, src Source) []string {
	t.Helper()
	for _, c := range checks {
		if c.name == name {
			return conformance.Failures(t, func(t testing.TB) { runCheck(t, src, c.run) })
		}
	}
	t.Fatalf("no check %q", name)
	return nil
}

func TestSuiteCatchesBrokenResolvers(t *testing.T) {
	var leaks sync.WaitGroup
	release := make(chan struct{})
	defer leaks.Wait()
	defer close(release)
	for _, tt := range []struct {
		fault string
		check string
		says  string
		watch func(m *Memory) watchFunc
	}{
		{"first set in parts", "FirstSet", "complete from the start", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				return m.Watch(ctx, service, func(set []discovery.Endpoint) {
					update(set[:1:1])
					update(set)
				})
			}
		}},
		{"no changes", "Changes", "no set within", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				var once sync.Once
				return m.Watch(ctx, service, func(set []discovery.Endpoint) { once.Do(func() { update(set) }) })
			}
		}},
		{"differences instead of sets", "Changes", "lacks", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				known := 0
				return m.Watch(ctx, service, func(set []discovery.Endpoint) {
					update(set[min(known, len(set)):])
					known = len(set)
				})
			}
		}},
		{"an endpoint from nowhere", "Changes", "does not list", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				return m.Watch(ctx, service, func(set []discovery.Endpoint) {
					update(append(set, discovery.Endpoint{Addr: "[::ffff:198.51.100.1]:80"}))
				})
			}
		}},
		{"removal to zero is not told", "RemovalToZero", "neither an empty set", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				err := m.Watch(ctx, service, update)
				if errors.Is(err, discovery.ErrUnknownService) {
					<-ctx.Done()
				}
				return err
			}
		}},
		{"unknown service without its error", "UnknownService", discovery.ErrUnknownService.Error(), func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				if err := m.Watch(ctx, service, update); !errors.Is(err, discovery.ErrUnknownService) {
					return err
				}
				return errors.New("404")
			}
		}},
		{"nil at the end", "ContextEnd", "returned nil", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				_ = m.Watch(ctx, service, update)
				return nil
			}
		}},
		{"own error at the end", "ContextEnd", "after cancel", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				_ = m.Watch(ctx, service, update)
				return errors.New("closed")
			}
		}},
		{"slow end", "ContextEnd", "did not return within", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				err := m.Watch(ctx, service, update)
				<-time.After(prompt + prompt/4)
				return err
			}
		}},
		{"a shared slice", "ConcurrentWatches", "lacks", func(m *Memory) watchFunc {
			var mu sync.Mutex
			shared := map[string][]discovery.Endpoint{}
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				return m.Watch(ctx, service, func(set []discovery.Endpoint) {
					mu.Lock()
					defer mu.Unlock()
					if len(shared[service]) != len(set) {
						shared[service] = set
					}
					update(shared[service])
				})
			}
		}},
		{"updates at the same time", "FirstSet", "at the same time", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				return m.Watch(ctx, service, func(set []discovery.Endpoint) {
					var wg sync.WaitGroup
					for range 8 {
						wg.Go(func() {
							for range 100 {
								update(append([]discovery.Endpoint(nil), set...))
							}
						})
					}
					wg.Wait()
				})
			}
		}},
		{"update after return", "FirstSet", "after Watch returned", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				err := m.Watch(ctx, service, update)
				go func() {
					<-time.After(20 * time.Millisecond)
					update(nil)
				}()
				return err
			}
		}},
		{"a goroutine left", "FirstSet", "found unexpected goroutines", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				leaks.Go(func() { <-release })
				return m.Watch(ctx, service, update)
			}
		}},
		{"a flood of updates", "FirstSet", "flood", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				return m.Watch(ctx, service, func(set []discovery.Endpoint) {
					for range queue + 2 {
						update(append([]discovery.Endpoint(nil), set...))
					}
				})
			}
		}},
		{"retries of its own", "BrokenSource", "did not return within", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				for {
					if err := m.Watch(ctx, service, update); ctx.Err() != nil {
						return err
					}
					select {
					case <-ctx.Done():
					case <-time.After(10 * time.Millisecond):
					}
				}
			}
		}},
		{"an unknown service for a broken source", "BrokenSource", "the reason why it broke", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				err := m.Watch(ctx, service, update)
				if errors.Is(err, errDown) {
					return discovery.ErrUnknownService
				}
				return err
			}
		}},
		{"an empty set for a broken source", "BrokenSource", "want nothing", func(m *Memory) watchFunc {
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				err := m.Watch(ctx, service, update)
				if errors.Is(err, errDown) {
					update(nil)
				}
				return err
			}
		}},
		{"stays down", "Recovery", "no set within", func(m *Memory) watchFunc {
			var down sync.Map
			return func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
				if _, ok := down.Load(service); ok {
					return errDown
				}
				err := m.Watch(ctx, service, update)
				if errors.Is(err, errDown) {
					down.Store(service, true)
				}
				return err
			}
		}},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			m := &Memory{}
			src := memorySource(m, tt.watch(m))
			src.Timeout = 300 * time.Millisecond
			got := strings.Join(failuresOf(t, tt.check, src), "\n")
			if !strings.Contains(got, tt.says) {
				t.Errorf("check %s says %q, want it to find %q", tt.check, got, tt.says)
			}
		})
	}
}
