package grpcmesh

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/zerohop/zerohop/internal/orca"
)

// timing is what is measured of a call.
type timing struct {
	meter  *orca.Meter // nil if nothing is
	asked  bool        // the client wants to know
	began  time.Time   // zero if how long it takes tells nothing
	others int         // calls in flight when it began
}

// time begins to measure a call, if anybody ever asked.
func (s *Server) time(ctx context.Context, others int) timing {
	if s.Unmeasured {
		return timing{}
	}
	asked := metadata.ValueFromIncomingContext(ctx, wantLoadKey) != nil
	m := s.meter.Load()
	if m == nil {
		if !asked {
			return timing{}
		}
		m = s.measured()
	}
	return timing{meter: m, asked: asked, began: time.Now(), others: others}
}

// measured returns the meter, made if there is none yet.
func (s *Server) measured() *orca.Meter {
	if s.meter.Load() == nil {
		s.meter.CompareAndSwap(nil, orca.NewMeter())
	}
	return s.meter.Load()
}

// report returns what to tell the client of the load at the end of a call.
func (s *Server) report(t *timing, failed bool) string {
	var now time.Time
	if t.meter != nil {
		now = time.Now()
		var took time.Duration
		if !t.began.IsZero() {
			took = max(now.Sub(t.began), 1)
		}
		t.meter.Observe(now, t.others, took, failed)
	}
	if t.asked {
		return s.load(t.meter, now)
	}
	return s.load(nil, now)
}

// load returns the load of the server: what the service says of it, and what m has measured if it is not nil.
func (s *Server) load(m *orca.Meter, now time.Time) string {
	var r LoadReport
	if s.Load != nil {
		r = s.Load()
	}
	if m == nil {
		return r.encode(0, 0)
	}
	inflight, rates := s.inFlight(), m.Rates(now)
	fill(&r.Requests, rates.Requests)
	fill(&r.Errors, rates.Errors)
	fill(&r.CPU, rates.CPU)
	return r.encode(inflight, m.Latency(now, inflight-1))
}

// fill sets a figure that the service has left out.
func fill(figure *float64, measured float64) {
	if *figure == 0 {
		*figure = measured
	}
}

// loadMethod is what clients ask for the load between calls. Its request is empty, and its reply an OrcaLoadReport. The
// OpenRcaService of ORCA is a stream of reports that come every 30 s at most often, for each client: too late to tell of
// requests in flight, and too many streams to tell of nothing else.
const (
	loadService = "zerohop.v1.Load"
	loadMethod  = "/" + loadService + "/Report"
)

// loadServer is what answers it: a *Server.
type loadServer interface {
	tell() (*emptypb.Empty, error)
}

var loadDesc = grpc.ServiceDesc{
	ServiceName: loadService,
	HandlerType: (*loadServer)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Report", Handler: func(srv any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
		var request emptypb.Empty
		if err := decode(&request); err != nil {
			return nil, err
		}
		answer := func(context.Context, any) (any, error) { return srv.(loadServer).tell() }
		if around == nil {
			return answer(ctx, &request)
		}
		return around(ctx, &request, &grpc.UnaryServerInfo{Server: srv, FullMethod: loadMethod}, answer)
	}}},
}

// Register lets clients ask the server for its load between calls, which they do where endpoints are picked by that and
// calls are few: it serves the method /zerohop.v1.Load/Report. Without it such clients go by what answers tell. Like all
// methods it is subject to the interceptors of the server: one that lets in only whom it knows keeps the load to itself.
func (s *Server) Register(r grpc.ServiceRegistrar) { r.RegisterService(&loadDesc, s) }

// tell returns the load as a message: its fields are unknown to the type that carries them, which protobuf keeps as
// they are.
func (s *Server) tell() (*emptypb.Empty, error) {
	if s.Unmeasured {
		return nil, status.Error(codes.Unimplemented, "the load is not measured")
	}
	reply := &emptypb.Empty{}
	reply.ProtoReflect().SetUnknown([]byte(s.load(s.measured(), time.Now())))
	return reply, nil
}
