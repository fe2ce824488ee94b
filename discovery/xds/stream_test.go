package xds

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/zerohop/zerohop/discovery"
)

// serveA serves service a and then does nothing.
func serveA(t *testing.T) func(ads) error {
	return func(stream ads) error {
		read(t, stream).of(clusterType)
		_ = stream.Send(answer(t, clusterType, "1", "1", staticCluster("a", "192.0.2.1:80")))
		<-stream.Context().Done()
		return nil
	}
}

// hungHealth never answers once it hangs.
type hungHealth struct {
	healthv1.UnimplementedHealthServer
	hangs atomic.Bool
}

func (h *hungHealth) Check(ctx context.Context, _ *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if h.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, errors.New("not well")
}

func TestPlaneThatNoLongerAnswers(t *testing.T) {
	for _, age := range []time.Duration{time.Second, 16 * time.Second, 10 * time.Minute} {
		t.Run(age.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				health := new(hungHealth)
				s := startScript(t, serveA(t), func(g *grpc.Server) { healthv1.RegisterHealthServer(g, health) })
				f := follow(t, s.resolver(t, nil), "a", discovery.RunOptions{})
				f.until("192.0.2.1:80")
				time.Sleep(age)
				health.hangs.Store(true)
				start := time.Now()
				if err := f.failure(); !errors.Is(err, errFrozen) {
					t.Errorf("the watch failed with %v, want %v", err, errFrozen)
				}
				if got := time.Since(start); got > 40*time.Second {
					t.Errorf("noticed after %v, want at most 40 s", got)
				}
				f.same()
			})
		})
	}
}

// A gRPC server in its default setting ends connections with more than one ping in five minutes.
func TestQuietStreamStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var streams atomic.Int32
		serve := serveA(t)
		s := startScript(t, func(stream ads) error {
			streams.Add(1)
			return serve(stream)
		})
		f := follow(t, s.resolver(t, nil), "a", discovery.RunOptions{})
		f.until("192.0.2.1:80")
		time.Sleep(time.Hour)
		if got := streams.Load(); got != 1 {
			t.Errorf("%d streams in an hour, want 1", got)
		}
	})
}

func TestFloodIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const span = 5 * time.Second
		var got, sent atomic.Int32
		s := startScript(t, func(stream ads) error {
			in := read(t, stream)
			in.of(clusterType)
			for n := 1; stream.Context().Err() == nil; n++ {
				addr := fmt.Sprintf("192.0.2.%d:80", n%250+1)
				if stream.Send(answer(t, clusterType, fmt.Sprint(n), fmt.Sprint(n), staticCluster("a", addr))) != nil {
					break
				}
				sent.Add(1)
			}
			for range in[clusterType] {
				got.Add(1)
			}
			return nil
		})
		r := s.resolver(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), span)
		defer cancel()
		sets := 0
		if err := r.Watch(ctx, "a", func([]discovery.Endpoint) { sets++ }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Watch = %v, want %v", err, context.DeadlineExceeded)
		}
		r.Close()
		synctest.Wait()
		// Acknowledgements: three in a row and one a second. Answers: what the transport holds, and 1,000 a second.
		if got := got.Load(); got > 3+5 {
			t.Errorf("%d requests in %v, want at most 8", got, span)
		}
		if sent := sent.Load(); sent > 10_000 {
			t.Errorf("%d answers taken in %v, want at most 10,000", sent, span)
		}
		t.Logf("%d answers taken, %d requests, %d sets", sent.Load(), got.Load(), sets)
	})
}

func TestManyWatchesShareOneStream(t *testing.T) {
	const services = 200
	serve := func(stream ads) error {
		in := read(t, stream)
		for {
			req := in.of(clusterType)
			if req == nil {
				return nil
			}
			var clusters []proto.Message
			for _, name := range req.GetResourceNames() {
				clusters = append(clusters, staticCluster(name, "192.0.2.1:80"))
			}
			version := fmt.Sprint(len(clusters))
			if req.GetVersionInfo() != version && stream.Send(answer(t, clusterType, version, version, clusters...)) != nil {
				return nil
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var streams atomic.Int32
		var down atomic.Bool
		breakAll := make(chan struct{})
		s := startScript(t, func(stream ads) error {
			streams.Add(1)
			if down.Load() {
				return status.Error(codes.Unavailable, "down")
			}
			go func() { _ = serve(stream) }()
			select {
			case <-breakAll:
				return errors.New("restart")
			case <-stream.Context().Done():
				return nil
			}
		})
		r := s.resolver(t, nil)
		base := runtime.NumGoroutine()
		var followers []*follower
		for n := range services {
			followers = append(followers, follow(t, r, fmt.Sprintf("service-%d", n), discovery.RunOptions{}))
		}
		for _, f := range followers {
			f.until("192.0.2.1:80")
		}
		synctest.Wait()
		if got := runtime.NumGoroutine() - base; got > services+30 {
			t.Errorf("%d goroutines for %d services, want one for each and 30", got, services)
		} else {
			t.Logf("%d goroutines for %d services, client and server", got, services)
		}
		if got := streams.Load(); got != 1 {
			t.Errorf("%d streams, want 1", got)
		}

		// 200 watches that fail at once come back with one stream at a time.
		down.Store(true)
		close(breakAll)
		time.Sleep(30 * time.Second)
		if got := streams.Load() - 1; got < 20 || got > 75 {
			t.Errorf("%d attempts in 30 s, want about 40", got)
		}
		t.Logf("%d attempts in 30 s", streams.Load()-1)
		for _, f := range followers {
			f.same()
		}
	})
}

func TestRefusals(t *testing.T) {
	limited, err := status.New(codes.ResourceExhausted, strings.Repeat("x", 10_000)).
		WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		err     error
		refused bool
		denied  bool
		after   time.Duration
	}{
		"denied":          {err: status.Error(codes.PermissionDenied, "no"), refused: true, denied: true},
		"unauthenticated": {err: status.Error(codes.Unauthenticated, "who"), refused: true, denied: true},
		"limited":         {err: limited.Err(), refused: true, after: 7 * time.Second},
		"no such service": {err: status.Error(codes.Unimplemented, "x"), refused: true},
		"fails":           {err: status.Error(codes.Internal, "grpc: failed to unmarshal the received message"), refused: true},
		"goes away":       {err: status.Error(codes.Unavailable, "x")},
		"ends":            {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := startScript(t, func(ads) error { return tt.err })
				err := s.resolver(t, nil).Watch(t.Context(), "a", func([]discovery.Endpoint) { t.Error("a set came") })
				refused, ok := errors.AsType[*discovery.RefusedError](err)
				if ok != tt.refused || ok && (refused.Denied != tt.denied || refused.After != tt.after) {
					t.Errorf("Watch = %#v (%v)", refused, err)
				}
				if len(err.Error()) > 500 || !strings.Contains(err.Error(), "plane.test") {
					t.Errorf("error %q, want a short one that names the server", err)
				}
			})
		})
	}
}

