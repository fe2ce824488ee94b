package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/etcdapi"
)

// entryLease is a key under a lease, as a discovery.Lease.
type entryLease struct {
	target etcdapi.Target
	key    string
	value  []byte
	ttl    time.Duration
	id     int64 // of the lease; 0 if there is none
}

// Put implements discovery.Lease. A lease that was granted is kept for the next time if the key cannot be written: leases
// that nobody uses would pile up.
func (l *entryLease) Put(ctx context.Context) error {
	return l.call(ctx, "register", func(ctx context.Context) error {
		known := l.id != 0
		for {
			if l.id == 0 {
				seconds := int64((l.ttl + time.Second - 1) / time.Second)
				resp, err := pb.NewLeaseClient(l.target.Conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: seconds}, etcdapi.CallOptions()...)
				if err != nil {
					return err
				}
				l.id = resp.ID
			}
			_, err := pb.NewKVClient(l.target.Conn).Put(ctx, &pb.PutRequest{Key: []byte(l.key), Value: l.value, Lease: l.id}, etcdapi.CallOptions()...)
			if !leaseGone(err) {
				return err
			}
			l.id = 0
			if !known {
				return err
			}
			known = false
		}
	})
}

// Renew implements discovery.Lease. A lease can live on without its key, if somebody has removed that: so it looks.
func (l *entryLease) Renew(ctx context.Context) error {
	return l.call(ctx, "renew", func(ctx context.Context) error {
		if l.id == 0 {
			return discovery.ErrLeaseLost
		}
		// One exchange on a stream of its own. The one of clientv3 that lasts ends by closing a channel without a word.
		stream, err := pb.NewLeaseClient(l.target.Conn).LeaseKeepAlive(clientv3.WithRequireLeader(ctx), etcdapi.CallOptions()...)
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: l.id}); err != nil {
			_, err = stream.Recv() // has the reason
			return err
		}
		resp, err := stream.Recv()
		if err == nil && resp.TTL <= 0 || leaseGone(err) {
			l.id = 0
			return discovery.ErrLeaseLost
		}
		if err != nil {
			return err
		}
		found, err := pb.NewKVClient(l.target.Conn).Range(ctx, &pb.RangeRequest{Key: []byte(l.key), KeysOnly: true}, etcdapi.CallOptions()...)
		if err == nil && len(found.Kvs) == 0 {
			return discovery.ErrLeaseLost
		}
		return err
	})
}

// Remove implements discovery.Lease. With the lease goes the key, unless another registration has it by now.
func (l *entryLease) Remove(ctx context.Context) error {
	if l.id == 0 {
		return nil
	}
	return l.call(ctx, "deregister", func(ctx context.Context) error {
		_, err := pb.NewLeaseClient(l.target.Conn).LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: l.id}, etcdapi.CallOptions()...)
		if leaseGone(err) {
			return nil
		}
		return err
	})
}

func (l *entryLease) call(ctx context.Context, verb string, do func(context.Context) error) error {
	return l.target.Call(ctx, fmt.Sprintf("%s %q", verb, l.key), etcdapi.AnswerTime, do)
}

func leaseGone(err error) bool { return errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound) }
