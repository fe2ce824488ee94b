package etcd

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zerohop/zerohop/internal/etcdapi"
)

// maxDocument is the largest document that package config reads. etcd itself takes no more than 1.5 MiB by default.
const maxDocument = 4 << 20

var errTooLarge = errors.New("the value is larger than 4 MiB")

// Source is a key of etcd whose value is a document. It is a config.Source, and safe for concurrent use.
//
// Each watch reads the key once, from a server that has made sure that it knows the last write, and then follows its changes. It makes at
// most one request a second (three in a row), whatever the server does, and reads again when the history of the key is
// gone. All watches through one Client, those of discovery as well, share one stream of one connection. A server that died without a
// word is noticed within 35 s.
type Source struct {
	// Client reaches etcd. Required. Best made by NewClient of package discovery/etcd. Its connection is used, and not its
	// fields KV and Watcher, so what package namespace puts there has no effect: say it in Key.
	Client *clientv3.Client
	// Key is the whole key, "/mesh/orders.yaml". Required.
	Key string
}

// Watch implements config.Source. Its errors name the key and the addresses of the servers. They are a *discovery.RefusedError if
// etcd does not let us in, limits us, or has a value of more than 4 MiB.
func (s Source) Watch(ctx context.Context, update func(document []byte)) error {
	target, err := etcdapi.TargetOf(s.Client, "Source")
	if err != nil {
		return err
	}
	if s.Key == "" {
		return errors.New("etcd: Source.Key is empty")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return target.Watch(ctx, etcdapi.Range{Key: []byte(s.Key), Name: s.Key}, &follower{key: s.Key, update: update})
}

// follower hands on what the key holds.
type follower struct {
	key    string
	update func(document []byte)

	revision int64 // of the list
	document []byte
	changed  int64 // the revision of document; 0 if there is none
	told     bool  // whether that was told
}

// Replace implements etcdapi.Follower.
func (f *follower) Replace(keys []*mvccpb.KeyValue, revision int64) error {
	f.revision = revision
	for _, kv := range keys {
		if kv != nil && string(kv.Key) == f.key {
			return f.set(kv.Value, kv.ModRevision)
		}
	}
	return f.set(nil, 0)
}

// Apply implements etcdapi.Follower.
func (f *follower) Apply(changes []*mvccpb.Event) error {
	for _, c := range changes {
		if c == nil || c.Kv == nil || string(c.Kv.Key) != f.key || c.Kv.ModRevision <= f.revision {
			continue
		}
		value, changed := c.Kv.Value, c.Kv.ModRevision
		if c.Type == mvccpb.DELETE {
			value, changed = nil, 0
		}
		if err := f.set(value, changed); err != nil {
			return err
		}
	}
	return nil
}

func (f *follower) set(value []byte, changed int64) error {
	if len(value) > maxDocument {
		return errTooLarge
	}
	if changed != f.changed {
		f.told = false
	}
	f.document, f.changed = value, changed
	return nil
}

// Publish implements etcdapi.Follower.
func (f *follower) Publish() {
	if f.told {
		return
	}
	document := f.document
	if document == nil && f.changed > 0 {
		document = []byte{} // an empty value is no missing one
	}
	f.told, f.document = true, nil // it belongs to update
	f.update(document)
}