// That a control plane refuses us for long makes the streams rare that are for services with endpoints. A new service has none.
func TestNewServiceDoesNotWaitForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var denied atomic.Bool
		end := make(chan struct{})
		s := startScript(t, func(stream ads) error {
			if denied.Load() {
				return status.Error(codes.PermissionDenied, "no")
			}
			in := read(t, stream)
			go func() {
				for req := in.of(clusterType); req != nil; req = in.of(clusterType) {
					if len(req.GetResourceNames()) > len(req.GetVersionInfo()) {
						var clusters []proto.Message
						for _, name := range req.GetResourceNames() {
							clusters = append(clusters, staticCluster(name, "192.0.2.1:80"))
						}
						_ = stream.Send(answer(t, clusterType, strings.Repeat("x", len(clusters)), "n", clusters...))
					}
				}
			}()
			select {
			case <-end:
				return status.Error(codes.PermissionDenied, "no")
			case <-stream.Context().Done():
				return nil
			}
		})
		r := s.resolver(t, nil)
		a := follow(t, r, "a", discovery.RunOptions{})
		a.until("192.0.2.1:80")
		denied.Store(true)
		end <- struct{}{}
		time.Sleep(10 * time.Minute)
		r.mu.Lock()
		r.gate.opens = time.Now().Add(refusedWait) // the longest wait there is
		r.mu.Unlock()
		denied.Store(false)
		start := time.Now()
		follow(t, r, "b", discovery.RunOptions{}).until("192.0.2.1:80")
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("a new service has endpoints after %v, want 2 s at most", took)
		}
	})
}

func TestAggregateClusters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startScript(t, func(stream ads) error {
			in := read(t, stream)
			known := map[string]proto.Message{
				"a":     aggregate(t, "a", "near", "gone", "far", "a"),
				"far":   aggregate(t, "far", "far-1", "near"),
				"near":  staticCluster("near", "192.0.2.1:80"),
				"far-1": edsCluster("far-1"),
			}
			go func() {
				in.of(assignmentType)
				_ = stream.Send(answer(t, assignmentType, "1", "1",
					loadOf("far-1", discovery.Endpoint{Addr: "192.0.2.2:80"}, discovery.Endpoint{Addr: "192.0.2.3:80", Priority: 1})))
			}()
			for req := in.of(clusterType); req != nil; req = in.of(clusterType) {
				var clusters []proto.Message
				for _, name := range req.GetResourceNames() {
					if known[name] != nil {
						clusters = append(clusters, known[name])
					}
				}
				if version := fmt.Sprint(len(clusters)); version != req.GetVersionInfo() {
					_ = stream.Send(answer(t, clusterType, version, version, clusters...))
				}
			}
			return nil
		})
		f := follow(t, s.resolver(t, nil), "a", discovery.RunOptions{})
		time.Sleep(answerTime) // for the part that does not exist
		set := f.until("192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80")
		for i, e := range set {
			if got, want := int(e.Priority), i; got != want {
				t.Errorf("%s has priority %d, want %d", e.Addr, got, want)
			}
		}
	})
}

func TestCloseEndsWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startScript(t, serveA(t))
		r := s.resolver(t, nil)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := r.Watch(t.Context(), "a", func([]discovery.Endpoint) {}); !errors.Is(err, errClosed) {
					t.Errorf("Watch = %v, want %v", err, errClosed)
				}
			})
		}
		synctest.Wait()
		for range 2 {
			if err := r.Close(); err != nil {
				t.Errorf("Close() = %v", err)
			}
		}
		wg.Wait()
		if err := r.Watch(t.Context(), "a", nil); !errors.Is(err, errClosed) {
			t.Errorf("Watch = %v after Close, want %v", err, errClosed)
		}
	})
}

func TestStreamOutlivesShortPausesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var streams, open atomic.Int32
		serve := serveA(t)
		s := startScript(t, func(stream ads) error {
			streams.Add(1)
			open.Add(1)
			defer open.Add(-1)
			return serve(stream)
		})
		r := s.resolver(t, nil)
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			_ = r.Watch(ctx, "a", func([]discovery.Endpoint) { cancel() })
			time.Sleep(linger / 2)
		}
		if got := streams.Load(); got != 1 {
			t.Errorf("%d streams for watches soon after each other, want 1", got)
		}
		time.Sleep(linger)
		if got := open.Load(); got != 0 {
			t.Errorf("%d streams are open, want none", got)
		}
	})
}
