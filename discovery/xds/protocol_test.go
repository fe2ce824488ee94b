package xds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/zerohop/zerohop/discovery"
)

// errorLog collects what Config.OnError is told.
type errorLog struct {
	mu   sync.Mutex
	list []string
}

func (l *errorLog) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, err.Error())
}

func (l *errorLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}

// line is a request in short.
func line(req *discoveryv3.DiscoveryRequest) string {
	if req == nil {
		return "none"
	}
	kind := req.GetTypeUrl()[strings.LastIndex(req.GetTypeUrl(), ".")+1:]
	s := fmt.Sprintf("%s %v version=%q nonce=%q", kind, req.GetResourceNames(), req.GetVersionInfo(), req.GetResponseNonce())
	if req.GetNode() != nil {
		s += " node=" + req.GetNode().GetId()
	}
	if d := req.GetErrorDetail(); d != nil {
		s += fmt.Sprintf(" error=%d", d.GetCode())
	}
	return s
}

func TestRequestsFollowTheProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := make(chan string)
		expect := func(got *discoveryv3.DiscoveryRequest, want string) {
			if l := line(got); l != want {
				t.Errorf("request %s, want %s", l, want)
			}
		}
		pipe := proto.CloneOf(loadOf("b", discovery.Endpoint{Addr: "192.0.2.2:80"}))
		pipe.Endpoints[0].LbEndpoints[0] = lbEndpoint(&corev3.Address{
			Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/run/b"}},
		})
		s := startScript(t, func(stream ads) error {
			in := read(t, stream)
			expect(in.of(clusterType), `Cluster [a] version="" nonce="" node=client-1`)
			_ = stream.Send(answer(t, clusterType, "1", "c1", edsCluster("a")))
			expect(in.of(clusterType), `Cluster [a] version="1" nonce="c1"`)
			expect(in.of(assignmentType), `ClusterLoadAssignment [a] version="" nonce=""`)
			_ = stream.Send(answer(t, assignmentType, "1", "e1", loadOf("a", discovery.Endpoint{Addr: "192.0.2.1:80"})))
			expect(in.of(assignmentType), `ClusterLoadAssignment [a] version="1" nonce="e1"`)
			next <- "b"

			// A second service: all names are named, with the nonce of the last answer.
			expect(in.of(clusterType), `Cluster [a b] version="1" nonce="c1"`)
			_ = stream.Send(answer(t, clusterType, "2", "c2", edsCluster("a"), edsCluster("b")))
			expect(in.of(clusterType), `Cluster [a b] version="2" nonce="c2"`)
			expect(in.of(assignmentType), `ClusterLoadAssignment [a b] version="1" nonce="e1"`)

			// A bad resource: the version is the last good one, the nonce that of the bad answer.
			_ = stream.Send(answer(t, assignmentType, "2", "e2", pipe, loadOf("a", discovery.Endpoint{Addr: "192.0.2.9:80"})))
			bad := in.of(assignmentType)
			expect(bad, `ClusterLoadAssignment [a b] version="1" nonce="e2" error=3`)
			if want := `"b": endpoints[0].lb_endpoints[0].endpoint.address.pipe`; !strings.Contains(bad.GetErrorDetail().GetMessage(), want) {
				t.Errorf("error detail %q, want %q in it", bad.GetErrorDetail().GetMessage(), want)
			}
			_ = stream.Send(answer(t, assignmentType, "3", "e3", loadOf("b", discovery.Endpoint{Addr: "192.0.2.2:80"})))
			expect(in.of(assignmentType), `ClusterLoadAssignment [a b] version="3" nonce="e3"`)
			next <- ""
			<-stream.Context().Done()
			return nil
		})
		log := new(errorLog)
		r := s.resolver(t, func(c *Config) { c.OnError = log.add })
		a := follow(t, r, "a", discovery.RunOptions{})
		a.until("192.0.2.1:80")
		b := follow(t, r, <-next, discovery.RunOptions{})
		a.until("192.0.2.9:80") // of the answer with a bad resource
		b.until("192.0.2.2:80")
		<-next
		if got := log.all(); len(got) != 1 || !strings.Contains(got[0], "Unix sockets") {
			t.Errorf("OnError was told %q, want one refusal", got)
		}
	})
}

func TestOneBadOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const services = 100
		var names []string
		for n := range services {
			names = append(names, fmt.Sprintf("service-%03d", n))
		}
		// The plane repeats a bad version as soon as it is refused, as go-control-plane does.
		var refusals []time.Time
		heal := make(chan bool)
		load := func(n int, addr int) proto.Message {
			return loadOf(names[n], discovery.Endpoint{Addr: fmt.Sprintf("192.0.2.%d:80", addr)})
		}
		s := startScript(t, func(stream ads) error {
			in := read(t, stream)
			var clusters, good, bad []proto.Message
			for n := range services {
				clusters = append(clusters, edsCluster(names[n]))
				good = append(good, load(n, 1))
				bad = append(bad, load(n, 2))
			}
			bad[7] = loadOf(names[7], discovery.Endpoint{Addr: "no-address:80"})
			send := func(typeURL, version string, resources []proto.Message) {
				_ = stream.Send(answer(t, typeURL, version, version, resources...))
			}
			for req := in.of(clusterType); req != nil && len(req.GetResourceNames()) < services; req = in.of(clusterType) {
			}
			send(clusterType, "1", clusters)
			for req := in.of(assignmentType); req != nil && len(req.GetResourceNames()) < services; req = in.of(assignmentType) {
			}
			send(assignmentType, "1", good)
			in.of(assignmentType)
			<-heal // all have seen the good ones
			for healed := false; !healed; {
				send(assignmentType, "2", bad)
				req := in.of(assignmentType)
				if req == nil {
					return nil
				}
				if req.GetErrorDetail() != nil {
					refusals = append(refusals, time.Now())
				}
				select {
				case healed = <-heal:
				default:
				}
			}
			bad[7] = load(7, 3)
			send(assignmentType, "3", bad)
			<-stream.Context().Done()
			return nil
		})
		r := s.resolver(t, nil)
		var followers []*follower
		for _, name := range names {
			followers = append(followers, follow(t, r, name, discovery.RunOptions{}))
		}
		for _, f := range followers {
			f.until("192.0.2.1:80")
		}
		heal <- false
		for n, f := range followers {
			if n != 7 {
				f.until("192.0.2.2:80")
			}
		}
		time.Sleep(30 * time.Second)
		followers[7].same()
		late := follow(t, r, names[7], discovery.RunOptions{})
		late.until("192.0.2.1:80") // the last good version serves who comes later, too
		heal <- true
		followers[7].until("192.0.2.3:80")
		late.until("192.0.2.3:80")
		if got := len(refusals); got < 25 || got > 33 {
			t.Errorf("%d refusals in 30 s, want one a second", got)
		}
		for _, f := range followers {
			if len(f.events) > 3 {
				t.Errorf("%d events, want those of the sets alone", len(f.events))
			}
		}
	})
}

func TestGarbageRemovesNothing(t *testing.T) {
	garbage := func(url string, data ...byte) *anypb.Any { return &anypb.Any{TypeUrl: url, Value: data} }
	for name, bad := range map[string]*anypb.Any{
		"bytes":         garbage(clusterType, 0xff, 0xff, 0xff),
		"nothing":       garbage(""),
		"no name":       garbage(clusterType),
		"another type":  garbage(assignmentType, 10, 1, 'a'),
		"unknown type":  garbage("type.googleapis.com/nothing", 10, 1, 'a'),
		"bad wrapper":   garbage(wrapperType, 0xff),
		"empty wrapper": garbage(wrapperType),
		"cut off":       garbage(clusterType, 10, 9, 'a'),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refused := make(chan string, 1)
				s := startScript(t, func(stream ads) error {
					in := read(t, stream)
					in.of(clusterType)
					_ = stream.Send(answer(t, clusterType, "1", "1", staticCluster("a", "192.0.2.1:80")))
					in.of(clusterType)
					resp := answer(t, clusterType, "2", "2")
					resp.Resources = append(resp.Resources, bad)
					_ = stream.Send(resp)
					refused <- in.of(clusterType).GetErrorDetail().GetMessage()
					<-stream.Context().Done()
					return nil
				})
				f := follow(t, s.resolver(t, func(c *Config) { c.DeleteGrace = time.Millisecond }), "a", discovery.RunOptions{EmptyGrace: -1})
				f.until("192.0.2.1:80")
				if got := <-refused; !strings.HasPrefix(got, "resources[0]: ") {
					t.Errorf("error detail %q, want the number of the resource", got)
				}
				time.Sleep(time.Minute)
				f.same()
			})
		})
	}
}

func TestDeletionsAreBelievedLate(t *testing.T) {
	const grace = 3 * time.Minute
	for name, tt := range map[string]struct {
		grace     time.Duration
		reconnect bool
		heals     bool
	}{
		"and healed":                  {grace: grace, heals: true},
		"and true":                    {grace: grace},
		"and over a reconnect healed": {grace: grace, reconnect: true, heals: true},
		"and over a reconnect true":   {grace: grace, reconnect: true},
		"never":                       {grace: -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				step := make(chan bool)
				streams := 0
				s := startScript(t, func(stream ads) error {
					in := read(t, stream)
					in.of(clusterType)
					full := staticCluster("a", "192.0.2.1:80")
					if streams++; streams == 1 {
						_ = stream.Send(answer(t, clusterType, "1", "1", full))
						<-step
						if tt.reconnect {
							return errors.New("restart")
						}
					}
					_ = stream.Send(answer(t, clusterType, "2", "2"))
					if <-step {
						_ = stream.Send(answer(t, clusterType, "3", "3", staticCluster("a", "192.0.2.2:80")))
					}
					<-stream.Context().Done()
					return nil
				})
				log := new(errorLog)
				r := s.resolver(t, func(c *Config) { c.DeleteGrace, c.OnError = tt.grace, log.add })
				f := follow(t, r, "a", discovery.RunOptions{EmptyGrace: -1})
				f.until("192.0.2.1:80")
				step <- true
				time.Sleep(2 * time.Minute)
				f.same()
				if got := log.all(); len(got) != 1 || !strings.Contains(got[0], `no longer has the cluster "a"`) {
					t.Errorf("OnError was told %q, want the deletion", got)
				}
				step <- tt.heals
				start := time.Now()
				switch {
				case tt.heals:
					f.until("192.0.2.2:80")
					if got := time.Since(start); got > 2*time.Second {
						t.Errorf("healed after %v, want at most 2 s", got)
					}
				case tt.grace < 0:
					time.Sleep(2 * time.Hour)
					f.same()
				default:
					time.Sleep(time.Minute + time.Second) // more than 3 min after the deletion in all
					if got, err := len(f.sets), f.failureAfterReconnect(); got != 1 || !errors.Is(err, discovery.ErrUnknownService) {
						t.Errorf("%d sets and %v after the grace, want an empty one and %v", got, err, discovery.ErrUnknownService)
					}
				}
			})
		})
	}
}

