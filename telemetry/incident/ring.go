package incident

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// A ring holds the last entries that fit into so many bytes.
type ring struct {
	overwritten atomic.Uint64

	mu         sync.Mutex // guards all below
	buf        []byte
	head, tail uint64 // where the next record goes and where the oldest begins, counted from the beginning of time
	records    int
	scratch    codec
}

const (
	recordHead = 4       // bytes of length before each record
	maxRecord  = 1 << 13 // bytes
)

func newRing(size int) *ring { return &ring{buf: make([]byte, size)} }

// add puts an entry in, at the cost of the oldest ones.
func (r *ring) add(e *Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scratch.buf = r.scratch.buf[:0]
	e.code(&r.scratch)
	rec := r.scratch.buf
	if len(rec) > maxRecord { // no entry is: its texts are bounded
		r.overwritten.Add(1)
		return
	}
	for uint64(len(r.buf))-(r.head-r.tail) < uint64(recordHead+len(rec)) {
		r.tail += recordHead + uint64(r.length(r.tail))
		r.records--
		r.overwritten.Add(1)
	}
	var head [recordHead]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(rec)))
	r.write(head[:])
	r.write(rec)
	r.records++
}

func (r *ring) write(b []byte) {
	for len(b) > 0 {
		n := copy(r.buf[r.head%uint64(len(r.buf)):], b)
		b = b[n:]
		r.head += uint64(n)
	}
}

func (r *ring) read(at uint64, b []byte) {
	n := copy(b, r.buf[at%uint64(len(r.buf)):])
	copy(b[n:], r.buf)
}

func (r *ring) length(at uint64) uint32 {
	var head [recordHead]byte
	r.read(at, head[:])
	return binary.LittleEndian.Uint32(head[:])
}

// A cursor reads what is in a ring at its making, a piece at a time, so that it keeps nobody waiting for long. What is overwritten
// before it gets there is passed over.
type cursor struct {
	ring    *ring
	at, end uint64
	piece   [][]byte
	next    Entry // if ok
	ok      bool
}

func (r *ring) cursor() *cursor {
	r.mu.Lock()
	c := &cursor{ring: r, at: r.tail, end: r.head}
	r.mu.Unlock()
	c.advance()
	return c
}

// advance makes next the next entry.
func (c *cursor) advance() {
	for {
		if len(c.piece) == 0 && !c.fill() {
			c.ok = false
			return
		}
		c.next, c.ok = decode(c.piece[0])
		c.piece = c.piece[1:]
		if c.ok {
			return
		}
	}
}

const pieceRecords = 64

func (c *cursor) fill() bool {
	r := c.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	c.at = max(c.at, r.tail)
	c.piece = c.piece[:0]
	for len(c.piece) < pieceRecords && c.at < c.end {
		b := make([]byte, r.length(c.at))
		r.read(c.at+recordHead, b)
		c.at += recordHead + uint64(len(b))
		c.piece = append(c.piece, b)
	}
	return len(c.piece) > 0
}

// RingState says what one part of the memory has.
type RingState struct {
	// Bytes is its size, Records how many entries are in it, and Overwritten how many others were, since the beginning.
	Bytes       int    `json:"bytes"`
	Records     int    `json:"records"`
	Overwritten uint64 `json:"overwritten"`
	// Since is when the oldest of them was, counted from Header.Start; what was before is not known. 0 if nothing was overwritten.
	Since time.Duration `json:"since"`
}

func (r *ring) state() RingState {
	s := RingState{Bytes: len(r.buf)}
	r.mu.Lock()
	s.Records, s.Overwritten = r.records, r.overwritten.Load()
	var oldest []byte
	if s.Records > 0 && s.Overwritten > 0 {
		oldest = make([]byte, r.length(r.tail))
		r.read(r.tail+recordHead, oldest)
	}
	r.mu.Unlock()
	if oldest != nil {
		e, _ := decode(oldest)
		s.Since = e.At
	}
	return s
}
