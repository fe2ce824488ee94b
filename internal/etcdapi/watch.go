package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/pace"
)

// relistTime is how long a watch is trusted before the keys are listed again, plus up to a fifth. It heals what a
// proxy or a fault of the server has withheld; etcd needs no more than the first list.
const relistTime = 10 * time.Minute

var (
	errCompacted = errors.New("the events to come were compacted")
	// ErrClusters says that the client reaches several clusters.
	ErrClusters = errors.New("list and watch were answered by different clusters: the endpoints of Client belong to several")
)

// Range is what is watched: the keys from Key up to End, or only Key if End is nil. Name stands for them in errors.
type Range struct {
	Key, End []byte
	Name     string
}

// A Follower is told what a range holds. Its errors say that this is too much, and end the watch.
type Follower interface {
	// Replace takes over all keys, as they are at a revision.
	Replace(keys []*mvccpb.KeyValue, revision int64) error
	// Apply takes over changes. Some may be nil, and some older than the revision.
	Apply(changes []*mvccpb.Event) error
	// Publish says that what was taken over is complete.
	Publish()
}

// Watch lists the keys and follows their changes until ctx ends or something fails that more requests do not mend. It makes at
// most one request a second, and three in a row.
func (t Target) Watch(ctx context.Context, keys Range, follower Follower) error {
	w := watch{Target: t, keys: keys, follower: follower}
	for {
		if err := w.list(ctx); err != nil {
			return err
		}
		if err := w.follow(ctx); err != nil {
			return err
		}
	}
}

// watch is one call of Watch.
type watch struct {
	Target
	keys     Range
	follower Follower
	pacer    pace.Pacer
	cluster  uint64 // that answered the list
	revision int64  // of the list
}

// list asks for all keys.
func (w *watch) list(ctx context.Context) error {
	if err := w.pacer.Wait(ctx); err != nil {
		return err
	}
	var resp *pb.RangeResponse
	err := w.Call(ctx, w.what("list"), AnswerTime, func(ctx context.Context) (err error) {
		resp, err = pb.NewKVClient(w.Conn).Range(ctx, &pb.RangeRequest{Key: w.keys.Key, RangeEnd: w.keys.End}, CallOptions()...)
		return err
	})
	if err != nil {
		return err
	}
	w.cluster = resp.GetHeader().GetClusterId()
	w.revision = resp.GetHeader().GetRevision()
	if err := w.follower.Replace(resp.Kvs, w.revision); err != nil {
		return w.refuse(err)
	}
	w.follower.Publish()
	return nil
}

// follow applies the changes since the list. It returns nil when it is time to list again.
func (w *watch) follow(ctx context.Context) error {
	if err := w.pacer.Wait(ctx); err != nil {
		return err
	}
	shared := join(w.Conn)
	defer shared.leave()
	sub := shared.subscribe(w.keys.Key, w.keys.End, w.revision+1)
	defer sub.close()

	created, changed, part := false, false, false
	timer := time.NewTimer(AnswerTime)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			if created {
				return nil
			}
			// All others would wait, too.
			shared.fail(ErrUnanswered)
			return w.explain(w.what("watch"), ErrUnanswered)
		case <-sub.changed:
		}
		responses, broken := sub.take()
		for _, resp := range responses {
			if resp.Created && !resp.Canceled {
				created = true
				timer.Reset(relistTime + rand.N(relistTime/5))
			}
			err := w.apply(resp)
			if errors.Is(err, errCompacted) {
				return nil
			}
			if err != nil {
				if r, ok := errors.AsType[*discovery.RefusedError](err); ok && r.Denied {
					shared.retire() // its token may be of the past
				}
				return err
			}
			changed, part = changed || len(resp.Events) > 0, resp.Fragment
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if changed && !part { // the events of one revision belong together
			changed = false
			w.follower.Publish()
		}
		if broken != nil {
			return w.explain(w.what("watch"), broken)
		}
	}
}

// apply takes over one answer.
func (w *watch) apply(resp *pb.WatchResponse) error {
	id := resp.GetHeader().GetClusterId()
	switch {
	case resp.CompactRevision > 0:
		return errCompacted
	case resp.Canceled:
		return w.explain(w.what("watch"), reasonOf(resp.CancelReason))
	case id != w.cluster && id != 0 && w.cluster != 0: // proxies may leave it out
		return w.explain(w.what("watch"), ErrClusters)
	}
	if err := w.follower.Apply(resp.Events); err != nil {
		return w.refuse(err)
	}
	return nil
}

// refuse says that what the server has is too much: asking again at once brings the same.
func (w *watch) refuse(err error) error {
	return &discovery.RefusedError{Err: w.explain(w.what("read"), err)}
}

func (w *watch) what(verb string) string { return fmt.Sprintf("%s %q", verb, w.keys.Name) }
