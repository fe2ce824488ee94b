package zerohop

import (
	"sync"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

const (
	// snapshotPause is the time between two rounds of writing: a service that changes all the time costs a write a second.
	snapshotPause = time.Second
	// snapshotConfirm is how often sets that stay are noted to be still right, which costs a system call each.
	snapshotConfirm = time.Minute
)

// snapshots writes the sets of services to the disk. Whoever has a new one only leaves it here.
type snapshots struct {
	to discovery.Snapshot

	mu    sync.Mutex // guards what follows
	fresh map[string][]discovery.Endpoint
	// doubtful are sets in use of which the source has not said yet that they are right.
	doubtful map[string][]discovery.Endpoint
	heard    map[string]bool // whether the source is heard, of services that are watched
	err      error           // of the last round
	wake     chan struct{}   // of one
}

func newSnapshots(to discovery.Snapshot) *snapshots {
	if to.Dir == "" {
		return nil
	}
	return &snapshots{
		to: to, fresh: map[string][]discovery.Endpoint{}, doubtful: map[string][]discovery.Endpoint{},
		heard: map[string]bool{}, wake: make(chan struct{}, 1),
	}
}

// SnapshotErr returns why the sets of services could not be written to Config.Snapshot the last time, nil if they could.
func (m *Mesh) SnapshotErr() error {
	if m.snapshots == nil {
		return nil
	}
	m.snapshots.mu.Lock()
	defer m.snapshots.mu.Unlock()
	return m.snapshots.err
}

// observe takes what happened to a service, and the set that is in use since.
func (w *snapshots) observe(service string, ev discovery.Event, set []discovery.Endpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ev.Kind == discovery.EventEnded {
		delete(w.heard, service)
		delete(w.doubtful, service)
		return
	}
	w.heard[service] = ev.Lost.IsZero()
	right := ev.Held == 0 && ev.Lost.IsZero() // what the source does not list is not to outlive the process
	switch doubtful, ok := w.doubtful[service]; {
	case ev.Kind == discovery.EventPublished && right:
	case ev.Kind == discovery.EventPublished:
		w.doubtful[service] = set
		return
	case ev.Kind == discovery.EventConfirmed && right && ok:
		set = doubtful
	default:
		return
	}
	delete(w.doubtful, service)
	w.fresh[service] = set
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run writes until done is closed. What came last is left to Close, when no watch can bring more.
func (w *snapshots) run(done <-chan struct{}) {
	confirm := time.NewTicker(snapshotConfirm)
	defer confirm.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-confirm.C:
			w.write() // what could not be written before
			w.confirm(now)
		case <-w.wake:
			w.write()
			pause := time.NewTimer(snapshotPause)
			select {
			case <-pause.C:
			case <-done:
				pause.Stop()
			}
		}
	}
}

// write saves what is new. What cannot be written is kept for the next round.
func (w *snapshots) write() {
	w.mu.Lock()
	fresh := w.fresh
	w.fresh = map[string][]discovery.Endpoint{}
	w.mu.Unlock()
	if len(fresh) == 0 {
		return
	}
	var failed error
	for service, set := range fresh {
		err := w.to.Save(service, set)
		if err == nil {
			delete(fresh, service)
			continue
		}
		failed = err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = failed
	for service, set := range fresh {
		_, newer := w.fresh[service]
		if _, watched := w.heard[service]; watched && !newer { // others would fill the memory
			w.fresh[service] = set
		}
	}
}

func (w *snapshots) confirm(now time.Time) {
	w.mu.Lock()
	var heard []string
	for service, ok := range w.heard {
		if _, stale := w.fresh[service]; ok && !stale {
			heard = append(heard, service)
		}
	}
	w.mu.Unlock()
	for _, service := range heard {
		_ = w.to.Confirm(service, now) // one that is not there could not be written, which is known
	}
}
