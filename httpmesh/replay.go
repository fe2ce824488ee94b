package httpmesh

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

const (
	// replayLimit is how much of a body is kept for other attempts. Most bodies of calls are smaller, and a thousand
	// uploads at once take no more than 64 MiB. Linkerd keeps as much.
	replayLimit = 64 << 10
	// replayWait is how long an attempt waits for a read that the one before has begun. A source that takes longer is
	// not ready either, and its owner gets the answer there is.
	replayWait = 50 * time.Millisecond
)

var (
	errNotRepeatable = errors.New("httpmesh: the body of the request cannot be sent again")
	errRetired       = errors.New("httpmesh: the body of the request was given to another attempt")
)

// replay lets the attempts of a call share a body that can be read once. What is read of it is kept up to a limit. A
// later attempt sends that first, and then what is left. If more was read, no other attempt can be made.
//
// One attempt at a time reads the source: a transport may still do so when its RoundTrip has returned, so such a read
// is waited for, and it is the last one of its attempt. Only when the whole body is kept may attempts run side by side.
type replay struct {
	src io.ReadCloser

	mu     sync.Mutex // guards what follows; not held while src is used
	limit  int        // of kept
	kept   []byte     // all that was read of src, if not lost
	lost   bool       // more than limit was
	err    error      // the end of src
	whole  bool       // kept is all of src
	reader *part      // that is in a read of src
	idle   chan struct{}
	over   bool // no attempt will begin any more
	closed bool // src is
	parts  [resilience.MaxAttempts]part
}

// part is the body as one attempt sees it.
type part struct {
	replay  *replay // nil before the attempt begins
	off     int
	closed  bool // by its transport
	retired bool // its attempt is over, or never was
}

// begin returns the body of attempt i. limit is how much the first one is to keep; joins says that another attempt is
// under way. It returns nil if the body cannot be sent (again), or not before ctx ends.
func (r *replay) begin(ctx context.Context, i, limit int, joins bool) *part {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil
	}
	if i == 0 {
		r.limit = limit
	} else if !r.whole {
		if joins {
			return nil
		}
		for k := range i {
			r.parts[k].retired = true
		}
		if r.reader != nil {
			r.await(ctx)
		}
		if r.reader != nil || r.lost || r.err != nil && !r.whole {
			return nil
		}
	}
	p := &r.parts[i]
	p.replay = r
	return p
}

// await waits for the read of src that is under way, but not for long. r.mu is held, save meanwhile.
func (r *replay) await(ctx context.Context) {
	idle := make(chan struct{})
	r.idle = idle
	r.mu.Unlock()
	defer r.mu.Lock()
	t := time.NewTimer(replayWait)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
	case <-ctx.Done():
	}
}

// exhausted reports whether so much was read that no other attempt can be made.
func (r *replay) exhausted() bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// retire says that attempt i is over, whatever its transport may still read.
func (r *replay) retire(i int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts[i].retired = true
}

// end says that no attempt will begin any more, and that the answer is that of the given one, -1 if there is none. Its
// transport may go on to read. The source is closed as soon as nobody does.
func (r *replay) end(answer int) {
	r.mu.Lock()
	r.over = true
	for i := range r.parts {
		if i != answer {
			r.parts[i].retired = true
		}
	}
	done := r.done()
	r.mu.Unlock()
	if done {
		r.src.Close()
	}
}

// done reports whether src is to be closed now, once. r.mu is held.
func (r *replay) done() bool {
	if r.closed || !r.over && !r.lost || r.reader != nil && !r.reader.closed {
		return false
	}
	for i := range r.parts {
		if p := &r.parts[i]; p.replay != nil && !p.closed && !p.retired {
			return false
		}
	}
	r.closed = true
	return true
}

// Read reads what was kept, and then the source.
func (p *part) Read(b []byte) (n int, err error) {
	r := p.replay
	r.mu.Lock()
	switch {
	case p.closed:
		err = http.ErrBodyReadAfterClose
	case p.retired || r.reader != nil:
		err = errRetired
	case p.off < len(r.kept):
		n = copy(b, r.kept[p.off:])
		p.off += n
	case r.err != nil:
		err = r.err
	default:
		r.reader = p
		r.mu.Unlock()
		return p.fetch(b)
	}
	r.mu.Unlock()
	return n, err
}

// fetch reads the source.
func (p *part) fetch(b []byte) (n int, err error) {
	r := p.replay
	defer func() {
		r.mu.Lock()
		r.reader, r.err = nil, err
		r.keep(b[:n])
		r.whole = err == io.EOF && !r.lost
		p.off += n
		if r.idle != nil {
			close(r.idle)
			r.idle = nil
		}
		done := r.done()
		r.mu.Unlock()
		if done {
			r.src.Close()
		}
	}()
	n, err = r.src.Read(b)
	return n, err
}

// keep adds what was read to what is kept, as long as it may be needed. r.mu is held.
func (r *replay) keep(b []byte) {
	n := len(r.kept) + len(b)
	switch {
	case r.lost:
	case n > r.limit || r.over && n > 0:
		r.lost, r.kept = true, nil
	case n > cap(r.kept):
		r.kept = append(make([]byte, 0, min(max(n, 2*cap(r.kept), 512), r.limit)), r.kept...)
		fallthrough
	default:
		r.kept = append(r.kept, b...)
	}
}

// Close says that the transport of the attempt will not read on. The source stays open while another attempt may.
func (p *part) Close() error {
	r := p.replay
	r.mu.Lock()
	p.closed = true
	done := r.done()
	r.mu.Unlock()
	if done {
		return r.src.Close()
	}
	return nil
}
