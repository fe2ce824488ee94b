package xds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/pace"
)

const (
	// connectTime is how long an attempt to connect to one address may take. gRPC would give it 20 s, in which
	// the control plane may long be back at another one.
	connectTime = 5 * time.Second
	// probeInterval and probeTime are the pause between two probes and how long one may take. Their sum is how
	// long a frozen control plane goes unnoticed.
	probeInterval = 20 * time.Second
	probeTime     = 20 * time.Second
	// idleShare is how many times as long as the work on an answer the pause after it is, on average: answers without
	// end take a fifth of a core. readGap is its least.
	idleShare = 4
	readGap   = time.Millisecond
	readBurst = time.Second
)

// session is one stream. It has three goroutines: one sends, one receives, one looks whether anybody is there.
type session struct {
	r      *Resolver
	ctx    context.Context
	end    context.CancelCauseFunc
	kick   chan struct{} // there may be something to send
	began  time.Time
	talked atomic.Bool // an answer came
	// wary is set if the stream before brought what could not be decoded. Until the stream is steady, such a control plane gets
	// requests one by one, and is asked for endpoints only after it has answered for clusters.
	wary bool

	// subs belongs to the Resolver's lock.
	subs []*subscription

	// err is set before done is closed.
	err  error
	done chan struct{}
}

func newSession(r *Resolver) *session {
	s := &session{
		r:     r,
		kick:  make(chan struct{}, 1),
		began: time.Now(),
		subs:  []*subscription{{typeURL: clusterType}, {typeURL: assignmentType}},
		done:  make(chan struct{}),
	}
	// The stream outlives the watch that opened it.
	s.ctx, s.end = context.WithCancelCause(context.Background())
	return s
}

// wake makes the session look for something to send.
func (s *session) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// run holds the stream until it breaks or end is called.
func (s *session) run() {
	err := s.stream()
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.err = err; !errors.Is(err, errClosed) {
		s.err = explain(r.config.Server, err)
	}
	if r.session == s {
		r.session = nil
		r.garbled = errors.Is(s.err, errGarbled)
		e := ending{
			at: time.Now(), answered: s.talked.Load(), garbled: r.garbled, lasted: time.Since(s.began), serving: r.store.serving(),
		}
		if refused, ok := errors.AsType[*discovery.RefusedError](s.err); ok {
			e.refused, e.after = true, refused.After
		}
		r.gate.ended(e)
	}
	close(s.done)
}

// dial makes a connection of its own for the stream: a new one looks up the name again, and nothing of the state of
// an old one can delay it.
func (s *session) dial() (*grpc.ClientConn, error) {
	config := s.r.config
	creds := config.Credentials
	if creds == nil {
		creds = credentials.NewTLS(nil)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTime}),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
	}
	return grpc.NewClient(config.Server, append(options, config.DialOptions...)...)
}

// stream returns why the stream ended, never nil.
func (s *session) stream() error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer conn.Close()
	defer wg.Wait()
	defer s.end(nil)
	wg.Go(func() { s.probe(healthv1.NewHealthClient(conn)) })
	c := new(codec)
	ads, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).
		StreamAggregatedResources(s.ctx, grpc.ForceCodecV2(c))
	if err == nil {
		wg.Go(func() { s.receive(ads, c) })
		s.send(ads)
	}
	if cause := context.Cause(s.ctx); cause != nil {
		return cause
	}
	return err
}

// send sends what is due until the session ends.
func (s *session) send(ads discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	node := s.r.node
	for s.ctx.Err() == nil {
		req, wait, lost := s.next(time.Now())
		for _, err := range lost {
			s.r.config.OnError(err)
		}
		if req != nil {
			req.Node, node = node, nil // the first request says who asks
			if ads.Send(req) == nil {
				continue
			}
			<-s.ctx.Done() // the receiver gets to know why
			return
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-s.kick:
		case <-s.ctx.Done():
		}
	}
}

// next returns the request to be sent now, or else in how long to ask again, and what was lost meanwhile.
func (s *session) next(now time.Time) (req *discoveryv3.DiscoveryRequest, wait time.Duration, lost []error) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	wait = time.Hour
	if r.session != s {
		return nil, wait, nil
	}
	if s.talked.Load() { // silence of one that says nothing at all proves nothing
		var due time.Time
		if due, lost = r.store.expire(now); !due.IsZero() {
			wait = due.Sub(now)
		}
	}
	r.store.refresh()
	inRow := burst
	early := s.began.Add(steady).Sub(now)
	if s.wary && early > 0 {
		inRow = 1
	}
	for _, sub := range s.subs {
		if inRow == 1 && sub.typeURL == assignmentType && !s.subs[0].answered {
			wait = min(wait, early)
			continue
		}
		req, later := sub.next(now, r.store.wanted(sub.typeURL), len(r.store.roots), inRow)
		if req != nil {
			r.store.asked(sub.typeURL, req.GetResourceNames(), now)
			return req, 0, lost
		}
		if later > 0 {
			wait = min(wait, later)
		}
	}
	return nil, wait, lost
}

