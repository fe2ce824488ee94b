package lifecycle

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/zerohop/zerohop/discovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// diary is what happened in a test, and when.
type diary struct {
	start time.Time
	mu    sync.Mutex // guards lines
	lines []string
}

func (d *diary) note(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, time.Since(d.start).String()+" "+text)
}

func (d *diary) want(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, want) {
		t.Errorf("it happened\n\t%s\nwant\n\t%s", strings.Join(d.lines, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// listener accepts nothing.
type listener struct{ net.Listener }

func (listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80} }
func (listener) Close() error   { return nil }

// server returns one whose calls in flight take that long to end.
func (d *diary) server(calls time.Duration, as ...discovery.Instance) Server {
	over := make(chan struct{})
	end := sync.OnceFunc(func() { close(over) })
	return Server{
		Listener: listener{},
		Serve: func(net.Listener) error {
			d.note("serves")
			<-over
			return nil
		},
		Drain: func(ctx context.Context) error {
			d.note("drains")
			sleep(ctx, calls)
			if ctx.Err() == nil {
				d.note("drained")
				end()
			}
			return ctx.Err()
		},
		Stop: func() {
			d.note("stopped")
			end()
		},
		Instances: as,
	}
}

// registry is a Registrar whose tries and Close take that long, and whose first tries fail.
type registry struct {
	*diary
	takes, leaves time.Duration
	fails         []error
}

func (r *registry) Register(ctx context.Context, inst discovery.Instance) (discovery.Registration, error) {
	sleep(ctx, r.takes)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if len(r.fails) > 0 {
		err := r.fails[0]
		r.fails = r.fails[1:]
		return nil, err
	}
	r.note("registered " + inst.Service + " at " + inst.Endpoint.Addr)
	return &registration{r, inst}, nil
}

type registration struct {
	*registry
	inst discovery.Instance
}

func (r *registration) Close(ctx context.Context) error {
	sleep(ctx, r.leaves)
	if ctx.Err() == nil {
		r.note("left " + r.inst.Service)
	}
	return ctx.Err()
}

// start runs c, without signals unless it has some, and returns what ends it and its error.
func start(c Config) (context.CancelFunc, <-chan error) {
	ctx, cancel := context.WithCancel(context.Background())
	if c.Signals == nil {
		c.Signals = []os.Signal{}
	}
	done := make(chan error, 1)
	go func() { done <- Run(ctx, c) }()
	return cancel, done
}

func TestRunLeavesBeforeItDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{start: time.Now()}
		cancel, done := start(Config{
			Servers:   []Server{d.server(3*time.Second, discovery.Instance{Service: "orders"})},
			Registrar: &registry{diary: d, leaves: time.Second},
			Lag:       2 * time.Second,
		})
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
		slices.Sort(d.lines[:2]) // nobody waits for a server that listens already
		d.want(t, "0s registered orders at 10.0.0.1:80", "0s serves", "1m1s left orders", "1m3s drains", "1m6s drained")
	})
}

func TestRunEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{start: time.Now()}
		cancel, done := start(Config{
			Servers:   []Server{d.server(time.Hour, discovery.Instance{Service: "orders"}), d.server(time.Second)},
			Registrar: &registry{diary: d, leaves: time.Hour},
			Lag:       time.Hour,
			Timeout:   8 * time.Second,
		})
		synctest.Wait()
		cancel()
		err := <-done
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "orders stays registered") {
			t.Errorf("Run() = %v, want that of a drain and of a registry that took too long", err)
		}
		slices.Sort(d.lines)
		d.want(t, "0s registered orders at 10.0.0.1:80", "0s serves", "0s serves", "4s drains", "4s drains", "5s drained", "8s stopped")
	})
}

func TestRunDoesNotWaitLongForTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{start: time.Now()}
		cancel, done := start(Config{
			Servers:   []Server{d.server(0, discovery.Instance{Service: "orders"})},
			Registrar: &registry{diary: d, leaves: time.Hour},
		})
		synctest.Wait()
		cancel()
		<-done
		if got := time.Since(d.start); got != deregisterTime {
			t.Errorf("the end took %v, want %v", got, deregisterTime)
		}
	})
}

func TestRunServesWhileTheRegistryIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, down := &diary{start: time.Now()}, errors.New("down")
		var told []error
		cancel, done := start(Config{
			Servers:   []Server{d.server(0, discovery.Instance{Service: "orders", Endpoint: discovery.Endpoint{Addr: "orders.example:8080"}})},
			Registrar: &registry{diary: d, fails: slices.Repeat([]error{down}, 100)},
			OnError:   func(err error) { told = append(told, err) },
		})
		time.Sleep(100*lastWait*3/2 + time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
		if len(told) != 100 || !errors.Is(told[99], down) {
			t.Errorf("told of %d errors, want 100 of %v", len(told), down)
		}
		if len(d.lines) != 5 || !strings.HasSuffix(d.lines[1], "registered orders at orders.example:8080") {
			t.Errorf("it happened\n\t%s", strings.Join(d.lines, "\n\t"))
		}
	})
}

// The registry may have the instance although its answer has not come yet.
func TestRunTakesOutWhatIsBeingRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{start: time.Now()}
		cancel, done := start(Config{
			Servers:   []Server{d.server(0, discovery.Instance{Service: "orders"})},
			Registrar: &registry{diary: d, takes: 2 * time.Second},
		})
		time.Sleep(time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
		d.want(t, "0s serves", "2s registered orders at 10.0.0.1:80", "2s left orders", "2s drains", "2s drained")
	})
}

func TestRunEndsIfAnInstanceMakesNoSense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{start: time.Now()}
		_, done := start(Config{
			Servers:   []Server{d.server(0, discovery.Instance{Service: "orders"})},
			Registrar: &registry{diary: d, fails: []error{discovery.ErrInvalidInstance}},
		})
		if err := <-done; !errors.Is(err, discovery.ErrInvalidInstance) {
			t.Errorf("Run() = %v, want %v", err, discovery.ErrInvalidInstance)
		}
	})
}

func TestRunEndsWithAnyServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, broken := &diary{start: time.Now()}, errors.New("broken")
		failing := d.server(0)
		failing.Serve = func(net.Listener) error {
			time.Sleep(time.Second)
			return broken
		}
		_, done := start(Config{Servers: []Server{d.server(2 * time.Second), failing}})
		if err := <-done; !errors.Is(err, broken) {
			t.Errorf("Run() = %v, want %v", err, broken)
		}
		if got, want := time.Since(d.start), 3*time.Second; got != want {
			t.Errorf("it ended after %v, want %v: the calls of the other server", got, want)
		}
	})
}

// One that stops a process may tell both the process and its group, as timeout(1) does.
func TestShutdownTakesAnEchoForNoSecondSignal(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		want  []string
	}{
		{0, []string{"0s drains", "1m0s drained"}},
		{echoTime, []string{"0s drains", "1s stopped"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &diary{start: time.Now()}
			r := newRun(Config{Servers: []Server{d.server(time.Minute)}, Timeout: time.Hour})
			signals := make(chan os.Signal)
			done := make(chan struct{})
			go func() {
				defer close(done)
				r.shutdown(signals)
			}()
			time.Sleep(c.after)
			signals <- os.Interrupt
			<-done
			d.want(t, c.want...)
			if cut := len(r.errs) > 0; cut != (c.after > 0) {
				t.Errorf("after a second signal %v later: errors %v", c.after, r.errs)
			}
		})
	}
}

func TestRunReportsEveryMistake(t *testing.T) {
	err := Run(t.Context(), Config{
		Servers: []Server{{Instances: []discovery.Instance{{}}}},
		Lag:     -1, Timeout: -1,
	})
	for _, field := range []string{"Servers[0].Listener", "Servers[0]: Serve", "need a Registrar", "Instances[0].Service", "Lag", "Timeout"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("Run() = %v, want something about %s", err, field)
		}
	}
	if err := Run(t.Context(), Config{}); err == nil {
		t.Error("Run() = nil without servers")
	}
}
