package configtest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/internal/conformance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("connection refused")

// memorySource puts a Memory under the control of the suite, with s in front of it if s is not nil.
func memorySource(m *Memory, s config.Source) Source {
	if s == nil {
		s = m
	}
	return Source{
		Source:  s,
		Set:     func(_ testing.TB, document []byte) { m.Set(document) },
		Break:   func(testing.TB) { m.Break(errDown) },
		Heal:    func(testing.TB) { m.Break(nil) },
		Timeout: 10 * time.Second,
	}
}

func TestMemoryConforms(t *testing.T) {
	m := &Memory{}
	Test(t, memorySource(m, nil))
}

func TestPaddedDocumentsHaveTheirSize(t *testing.T) {
	for _, size := range []int{1000, 1234, 54321} {
		if got := len(padded(1, size)); got != size {
			t.Errorf("padded document has %d bytes, want %d", got, size)
		}
		if _, err := config.Parse([]byte(padded(1, size)), config.ParseOptions{}); err != nil {
			t.Errorf("padded document is not valid: %v", err)
		}
	}
}

type watchFunc func(ctx context.Context, update func([]byte)) error

func (f watchFunc) Watch(ctx context.Context, update func([]byte)) error { return f(ctx, update) }

// failuresOf returns what the named check says of a source.
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

func TestSuiteCatchesBrokenSources(t *testing.T) {
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
		{"trimmed documents", "First", "complete and at once", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				return m.Watch(ctx, func(d []byte) { update(bytes.TrimSpace(d)) })
			}
		}},
		{"an empty document for none", "None", "says that there is none", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				return m.Watch(ctx, func(d []byte) { update(append([]byte{}, d...)) })
			}
		}},
		{"nothing for none", "None", "no document within", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				return m.Watch(ctx, func(d []byte) {
					if d != nil {
						update(d)
					}
				})
			}
		}},
		{"no changes", "Changes", "no document within", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				var once sync.Once
				return m.Watch(ctx, func(d []byte) { once.Do(func() { update(d) }) })
			}
		}},
		{"documents in parts", "Large", "was never there", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				return m.Watch(ctx, func(d []byte) {
					update(bytes.Clone(d[:len(d)/2]))
					update(d)
				})
			}
		}},
		{"size is what tells a change", "Changes", "no document within", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				size := -1
				return m.Watch(ctx, func(d []byte) {
					if len(d) != size {
						size = len(d)
						update(d)
					}
				})
			}
		}},
		{"removal is not told", "Removal", "no document within", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				return m.Watch(ctx, func(d []byte) {
					if d != nil {
						update(d)
					}
				})
			}
		}},
		{"the return of the same document is not told", "Removal", "no document within", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				var last []byte
				return m.Watch(ctx, func(d []byte) {
					if d == nil || !bytes.Equal(last, d) {
						if d != nil {
							last = bytes.Clone(d)
						}
						update(d)
					}
				})
			}
		}},
		{"the end of a burst is lost", "Burst", "no document within", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				return m.Watch(ctx, func(d []byte) {
					if !bytes.Contains(d, []byte("20s")) {
						update(d)
					}
				})
			}
		}},
		{"nil at the end", "ContextEnd", "returned nil", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				_ = m.Watch(ctx, update)
				return nil
			}
		}},
		{"own error at the end", "ContextEnd", "after cancel", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				_ = m.Watch(ctx, update)
				return errors.New("closed")
			}
		}},
		{"slow end", "ContextEnd", "did not return within", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				err := m.Watch(ctx, update)
				<-time.After(prompt + prompt/4)
				return err
			}
		}},
		{"a shared slice", "ConcurrentWatches", "was never there", func(m *Memory) watchFunc {
			var (
				mu     sync.Mutex
				shared []byte
			)
			return func(ctx context.Context, update func([]byte)) error {
				return m.Watch(ctx, func(d []byte) {
					mu.Lock()
					defer mu.Unlock()
					if len(shared) != len(d) {
						shared = d
					}
					update(shared)
				})
			}
		}},
		{"updates at the same time", "First", "at the same time", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				return m.Watch(ctx, func(d []byte) {
					var wg sync.WaitGroup
					for range 8 {
						wg.Go(func() {
							for range 100 {
								update(bytes.Clone(d))
							}
						})
					}
					wg.Wait()
				})
			}
		}},
		{"update after return", "First", "after Watch returned", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				err := m.Watch(ctx, update)
				go func() {
					<-time.After(20 * time.Millisecond)
					update(nil)
				}()
				return err
			}
		}},
		{"a goroutine left", "First", "found unexpected goroutines", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				leaks.Go(func() { <-release })
				return m.Watch(ctx, update)
			}
		}},
		{"a flood of updates", "First", "flood", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				return m.Watch(ctx, func(d []byte) {
					for range queue + 2 {
						update(bytes.Clone(d))
					}
				})
			}
		}},
		{"retries of its own", "BrokenSource", "did not return within", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				for {
					if err := m.Watch(ctx, update); ctx.Err() != nil {
						return err
					}
					select {
					case <-ctx.Done():
					case <-time.After(10 * time.Millisecond):
					}
				}
			}
		}},
		{"no document for a broken source", "BrokenSource", "want nothing", func(m *Memory) watchFunc {
			return func(ctx context.Context, update func([]byte)) error {
				err := m.Watch(ctx, update)
				if errors.Is(err, errDown) {
					update(nil)
				}
				return err
			}
		}},
		{"stays down", "Recovery", "after the source is back", func(m *Memory) watchFunc {
			var (
				mu   sync.Mutex
				down bool
			)
			return func(ctx context.Context, update func([]byte)) error {
				mu.Lock()
				defer mu.Unlock()
				if down {
					return errDown
				}
				err := m.Watch(ctx, update)
				down = errors.Is(err, errDown)
				return err
			}
		}},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			m := &Memory{}
			src := memorySource(m, tt.watch(m))
			src.Timeout, src.Size = 100*time.Millisecond, 10_000
			got := strings.Join(failuresOf(t, tt.check, src), "\n")
			if !strings.Contains(got, tt.says) {
				t.Errorf("check %s says %q, want it to find %q", tt.check, got, tt.says)
			}
		})
	}
}
