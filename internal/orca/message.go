package orca

import (
	"math"

	"github.com/zerohop/zerohop/loadbalance"
)

// The fields of an OrcaLoadReport, and of an entry of its maps. It is read by hand because the packages that know it cost
// those who use net/http alone the whole of protobuf.
const (
	fieldCPU         = 1
	fieldRPS         = 3
	fieldRequests    = 6
	fieldErrors      = 7
	fieldNamed       = 8
	fieldApplication = 9

	fieldKey   = 1
	fieldValue = 2
)

// Wire types of protobuf. Groups are no part of the message.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// Message reads an OrcaLoadReport. It does not allocate.
func Message[T string | []byte](b T) (loadbalance.Load, bool) {
	if len(b) > MaxSize {
		return loadbalance.Load{}, false
	}
	var f figures
	for len(b) > 0 {
		field, rest, ok := next(b)
		if !ok {
			return loadbalance.Load{}, false
		}
		b = rest
		switch field.number {
		case fieldCPU:
			f.cpu = field.double()
		case fieldApplication:
			f.application = field.double()
		case fieldRequests:
			f.requests = field.double()
		case fieldRPS:
			if field.wire == wireVarint && f.requests == 0 {
				f.requests = float64(field.word)
			}
		case fieldErrors:
			f.errors = field.double()
		case fieldNamed:
			if field.wire == wireBytes && !entry(&f, field.bytes) {
				return loadbalance.Load{}, false
			}
		}
	}
	return f.load(), true
}

// entry reads an entry of named_metrics.
func entry[T string | []byte](f *figures, b T) bool {
	var key T
	var value float64
	for len(b) > 0 {
		field, rest, ok := next(b)
		if !ok {
			return false
		}
		b = rest
		switch field.number {
		case fieldKey:
			key = field.bytes
		case fieldValue:
			value = field.double()
		}
	}
	switch string(key) {
	case loadbalance.InFlightMetric:
		f.inflight = value
	case loadbalance.LatencyMetric:
		f.latency = value
	}
	return true
}

// element is a field of a message on the wire.
type element[T string | []byte] struct {
	number uint64
	wire   uint8
	word   uint64 // of a varint or a fixed one
	bytes  T
}

// double returns the figure, 0 if it is none.
func (e *element[T]) double() float64 {
	if e.wire != wireFixed64 {
		return 0
	}
	return math.Float64frombits(e.word)
}

// next returns the first field of a message and what follows.
func next[T string | []byte](b T) (e element[T], rest T, ok bool) {
	tag, n := varint(b)
	e.number, e.wire = tag>>3, uint8(tag&7)
	if b = b[n:]; n == 0 || e.number == 0 {
		return e, b, false
	}
	size := 0
	switch e.wire {
	case wireVarint:
		e.word, size = varint(b)
		return e, b[size:], size > 0
	case wireFixed64:
		size = 8
	case wireFixed32:
		size = 4
	case wireBytes:
		length, n := varint(b)
		if b = b[n:]; n == 0 || length > uint64(len(b)) {
			return e, b, false
		}
		e.bytes = b[:length]
		return e, b[length:], true
	}
	if size == 0 || size > len(b) {
		return e, b, false
	}
	for i := range size {
		e.word |= uint64(b[i]) << (8 * i)
	}
	return e, b[size:], true
}

// varint returns a number and its length, 0 if there is none.
func varint[T string | []byte](b T) (v uint64, n int) {
	for n < len(b) && n < 10 {
		c := b[n]
		v |= uint64(c&0x7f) << (7 * n)
		if n++; c < 0x80 {
			return v, n
		}
	}
	return 0, 0
}
