package etcd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// What a server sends is believed as far as it is about the key, and newer than what is known.
func TestFollowerTellsOnlyWhatIsNew(t *testing.T) {
	var got []string
	f := &follower{key: "a", update: func(d []byte) { got = append(got, fmt.Sprintf("%s %v", d, d == nil)) }}
	kv := func(key, value string, revision int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: revision}
	}
	put := func(kvs ...*mvccpb.KeyValue) (list []*mvccpb.Event) {
		for _, kv := range kvs {
			list = append(list, &mvccpb.Event{Kv: kv})
		}
		return append(list, nil, &mvccpb.Event{})
	}
	for i, step := range []struct {
		do   func() error
		want []string // told
	}{
		{func() error { return f.Replace(nil, 5) }, []string{" true"}},
		{func() error { return f.Replace([]*mvccpb.KeyValue{nil, kv("b", "x", 4)}, 6) }, nil},
		{func() error { return f.Apply(put(kv("a", "old", 6), kv("b", "x", 7))) }, nil},
		{func() error { return f.Apply(put(kv("a", "one", 7), kv("a", "two", 8))) }, []string{"two false"}},
		{func() error { return f.Replace([]*mvccpb.KeyValue{kv("a", "two", 8)}, 9) }, nil},
		{func() error { return f.Apply(put(kv("a", "", 10))) }, []string{" false"}},
		{func() error {
			return f.Apply([]*mvccpb.Event{{Type: mvccpb.DELETE, Kv: &mvccpb.KeyValue{Key: []byte("a"), ModRevision: 11}}})
		}, []string{" true"}},
		{func() error { return f.Replace([]*mvccpb.KeyValue{{Key: []byte("a"), ModRevision: 12}}, 12) }, []string{" false"}},
		{func() error { return f.Replace(nil, 3) }, []string{" true"}}, // restored
	} {
		got = nil
		if err := step.do(); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
		f.Publish()
		if !slices.Equal(got, step.want) {
			t.Errorf("step %d told %q, want %q", i, got, step.want)
		}
	}
	large := kv("a", strings.Repeat("x", maxDocument+1), 20)
	if err := f.Apply(put(large)); !errors.Is(err, errTooLarge) {
		t.Errorf("Apply() of a large value = %v, want %v", err, errTooLarge)
	}
	if err := f.Replace([]*mvccpb.KeyValue{large}, 20); !errors.Is(err, errTooLarge) {
		t.Errorf("Replace() by a large value = %v, want %v", err, errTooLarge)
	}
	large.Value = large.Value[:maxDocument]
	if err := f.Replace([]*mvccpb.KeyValue{large}, 20); err != nil {
		t.Errorf("Replace() by a value of 4 MiB = %v", err)
	}
}

func TestSourceThatCannotWork(t *testing.T) {
	for says, s := range map[string]Source{
		"Source.Client is nil":            {Key: "a"},
		"Source.Client has no connection": {Client: &clientv3.Client{}, Key: "a"},
	} {
		if err := s.Watch(t.Context(), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Watch() = %v, want %q", err, says)
		}
	}
}
