package xds

import (
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	clusterType    = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	assignmentType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	wrapperType    = "type.googleapis.com/envoy.service.discovery.v3.Resource"
)

// answerTime is how long a control plane may take to answer for a resource; one that says nothing of it for that long
// does not have it. The protocol names this time:
// https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#knowing-when-a-requested-resource-does-not-exist
const answerTime = 15 * time.Second

// record is what is known of a resource besides its value. What belongs to the present stream is forgotten with it.
type record struct {
	// asked is when the present stream asked for the resource, zero if it did not yet. heard is set once it has heard
	// of it, be it by waiting in vain.
	asked time.Time
	heard bool
	// missing is since when the control plane does not have the resource, zero if it has it.
	missing time.Time
	// bad is why the last version was refused, nil if it was good.
	bad error
	// sum is the checksum of the last version, if seen: control planes repeat what has not changed.
	sum  uint64
	seen bool
	// rev grows with each change of the resource or its record.
	rev uint64
}

// resource is one resource of the control plane. Its value is that of the last good version, if good.
type resource[T any] struct {
	record
	value T
	good  bool
}

// state is what a resource is good for.
type state uint8

const (
	waiting state = iota
	usable
	failed
	absent
)

func (r *resource[T]) state() state {
	switch {
	case !r.heard:
		return waiting
	case r.good:
		return usable
	case !r.missing.IsZero() || r.bad == nil:
		return absent
	default:
		return failed
	}
}

// gone notes that the control plane does not have the resource, and reports whether that is news.
func (r *resource[T]) gone(now time.Time) bool {
	if r.heard && !r.missing.IsZero() {
		return false
	}
	r.heard = true
	r.rev++
	if !r.missing.IsZero() {
		return false
	}
	r.missing = now
	return true
}

// expire lets the time run out that the control plane has to answer, or that a deleted resource is kept for (for ever if grace is
// negative). It returns when to call it again, zero for not, and whether the resource is newly missing.
func (r *resource[T]) expire(now time.Time, grace time.Duration) (next time.Time, lost bool) {
	if !r.heard {
		if r.asked.IsZero() {
			return time.Time{}, false
		}
		if due := r.asked.Add(answerTime); now.Before(due) {
			return due, false
		}
		lost = r.gone(now)
	}
	if r.good && !r.missing.IsZero() && grace >= 0 {
		if due := r.missing.Add(grace); now.Before(due) {
			return due, lost
		}
		var none T
		r.value, r.good, r.seen = none, false, false
		r.rev++
	}
	return time.Time{}, lost
}

// item is one resource of an answer.
type item[T any] struct {
	sum   uint64
	value T
	err   error
}

// take notes what an answer says of the resource.
func (r *resource[T]) take(it item[T]) {
	if r.heard && r.missing.IsZero() && r.seen && r.sum == it.sum {
		return
	}
	r.heard, r.missing, r.sum, r.seen, r.bad = true, time.Time{}, it.sum, true, it.err
	if it.err == nil {
		r.value, r.good = it.value, true
	}
	r.rev++
}

var seed = maphash.MakeSeed()

// readAnswer decodes those resources of an answer that are in known and differ from the last version there. Its errors are about
// resources whose name cannot be read.
func readAnswer[T any](
	answer []*anypb.Any, typeURL string, known map[string]resource[T], decode func([]byte) (T, error),
) (map[string]item[T], []error) {
	items := make(map[string]item[T], min(len(known), len(answer)))
	var lost []error
	for i, wrapped := range answer {
		name, data, err := unwrap(wrapped, typeURL)
		if err != nil {
			lost = append(lost, fmt.Errorf("resources[%d]: %w", i, err))
			continue
		}
		last, ok := known[name]
		if !ok {
			continue
		}
		it := item[T]{sum: maphash.Bytes(seed, data)}
		if _, twice := items[name]; twice {
			it.err = errors.New("more than one resource has this name")
		} else if last.seen && last.sum == it.sum {
			it.value, it.err = last.value, last.bad
		} else {
			it.value, it.err = decode(data)
		}
		items[name] = it
	}
	return items, lost
}

// unwrap returns a resource and its name, which is the first field of all that we read.
func unwrap(wrapped *anypb.Any, typeURL string) (name string, data []byte, err error) {
	if wrapped.GetTypeUrl() == wrapperType {
		wrapper := new(discoveryv3.Resource)
		if err := unmarshal(wrapped.GetValue(), wrapper); err != nil {
			return "", nil, errors.New(cut(err.Error()))
		}
		wrapped = wrapper.GetResource()
	}
	if got := wrapped.GetTypeUrl(); got != typeURL {
		return "", nil, fmt.Errorf("type %s, want %s", cut(got), typeURL)
	}
	if err := fields(wrapped.GetValue(), func(number protowire.Number, content []byte) {
		if number == 1 {
			name = string(content)
		}
	}); err != nil {
		return "", nil, errors.New(cut(err.Error()))
	}
	if name == "" {
		return "", nil, errors.New("no name")
	}
	return name, wrapped.GetValue(), nil
}
