package etcd

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/etcdapi"
)

// errTooLarge says that the instances of one service take more than an answer may.
var errTooLarge = errors.New("keys and values are larger than 16 MiB")

// entry is what one key of a service says.
type entry struct {
	key      string
	endpoint discovery.Endpoint
	revision int64 // of the last change
	size     int
}

// set is what is known of one service: the state at a revision.
type set struct {
	prefix   string // of the keys of the service, with the slash at its end
	decode   func(key string, value []byte) (discovery.Endpoint, error)
	update   func([]discovery.Endpoint)
	revision int64
	entries  map[string]*entry
	size     int
}

// put takes over a key and its value. Keys further down are those of other services.
func (s *set) put(kv *mvccpb.KeyValue) error {
	key := string(kv.Key)
	id, ok := strings.CutPrefix(key, s.prefix)
	if !ok || id == "" || strings.Contains(id, "/") {
		return nil
	}
	ep, err := s.decode(key, kv.Value)
	if errors.Is(err, errGone) {
		s.remove(key)
		return nil
	}
	if err != nil {
		// Not the address of anybody: discovery leaves the endpoint out, tells, and keeps the last set if nothing is left.
		ep = discovery.Endpoint{Addr: fmt.Sprintf("value of %s (%v)", key, err)}
	}
	s.remove(key)
	e := &entry{key: key, endpoint: ep, revision: kv.ModRevision, size: len(kv.Key) + len(kv.Value)}
	s.entries[key] = e
	if s.size += e.size; s.size > etcdapi.MaxAnswer {
		return errTooLarge
	}
	return nil
}

func (s *set) remove(key string) {
	if e := s.entries[key]; e != nil {
		s.size -= e.size
		delete(s.entries, key)
	}
}

// Replace implements etcdapi.Follower.
func (s *set) Replace(keys []*mvccpb.KeyValue, revision int64) error {
	s.entries, s.size, s.revision = make(map[string]*entry, len(keys)), 0, revision
	for _, kv := range keys {
		if kv == nil {
			continue
		}
		if err := s.put(kv); err != nil {
			return err
		}
	}
	return nil
}

// Apply implements etcdapi.Follower: it takes over the events that are newer than the set.
func (s *set) Apply(events []*mvccpb.Event) error {
	for _, event := range events {
		if event == nil || event.Kv == nil || event.Kv.ModRevision <= s.revision {
			continue
		}
		if event.Type == mvccpb.DELETE {
			s.remove(string(event.Kv.Key))
		} else if err := s.put(event.Kv); err != nil {
			return err
		}
	}
	return nil
}

// Publish implements etcdapi.Follower.
func (s *set) Publish() { s.update(s.endpoints()) }

// endpoints returns the instances, those that registered last before others: of several with the same address and health,
// discovery takes the first.
func (s *set) endpoints() []discovery.Endpoint {
	entries := slices.Collect(maps.Values(s.entries))
	slices.SortFunc(entries, func(a, b *entry) int {
		if a.revision != b.revision {
			return cmp.Compare(b.revision, a.revision)
		}
		return strings.Compare(a.key, b.key)
	})
	list := make([]discovery.Endpoint, len(entries))
	for i, e := range entries {
		list[i] = e.endpoint
	}
	return list
}