// receive takes answers, decoded by c, until the stream breaks.
func (s *session) receive(ads discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient, c *codec) {
	var reads pacer
	for {
		resp, err := ads.Recv()
		if c.garbled != nil {
			err = c.garbled
		}
		if err != nil {
			s.end(err)
			return
		}
		s.talked.Store(true)
		start := time.Now()
		s.take(resp)
		now := time.Now()
		reads.spend(max(idleShare*now.Sub(start), readGap))
		if pace.Sleep(s.ctx, reads.wait(now, readBurst)) != nil {
			continue // Recv says why
		}
	}
}

// take takes one answer.
func (s *session) take(resp *discoveryv3.DiscoveryResponse) {
	var errs []error
	switch url := resp.GetTypeUrl(); url {
	case clusterType:
		errs = take(s, s.subs[0], s.r.store.clusters, resp, decodeCluster)
	case assignmentType:
		errs = take(s, s.subs[1], s.r.store.assignments, resp, decodeAssignment)
	default:
		errs = []error{fmt.Errorf("xds: the control plane sends type %s, which nobody asked for", cut(url))}
	}
	s.wake()
	for _, err := range errs {
		s.r.config.OnError(err)
	}
}

// take notes what an answer says, and returns what is to be reported. Decoding takes time and happens without the lock.
func take[T any](
	s *session, sub *subscription, all map[string]*resource[T], resp *discoveryv3.DiscoveryResponse,
	decode func([]byte) (T, error),
) (reports []error) {
	r := s.r
	r.mu.Lock()
	known := make(map[string]resource[T], len(all))
	for name, res := range all {
		known[name] = *res
	}
	r.mu.Unlock()

	items, bad := readAnswer(resp.GetResources(), sub.typeURL, known, decode)
	complete := len(bad) == 0

	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != s {
		return nil
	}
	for name, it := range items {
		if res := all[name]; res != nil {
			if res.take(it); it.err != nil {
				bad = append(bad, fmt.Errorf("%s: %w", cut(name), it.err))
			}
		}
	}
	// An answer with clusters is one with all of them. One that was on its way when we asked for more does not have those,
	// and a resource without a readable name may be any.
	if sub.typeURL == clusterType && complete {
		for name, res := range all {
			_, listed := items[name]
			sure := res.heard || !sub.answered && slices.Contains(sub.first, name)
			if !listed && sure && res.gone(time.Now()) && res.good {
				reports = append(reports, r.store.deletion("cluster", name))
			}
		}
	}
	before := sub.refusal
	sub.took(resp, refusal(bad))
	if sub.refusal != "" && sub.refusal != before {
		reports = append(reports, fmt.Errorf("xds: refused an answer of %s: %s", cut(r.config.Server), sub.refusal))
	}
	r.store.refresh()
	return reports
}

// refusal is what the control plane is told of bad resources.
func refusal(bad []error) string {
	const named = 10
	if len(bad) == 0 {
		return ""
	}
	list := make([]string, len(bad))
	for i, err := range bad {
		list[i] = err.Error()
	}
	slices.Sort(list)
	if more := len(list) - named; more > 0 {
		list = append(list[:named], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, "\n")
}

// probe ends the session if nobody answers. It asks again and again for the health of the server; any answer will do, also
// that there is no such service. Pings of HTTP/2 are no choice: gRPC servers in their default setting take more than one
// in five minutes for an attack and hang up.
func (s *session) probe(health healthv1.HealthClient) {
	if pace.Sleep(s.ctx, s.r.limits.firstProbe) != nil {
		return
	}
	if !s.talked.Load() {
		s.end(errSilent)
	}
	for s.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(s.ctx, s.r.limits.probeTime)
		// The deadline is also that of the server, or of a proxy before it, which may be the first to say that it has passed.
		_, err := health.Check(ctx, &healthv1.HealthCheckRequest{})
		if status.Code(err) == codes.DeadlineExceeded {
			s.end(errFrozen)
		}
		cancel()
		_ = pace.Sleep(s.ctx, s.r.limits.probeInterval)
	}
}
