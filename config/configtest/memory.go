package configtest

import (
	"bytes"
	"context"
	"sync"
)

// Memory is a config.Source whose document is set by the test. The zero value is ready to use and has none. It is safe for
// concurrent use.
type Memory struct {
	mu       sync.Mutex
	document []byte        // guarded by mu; never changed
	down     error         // guarded by mu
	changed  chan struct{} // guarded by mu: closed at the next change; nil if nobody waits
}

// Set makes the document another one; nil takes it away. It returns before the watches have seen the change.
func (m *Memory) Set(document []byte) { m.change(func() { m.document = bytes.Clone(document) }) }

// Break makes all watches, present and future, end with err. A nil err heals the source.
func (m *Memory) Break(err error) { m.change(func() { m.down = err }) }

func (m *Memory) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

func (m *Memory) state() (document []byte, changed <-chan struct{}, down error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.document, m.changed, m.down
}

// Watch implements config.Source.
func (m *Memory) Watch(ctx context.Context, update func(document []byte)) error {
	for {
		document, changed, down := m.state()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case down != nil:
			return down
		}
		update(bytes.Clone(document))
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}
