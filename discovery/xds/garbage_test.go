package xds

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/zerohop/zerohop/discovery"
)

// outgoing counts the messages that a client sends.
type outgoing struct {
	atomic.Int64
}

func (o *outgoing) HandleRPC(_ context.Context, event stats.RPCStats) {
	if _, ok := event.(*stats.OutPayload); ok {
		o.Add(1)
	}
}

func (*outgoing) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*outgoing) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*outgoing) HandleConn(context.Context, stats.ConnStats)                       {}

// spoilable serves every service that it is asked for, all at one address, by answers that may be spoiled.
type spoilable struct {
	t       *testing.T
	addr    atomic.Pointer[string]
	spoiled atomic.Pointer[string] // the type whose answers are, "" for all
	end     chan struct{}          // ends a stream
}

func (p *spoilable) serve(stream ads) error {
	in, told := read(p.t, stream), make(map[string]string)
	for {
		var req *discoveryv3.DiscoveryRequest
		select {
		case req = <-in[clusterType]:
		case req = <-in[assignmentType]:
		case <-p.end:
			return status.Error(codes.Unavailable, "restart")
		}
		if req == nil {
			return nil
		}
		url := req.GetTypeUrl()
		names := strings.Join(req.GetResourceNames(), " ")
		if told[url] == names {
			continue
		}
		told[url] = names
		if err := stream.Send(p.answer(url, req.GetResourceNames())); err != nil {
			return err
		}
	}
}

func (p *spoilable) answer(url string, names []string) *discoveryv3.DiscoveryResponse {
	var resources []proto.Message
	for _, name := range names {
		if url == clusterType {
			resources = append(resources, edsCluster(name))
		} else {
			resources = append(resources, loadOf(name, discovery.Endpoint{Addr: *p.addr.Load()}))
		}
	}
	resp := answer(p.t, url, "1", "1", resources...)
	if of := p.spoiled.Load(); of != nil && (*of == "" || *of == url) {
		resp.ProtoReflect().SetUnknown([]byte{0xff, 0xff, 0xff}) // goes out as it is
	}
	return resp
}

func TestGarbageIsSurvived(t *testing.T) {
	const lasting = time.Minute
	for name, tt := range map[string]struct {
		of       string
		services int
		requests int // a second
	}{
		"in all answers":                  {services: 1, requests: 1},
		"in all answers to many services": {services: 20, requests: 1},
		"in endpoints":                    {of: assignmentType, services: 1, requests: 2}, // one of each type
		"in endpoints of many services":   {of: assignmentType, services: 20, requests: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				addr := "192.0.2.1:80"
				p := &spoilable{t: t, end: make(chan struct{})}
				p.addr.Store(&addr)
				count := new(outgoing)
				r := startScript(t, p.serve).resolver(t, func(c *Config) {
					c.DialOptions = append(c.DialOptions, grpc.WithStatsHandler(count))
				})
				var followers []*follower
				for n := range tt.services {
					followers = append(followers, follow(t, r, fmt.Sprintf("service-%d", n), discovery.RunOptions{}))
				}
				for _, f := range followers {
					f.until(addr)
				}
				for round := range 5 {
					time.Sleep(10 * time.Second)
					begun := count.Load()
					p.spoiled.Store(&tt.of)
					p.end <- struct{}{}
					time.Sleep(lasting)
					asked := count.Load() - begun
					if most := (int64(lasting/time.Second) + burst) * int64(tt.requests); asked > most {
						t.Errorf("%d requests in %v, want at most %d", asked, lasting, most)
					}
					for _, f := range followers {
						f.same()
						f.garbled()
					}

					next := fmt.Sprintf("192.0.2.%d:80", round+2)
					p.addr.Store(&next)
					p.spoiled.Store(nil)
					healed := time.Now()
					for _, f := range followers {
						f.until(next)
					}
					took := time.Since(healed)
					if took > 2*time.Second {
						t.Errorf("the true set is known after %v, want at most 2 s", took)
					}
					t.Logf("%d requests in %v, the true set after %v", asked, lasting, took)
				}
			})
		})
	}
}

// garbled checks that watches failed of what cannot be decoded and not of a refusal.
func (f *follower) garbled() {
	f.t.Helper()
	found := false
	for len(f.events) > 0 {
		err := (<-f.events).Err
		found = found || errors.Is(err, errGarbled)
		if _, ok := errors.AsType[*discovery.RefusedError](err); ok {
			f.t.Errorf("a watch failed with %v, want no refusal", err)
		}
	}
	if !found {
		f.t.Errorf("no watch failed with %v", errGarbled)
	}
}
