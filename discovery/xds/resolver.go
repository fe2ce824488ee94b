package xds

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/zerohop/zerohop/discovery"
)

// linger is how long a stream stays open that nobody uses: longer than discovery.Run waits to ask again for a service that
// is unknown.
const linger = 10 * time.Second

// Resolver watches services through a control plane. It is a [discovery.Resolver], a [discovery.RemoteSource] and a
// [discovery.ZoneSource], safe for concurrent use.
//
// All watches share one stream, which opens with the first and closes 10 s after the last. When it breaks, all of them end with the
// reason, and those that follow wait for one new stream; it opens after a random wait that grows from 0.2 s to 1.5 s,
// and to 30 s if the control plane refuses us and all services, a new one included, have endpoints. A control plane that no longer answers is
// noticed within 40 s, whatever its policy on pings. One whose answers cannot be decoded is asked again every 1.1 s on average, for
// endpoints only once what it says of clusters can be read.
type Resolver struct {
	config Config
	node   *corev3.Node
	limits limits

	wg sync.WaitGroup // streams
	// closing is closed by Close.
	closing   chan struct{}
	closeOnce sync.Once

	// mu guards the fields below, and those of the session but its own channels.
	mu       sync.Mutex
	store    *store
	session  *session // nil if there is none
	gate     gate
	garbled  bool // the last stream ended with an answer that could not be decoded
	watchers int
	idle     *time.Timer // ends the session; nil if it has watchers
}

// limits are times that tests shorten.
type limits struct {
	linger, firstProbe, probeInterval, probeTime time.Duration
}

var (
	_ discovery.Resolver     = (*Resolver)(nil)
	_ discovery.RemoteSource = (*Resolver)(nil)
	_ discovery.ZoneSource   = (*Resolver)(nil)
)

// New returns a resolver for the control plane that config names, and an error that names all fields that are wrong. It does
// not connect: the first watch does.
func New(config Config) (*Resolver, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	if config.Cluster == nil {
		config.Cluster = func(service string) string { return service }
	}
	if config.DeleteGrace == 0 {
		config.DeleteGrace = defaultDeleteGrace
	}
	if config.OnError == nil {
		config.OnError = func(error) {}
	}
	node, err := config.Node.proto()
	if err != nil {
		return nil, err
	}
	return &Resolver{
		config:  config,
		node:    node,
		limits:  limits{linger: linger, firstProbe: answerTime, probeInterval: probeInterval, probeTime: probeTime},
		closing: make(chan struct{}),
		store:   newStore(config.DeleteGrace),
	}, nil
}

// Remote reports that others write what the resolver reads.
func (r *Resolver) Remote() bool { return true }

// Zone returns Config.Node.Zone: a bootstrap file says where the process runs.
func (r *Resolver) Zone(ctx context.Context) (string, error) { return r.config.Node.Zone, ctx.Err() }

// Close ends the stream and all watches, present and future, with an error, and waits until the stream is closed. It is
// idempotent and returns nil.
func (r *Resolver) Close() error {
	r.closeOnce.Do(func() { close(r.closing) })
	r.mu.Lock()
	if r.session != nil {
		r.session.end(errClosed)
	}
	if r.idle != nil {
		r.idle.Stop()
	}
	r.mu.Unlock()
	r.wg.Wait()
	return nil
}

// watcher is one call of Watch.
type watcher struct {
	root    *root
	session *session
	changed chan struct{}
}

// wake tells the watcher to look at its root.
func (w *watcher) wake() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Watch implements [discovery.Resolver]. A service is unknown if the control plane answers without its cluster, or says nothing of it or
// its endpoints for 15 s while it answers otherwise; if it was known before, the endpoints stay for
// Config.DeleteGrace. A cluster or endpoints that are refused end the watch with the reason, unless there is an earlier
// version to go on with. Errors are a *discovery.RefusedError if the control plane ends the stream with a status that
// says so.
func (r *Resolver) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	name := r.config.Cluster(service)
	if name == "" {
		return fmt.Errorf("xds: service %s: Config.Cluster gives no name", cut(service))
	}
	w, err := r.join(ctx, name)
	if err != nil {
		return err
	}
	defer r.leave(w)
	var last *view
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.session.done:
			return w.session.err
		case <-w.changed:
		}
		v := r.look(w)
		if v == nil || v == last {
			continue
		}
		if v.err != nil {
			return v.err
		}
		last = v
		update(slices.Clone(v.set))
	}
}

// join waits until a stream may be open, opens it if there is none, and adds a watcher to it.
func (r *Resolver) join(ctx context.Context, name string) (*watcher, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w, wait, err := r.tryJoin(name)
		if w != nil || err != nil {
			return w, err
		}
		// Who has no endpoints may open a stream earlier.
		timer := time.NewTimer(min(wait, time.Second))
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-r.closing:
		}
		timer.Stop()
	}
}

// tryJoin returns how long to wait if no stream may be open yet.
func (r *Resolver) tryJoin(name string) (*watcher, time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closing:
		return nil, 0, errClosed
	default:
	}
	if r.session == nil {
		opens := r.gate.opens
		if !r.store.has(name) {
			opens = r.gate.urgent
		}
		if wait := time.Until(opens); wait > 0 {
			return nil, wait, nil
		}
		r.start()
	}
	if r.idle != nil {
		r.idle.Stop()
		r.idle = nil
	}
	w := &watcher{root: r.store.root(name), session: r.session, changed: make(chan struct{}, 1)}
	w.root.watchers[w] = true
	w.wake()
	r.watchers++
	r.store.refresh()
	r.session.wake()
	return w, 0, nil
}

// start opens a stream. The caller holds the lock.
func (r *Resolver) start() {
	r.store.restart()
	s := newSession(r)
	s.wary = r.garbled
	r.session = s
	r.wg.Go(s.run) // ended by end
}

func (r *Resolver) leave(w *watcher) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(w.root.watchers, w)
	if len(w.root.watchers) == 0 {
		w.root.idle = time.Now()
	}
	if r.watchers--; r.watchers > 0 || r.session == nil {
		return
	}
	r.idle = time.AfterFunc(r.limits.linger, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.watchers == 0 && r.session != nil {
			r.session.end(errIdle)
			r.session = nil // who comes now opens a new one
		}
	})
}

// look returns what the watcher is to see now.
func (r *Resolver) look(w *watcher) *view {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != w.session {
		return nil
	}
	return w.root.view
}
