package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	defaultTTL = 15 * time.Second
	// leasePace is the mean pause between two attempts. A registry that fails at once must not be asked more often by
	// each of its instances; ten times longer, an instance would be missing for that long after an outage.
	leasePace = time.Second
	// leaseBurst attempts may come without a pause: one that finds the lease lost, and the one that puts it again.
	leaseBurst = 3
	// minTTL leaves that pause for each of three renewals. A shorter lease is lost to a pause of the scheduler.
	minTTL = 3 * leasePace
	// longestRenewal bounds an attempt: a connection that died without a word must not cost more than that.
	longestRenewal = 10 * time.Second
)

// ErrLeaseLost says that the registry no longer has the entry: its lease ran out, somebody removed it, or the registry
// came back without its data.
var ErrLeaseLost = errors.New("discovery: the lease is lost")

// Lease is an entry in a registry that forgets what is not renewed, for example a key of etcd or Redis. KeepLease drives
// it, with one call at a time. Each call blocks until the registry has confirmed, or ctx ends. It returns a *RefusedError if
// the registry answered and refused. It does not retry.
type Lease interface {
	// Put writes the entry with a whole lease before it, whatever the registry has in its place.
	Put(ctx context.Context) error
	// Renew makes the lease whole again. It returns an error for which errors.Is finds ErrLeaseLost if the entry is gone;
	// Put follows at once.
	Renew(ctx context.Context) error
	// Remove takes out the entry, and succeeds if there is none. The last call of Put or Renew may have failed, and may
	// have done its work in spite of that.
	Remove(ctx context.Context) error
}

// LeaseOptions are the options of KeepLease. The zero value is ready to use.
type LeaseOptions struct {
	// TTL is how long the registry keeps the entry without a renewal; Lease must ask for the same. 0 means 15 s, less than 3 s
	// is an ErrInvalidInstance.
	TTL time.Duration
	// Wake makes the next renewal come at once when it yields a value, for example because the connection to the
	// registry broke. nil means never.
	Wake <-chan struct{}
	// OnError is told each failed attempt after the first registration. It must not block and not call Close. nil
	// means nobody.
	OnError func(error)
	// Rand is the source of the jitter. nil means math/rand/v2.
	Rand func() uint64
}

// KeepLease puts lease into its registry and keeps it there until Close of the Registration. It is what registrars for TTL
// registries are made of. It returns the error of the first Put, if that fails; ctx bounds only that, and the registry may
// have the entry until its time is over if ctx ended too early.
//
// It renews every third of the TTL, and puts the entry again when it is lost, for ever: after an error it tries again within a
// second, and within 30 s if the registry denies it or limits it, but not more than once a second on average. An attempt
// ends after a third of the TTL. A panic of lease counts as an error.
func KeepLease(ctx context.Context, lease Lease, opts LeaseOptions) (Registration, error) {
	opts.TTL = cmp.Or(opts.TTL, defaultTTL)
	if opts.TTL < minTTL {
		return nil, fmt.Errorf("%w: LeaseOptions.TTL: %v is less than %v", ErrInvalidInstance, opts.TTL, minTTL)
	}
	if opts.OnError == nil {
		opts.OnError = func(error) {}
	}
	if opts.Rand == nil {
		opts.Rand = rand.Uint64
	}
	if err := lease.Put(ctx); err != nil {
		return nil, err
	}
	// The life of the registration is up to Close, not to the ctx of its first request.
	keep, stop := context.WithCancel(context.Background())
	k := &keeper{lease: lease, opts: opts, stop: stop, done: make(chan struct{}), turn: make(chan struct{}, 1)}
	go k.run(keep) // ended and awaited by Close
	return k, nil
}

// keeper is a lease that is kept.
type keeper struct {
	lease Lease
	opts  LeaseOptions
	due   time.Time // of the next attempt if all came at the mean pace

	stop context.CancelFunc
	done chan struct{} // closed when run has ended
	turn chan struct{} // holds one value while a Close is at work; guards gone
	gone bool          // removed
}

// Close implements Registration. After an error the entry may still be there, and another Close tries again.
func (k *keeper) Close(ctx context.Context) error {
	k.stop()
	select {
	case <-k.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if k.gone {
		return nil
	}
	if err := k.lease.Remove(ctx); err != nil {
		return err
	}
	k.gone = true
	return nil
}

// run renews and puts until ctx ends.
func (k *keeper) run(ctx context.Context) {
	defer close(k.done)
	lost, failures := false, 0
	wait := k.interval()
	for k.sleep(ctx, wait) {
		err := k.attempt(ctx, lost)
		switch {
		case err == nil:
			lost, failures, wait = false, 0, k.interval()
			continue
		case ctx.Err() != nil:
			return
		}
		k.opts.OnError(err)
		if errors.Is(err, ErrLeaseLost) && !lost {
			lost, wait = true, 0
			continue
		}
		wait = k.pause(err, failures)
		failures++
	}
}

// attempt renews the lease, or puts it if it is lost.
func (k *keeper) attempt(ctx context.Context, lost bool) (err error) {
	limit := min(k.opts.TTL/3, longestRenewal)
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("discovery: lease panicked: %v", v)
		} else if err != nil && bounded.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("discovery: no answer of the registry within %v: %w", limit, err)
		}
	}()
	if lost {
		return k.lease.Put(bounded)
	}
	return k.lease.Renew(bounded)
}

// interval returns the time to the next renewal while all goes well. It varies, because many instances start together.
func (k *keeper) interval() time.Duration {
	return k.opts.TTL/3 - jitter(k.opts.Rand(), k.opts.TTL/24)
}

// pause returns the random time to wait after the given number of failures before this one.
func (k *keeper) pause(err error, failures int) time.Duration {
	longest, after := leasePace, time.Duration(0)
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		after = min(max(refused.After, 0), longestAfter)
		if refused.Denied || after > 0 {
			longest = refusedWait
		}
	}
	return after + jitter(k.opts.Rand(), min(longest, firstWait<<min(failures, 10)))
}

// sleep waits for d, until woken or until ctx ends, and then until an attempt is due. It returns false if ctx ended.
func (k *keeper) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-k.opts.Wake:
	case <-ctx.Done():
		return false
	}
	now := time.Now()
	if full := now.Add(-(leaseBurst - 1) * leasePace); k.due.Before(full) {
		k.due = full
	}
	sleep(ctx, k.due.Sub(now))
	k.due = k.due.Add(leasePace)
	return ctx.Err() == nil
}
