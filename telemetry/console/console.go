package console

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerohop/zerohop"
)

// Console collects what meshes tell and shows it. It is made by New. Its methods are safe for concurrent use.
type Console struct {
	cfg     Config
	hosts   hosts
	base    time.Time
	streams chan struct{} // has a place for each stream that may be

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup // the sampler and streams
	life   sync.Mutex     // guards closed against new tasks
	closed bool

	collectors                  atomic.Uint64
	services, routes, endpoints atomic.Int64 // that have counts
	uncounted                   atomic.Uint64
	timeline                    timeline
	failures                    failures

	summing sync.Mutex // guards summed and sumOf; one reads for all streams. Taken before all others.
	summed  Summary
	sumOf   uint64 // moves that summed is later than

	mu      sync.Mutex // guards what follows, and what belongs to the sampler; the locks of collectors are taken after it
	meshes  []*openMesh
	moves   uint64 // meshes opened and closed
	inbound []*inbound
	ticked  chan struct{} // closed at the next tick
	ticks   uint64
}

// openMesh is a mesh that is open.
type openMesh struct {
	mesh      *zerohop.Mesh
	collector *collector
	id        string
	opened    time.Time

	mu     sync.Mutex // guards what follows; one reads for all
	state  zerohop.State
	read   time.Time
	spec   zerohop.Spec
	number uint64
	specAt time.Time
}

// fresh is for how long what was read of a mesh is taken for the present, so that many requests cost no more than a few.
const fresh = 250 * time.Millisecond

// New returns a Console that knows no mesh yet. It must be closed. The error names the field of every mistake.
func New(cfg Config) (*Console, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Name == "" {
		cfg.Name = filepath.Base(os.Args[0])
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 16
	}
	cfg.Hosts = slices.Clone(cfg.Hosts)
	c := &Console{cfg: cfg, hosts: newHosts(cfg.Hosts), base: time.Now(), streams: make(chan struct{}, cfg.MaxStreams), ticked: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.tasks.Go(c.run)
	return c, nil
}

// Close ends all streams and the goroutine that collects, and waits for them: up to 5 s if a reader is stuck. Requests after it are
// answered with 503, and hooks collect nothing that is shown. It is idempotent and returns nil.
func (c *Console) Close() error {
	c.life.Lock()
	c.closed = true
	c.life.Unlock()
	c.cancel()
	c.tasks.Wait()
	return nil
}

// run samples what was counted once a tick, until Close.
func (c *Console) run() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-t.C:
			c.sample()
		}
	}
}

// sample takes note of what a tick has brought, and wakes streams.
func (c *Console) sample() {
	note := c.came()
	c.mu.Lock()
	defer c.mu.Unlock()
	note()
	seen := map[*collector]bool{}
	for _, o := range c.meshes {
		if !seen[o.collector] {
			seen[o.collector] = true
			o.collector.sample()
		}
	}
	c.ticks++
	close(c.ticked)
	c.ticked = make(chan struct{})
}

// next returns what is closed at the next tick.
func (c *Console) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ticked
}

// open returns the meshes that are open.
func (c *Console) open() []*openMesh {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.meshes)
}

// now returns the state of the mesh. It is read-only.
func (o *openMesh) now() zerohop.State {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); o.read.IsZero() || now.Sub(o.read) >= fresh {
		o.state, o.read = o.mesh.State(), now
	}
	return o.state
}

// specNow returns the spec of the mesh and its generation. It is read-only.
func (o *openMesh) specNow() (zerohop.Spec, uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); o.specAt.IsZero() || now.Sub(o.specAt) >= fresh {
		o.spec, o.number = o.mesh.Spec()
		o.specAt = now
	}
	return o.spec, o.number
}

// stale has the mesh read anew.
func (o *openMesh) stale() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.read, o.specAt = time.Time{}, time.Time{}
}

// title is the name of the mesh for people.
func (o *openMesh) title(c *Console) string {
	if o.collector.name != "" {
		return o.collector.name
	}
	return c.cfg.Name
}

// millis returns a duration as the views have it, rounded to a microsecond.
func millis(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// left returns how long it is from now until a time, 0 if that is past or not known.
func left(now, until time.Time) float64 {
	if until.IsZero() {
		return 0
	}
	return millis(max(until.Sub(now), 0))
}
