package console

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/zerohop/zerohop"
)

// Console collects what meshes tell and shows it. It is made by New. Its methods are safe for concurrent use.
type Console struct {
	cfg     Config
	hosts   hosts
	streams chan struct{} // has a place for each stream that may be

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup // streams
}

// New returns a Console that knows no mesh yet. The error names the field of every mistake.
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
	c := &Console{cfg: cfg, hosts: newHosts(cfg.Hosts), streams: make(chan struct{}, cfg.MaxStreams)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Close ends all streams and stops collecting. It is idempotent and returns nil. Requests after it are answered with 503.
func (c *Console) Close() error {
	c.cancel()
	c.tasks.Wait()
	return nil
}

// Hooks returns the hooks that tell the console about a mesh. Each mesh needs hooks of its own: what meshes that share them do is
// counted together.
func (c *Console) Hooks() zerohop.Hooks { return zerohop.Hooks{} }

// millis returns a duration as the views have it, rounded to a microsecond.
func millis(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
