package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zerohop/zerohop/discovery"
)

// relistTime is how long a watch is trusted before the keys are listed again, plus up to a fifth. It heals what a
// proxy or a fault of the server has withheld; etcd needs no more than the first list.
const relistTime = 10 * time.Minute

var (
	errCompacted = errors.New("the events to come were compacted")
	errClusters  = errors.New("list and watch were answered by different clusters: the endpoints of Client belong to several")
)

// Resolver watches services in etcd. It is a [discovery.Resolver], safe for concurrent use. The instances of a service are
// the keys directly below its own:
//
//	<Prefix>/<service>/<anything without a slash>
//
// so a service "a" has nothing of "a-b" and "a/b". Each watch lists the keys once and then follows their changes. All
// watches through one Client share one stream of one connection. etcd does not tell an unknown service from one without
// instances: both are an empty set.
type Resolver struct {
	// Client reaches etcd. Required. Best made by [NewClient]. Its connection is used, and not its fields KV, Lease and
	// Watcher, so what package namespace puts there has no effect: say it in Prefix.
	Client *clientv3.Client
	// Prefix stands before the name of the service, with a slash between the two. Empty means that keys begin with the
	// name. [KratosPrefix] and [KitexPrefix] are those of other libraries.
	Prefix string
	// Scheme chooses among the URLs of a value of Kratos: "grpc" takes grpc:// and grpcs://, "http" takes http:// and
	// https://. Empty means the only one; a value with several cannot be read then.
	Scheme string
	// Decode reads a value. Its key is the whole one. Instances whose value cannot be read are left out and counted in
	// discovery.Dropped.Addr, with an event that names the key and the error; if no other is left, the last set
	// stays. It must be safe for concurrent use and must not keep value. nil means to recognize the
	// forms that the package comment lists.
	Decode func(key string, value []byte) (discovery.Endpoint, error)
}

// Prefixes of the keys of other libraries, as they are by default.
const (
	KratosPrefix = "/microservices"
	KitexPrefix  = "kitex/registry-etcd"
)

var _ interface {
	discovery.Resolver
	discovery.RemoteSource
} = Resolver{}

// Remote implements [discovery.RemoteSource].
func (Resolver) Remote() bool { return true }

// Watch implements [discovery.Resolver]. Its errors name the addresses of the servers; they are a
// *discovery.RefusedError if etcd does not let us in or limits us.
func (r Resolver) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	t, err := targetOf(r.Client, "Resolver")
	if err != nil {
		return err
	}
	if service == "" {
		return errors.New("etcd: the name of the service is empty")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w := watch{target: t, service: service, update: update, decode: r.Decode, prefix: prefixOf(r.Prefix, service)}
	if w.decode == nil {
		w.decode = func(_ string, value []byte) (discovery.Endpoint, error) { return decode(value, r.Scheme) }
	}
	for {
		s, err := w.list(ctx)
		if err != nil {
			return err
		}
		w.update(s.endpoints())
		if err := w.follow(ctx, s); err != nil {
			return err
		}
	}
}

// prefixOf returns what all keys of the instances of service begin with.
func prefixOf(prefix, service string) string {
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	return prefix + service + "/"
}

// watch is one call of Watch.
type watch struct {
	target  target
	service string
	prefix  string
	update  func([]discovery.Endpoint)
	decode  func(key string, value []byte) (discovery.Endpoint, error)
	pace    pacer
	cluster uint64 // that answered the list
}

// keys returns the range of keys that begin with the prefix, which ends in a slash.
func (w *watch) keys() (key, end []byte) {
	key = []byte(w.prefix)
	return key, append(key[:len(key)-1:len(key)-1], '/'+1)
}

// list asks for all keys.
func (w *watch) list(ctx context.Context) (*set, error) {
	if err := w.pace.wait(ctx); err != nil {
		return nil, err
	}
	var resp *pb.RangeResponse
	err := w.target.call(ctx, w.what("list"), answerTime, func(ctx context.Context) (err error) {
		key, end := w.keys()
		resp, err = pb.NewKVClient(w.target.conn).Range(ctx, &pb.RangeRequest{Key: key, RangeEnd: end}, callOptions()...)
		return err
	})
	if err != nil {
		return nil, err
	}
	w.cluster = resp.GetHeader().GetClusterId()
	s := &set{prefix: w.prefix, decode: w.decode, entries: make(map[string]*entry, len(resp.Kvs))}
	for _, kv := range resp.Kvs {
		if kv == nil {
			continue
		}
		if err := s.put(kv); err != nil {
			return nil, w.refuse(err)
		}
	}
	s.revision = resp.GetHeader().GetRevision()
	return s, nil
}

// follow applies the changes since s was listed. It returns nil when it is time to list again.
func (w *watch) follow(ctx context.Context, s *set) error {
	if err := w.pace.wait(ctx); err != nil {
		return err
	}
	shared := join(w.target.conn)
	defer shared.leave()
	key, end := w.keys()
	sub := shared.subscribe(key, end, s.revision+1)
	defer sub.close()

	created, changed, part := false, false, false
	timer := time.NewTimer(answerTime)
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
			shared.fail(errUnanswered)
			return w.target.explain(w.what("watch"), errUnanswered)
		case <-sub.changed:
		}
		responses, broken := sub.take()
		for _, resp := range responses {
			if resp.Created && !resp.Canceled {
				created = true
				timer.Reset(relistTime + rand.N(relistTime/5))
			}
			err := w.apply(s, resp)
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
			w.update(s.endpoints())
		}
		if broken != nil {
			return w.target.explain(w.what("watch"), broken)
		}
	}
}

// apply takes over one answer.
func (w *watch) apply(s *set, resp *pb.WatchResponse) error {
	id := resp.GetHeader().GetClusterId()
	switch {
	case resp.CompactRevision > 0:
		return errCompacted
	case resp.Canceled:
		return w.target.explain(w.what("watch"), reasonOf(resp.CancelReason))
	case id != w.cluster && id != 0 && w.cluster != 0: // proxies may leave it out
		return w.target.explain(w.what("watch"), errClusters)
	}
	if err := s.apply(resp.Events); err != nil {
		return w.refuse(err)
	}
	return nil
}

// refuse says that what the server has is too much: asking again at once brings the same.
func (w *watch) refuse(err error) error {
	return &discovery.RefusedError{Err: w.target.explain(w.what("read"), err)}
}

func (w *watch) what(verb string) string { return fmt.Sprintf("%s %q", verb, w.service) }
