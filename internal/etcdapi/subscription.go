package etcdapi

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// subscription is one watch on a stream.
type subscription struct {
	stream  *stream
	key     []byte
	changed chan struct{} // holds a value if there is something to take; nil for signs of life

	// Guarded by stream.mu.
	id      int64
	created bool // by the server, which knows it as id
	gone    bool // nobody waits for what it brings
	queue   []*pb.WatchResponse
	size    int
	err     error
}

// subscribe watches the keys from key up to end, from revision on. The caller must call close.
func (s *stream) subscribe(key, end []byte, revision int64) *subscription {
	b := &subscription{stream: s, key: key, changed: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		b.tell()
		return b
	}
	s.create(b, &pb.WatchCreateRequest{Key: key, RangeEnd: end, StartRevision: revision, Fragment: true})
	return b
}

// close ends the watch.
func (b *subscription) close() {
	b.stream.mu.Lock()
	defer b.stream.mu.Unlock()
	b.gone, b.queue = true, nil
	if b.created && b.stream.active[b.id] == b {
		delete(b.stream.active, b.id)
		b.stream.cancel(b.id)
	}
}

// take returns what has come since the last time and why no more comes, if that is so.
func (b *subscription) take() ([]*pb.WatchResponse, error) {
	b.stream.mu.Lock()
	defer b.stream.mu.Unlock()
	queue := b.queue
	b.queue, b.size = nil, 0
	if b.err != nil {
		return queue, b.err
	}
	return queue, b.stream.err
}

// push adds an answer. Who does not take what comes is ended, so that the others go on.
func (b *subscription) push(resp *pb.WatchResponse) {
	if b.gone || b.err != nil {
		return
	}
	if b.size += resp.Size(); b.size > MaxAnswer {
		b.queue, b.err = nil, errBehind
	} else {
		b.queue = append(b.queue, resp)
	}
	b.tell()
}

func (b *subscription) tell() {
	select {
	case b.changed <- struct{}{}:
	default: // a value is there, or nobody waits
	}
}
