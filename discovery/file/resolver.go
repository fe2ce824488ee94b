package file

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/zerohop/zerohop/discovery"
)

// Resolver watches services in a file. It is a [discovery.Resolver], safe for concurrent use, and must not be copied
// once it is in use.
//
// While there are watches, two goroutines follow the file for all of them. They see a change at once where the
// operating system tells (also of a symbolic link on the way), and within five seconds on file systems where
// it does not, such as network ones.
type Resolver struct {
	// Path is the file. Required.
	Path string

	mu   sync.Mutex
	feed *feed    // guarded by mu; nil while nobody watches
	last *content // guarded by mu: what the feed before this one had read
	deaf bool     // takes no events, in tests
}

var _ discovery.Resolver = (*Resolver)(nil)

// Watch implements [discovery.Resolver]. The case of service does not matter. Watch ends with an error while the file is
// missing, unreadable, larger than 4 MiB or has a mistake anywhere; the error lists up to ten of them, each with line
// and field. It ends with discovery.ErrUnknownService if the file is valid and does not name the service.
func (r *Resolver) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.Path == "" {
		return errors.New("file: Resolver.Path is empty")
	}
	f := r.join()
	defer r.leave(f)
	if err := f.settle(ctx); err != nil {
		return err
	}
	var last *[]discovery.Endpoint
	for {
		now, changed := f.state()
		if now != nil {
			if now.err != nil {
				return now.err
			}
			set, ok := now.services[strings.ToLower(service)]
			if !ok {
				return fmt.Errorf("file: %w: %.256q is not in %s", discovery.ErrUnknownService, service, r.Path)
			}
			if last == nil || !slices.EqualFunc(*last, set, discovery.Endpoint.Equal) {
				update(slices.Clone(set))
				last = &set
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// join returns the feed of all watches.
func (r *Resolver) join() *feed {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.feed == nil {
		r.feed = newFeed(r.Path, r.last, r.deaf)
	}
	r.feed.watches++
	return r.feed
}

// leave ends the feed with the last of its watches, and waits for that.
func (r *Resolver) leave(f *feed) {
	r.mu.Lock()
	f.watches--
	left := f.watches
	if left == 0 {
		r.feed = nil
	}
	r.mu.Unlock()
	if left > 0 {
		return
	}
	f.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, _ = f.state()
}