// failureAfterReconnect returns the last failure so far.
func (f *follower) failureAfterReconnect() (err error) {
	for {
		select {
		case e := <-f.events:
			if e.Kind == discovery.EventWatchFailed {
				err = e.Err
			}
		default:
			return err
		}
	}
}

func TestSilentPlane(t *testing.T) {
	watch := func(t *testing.T, r *Resolver, service string) (time.Duration, error) {
		start := time.Now()
		err := r.Watch(t.Context(), service, func(set []discovery.Endpoint) {
			if service != "a" {
				t.Errorf("a set came: %v", set)
			}
		})
		return time.Since(start), err
	}
	t.Run("never answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := startScript(t, func(stream ads) error {
				<-stream.Context().Done()
				return nil
			})
			took, err := watch(t, s.resolver(t, nil), "b")
			if took != answerTime || !errors.Is(err, errSilent) || errors.Is(err, discovery.ErrUnknownService) {
				t.Errorf("Watch = %v after %v, want %v after %v", err, took, errSilent, answerTime)
			}
		})
	})
	t.Run("answers for another service", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := startScript(t, func(stream ads) error {
				read(t, stream).of(clusterType)
				_ = stream.Send(answer(t, clusterType, "1", "1", staticCluster("a", "192.0.2.1:80")))
				<-stream.Context().Done()
				return nil
			})
			r := s.resolver(t, nil)
			a := follow(t, r, "a", discovery.RunOptions{})
			a.until("192.0.2.1:80")
			took, err := watch(t, r, "b")
			if took != answerTime || !errors.Is(err, discovery.ErrUnknownService) {
				t.Errorf("Watch = %v after %v, want %v after %v", err, took, discovery.ErrUnknownService, answerTime)
			}
			a.same()
		})
	})
	t.Run("answers without the service", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := startScript(t, func(stream ads) error {
				read(t, stream).of(clusterType)
				_ = stream.Send(answer(t, clusterType, "1", "1"))
				<-stream.Context().Done()
				return nil
			})
			took, err := watch(t, s.resolver(t, nil), "b")
			if took != 0 || !errors.Is(err, discovery.ErrUnknownService) {
				t.Errorf("Watch = %v after %v, want %v at once", err, took, discovery.ErrUnknownService)
			}
		})
	})
	t.Run("has a cluster without endpoints", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := startScript(t, func(stream ads) error {
				read(t, stream).of(clusterType)
				_ = stream.Send(answer(t, clusterType, "1", "1", edsCluster("b")))
				<-stream.Context().Done()
				return nil
			})
			took, err := watch(t, s.resolver(t, nil), "b")
			if took != answerTime || !errors.Is(err, discovery.ErrUnknownService) {
				t.Errorf("Watch = %v after %v, want %v after %v", err, took, discovery.ErrUnknownService, answerTime)
			}
		})
	})
}

func TestAnswersOnTheirWayProveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startScript(t, func(stream ads) error {
			in := read(t, stream)
			in.of(clusterType)
			_ = stream.Send(answer(t, clusterType, "1", "1", staticCluster("a", "192.0.2.1:80")))
			for req := in.of(clusterType); req != nil && len(req.GetResourceNames()) < 2; req = in.of(clusterType) {
			}
			// Made before the request for b was read.
			_ = stream.Send(answer(t, clusterType, "2", "2", staticCluster("a", "192.0.2.2:80")))
			time.Sleep(5 * time.Second)
			_ = stream.Send(answer(t, clusterType, "3", "3", staticCluster("a", "192.0.2.2:80"), staticCluster("b", "192.0.2.3:80")))
			<-stream.Context().Done()
			return nil
		})
		r := s.resolver(t, nil)
		follow(t, r, "a", discovery.RunOptions{}).until("192.0.2.1:80")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := r.Watch(ctx, "b", func(set []discovery.Endpoint) {
			if got, want := addrsOf(set), []string{"192.0.2.3:80"}; !slices.Equal(got, want) {
				t.Errorf("set %v, want %v", got, want)
			}
			cancel()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Watch = %v, want %v", err, context.Canceled)
		}
	})
}
