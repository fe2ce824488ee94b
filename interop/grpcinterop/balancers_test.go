package grpcinterop

import (
	"context"
	"testing"
	"time"

	orcadata "github.com/cncf/xds/go/xds/data/orca/v3"
	orcaservice "github.com/cncf/xds/go/xds/service/orca/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
)

// TestOneServer is the case pick_first_unary: all calls go to one server, although more are known. With a mesh that is
// said by priorities. What happens to the other nodes is nothing that calls would notice.
func TestOneServer(t *testing.T) {
	for _, w := range wires(t) {
		t.Run(w.name, func(t *testing.T) {
			var nodes []*node
			var list []discovery.Endpoint
			for i := range 3 {
				var n *node
				n = serve(t, w.server, grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
					reply, err := h(ctx, req)
					if r, ok := reply.(*testpb.SimpleResponse); ok && err == nil {
						r.ServerId = n.addr
					}
					return reply, err
				}))
				nodes = append(nodes, n)
				list = append(list, discovery.Endpoint{Addr: n.addr, Priority: uint8(min(2-i, 1))})
			}
			mesh := newMesh(t, zerohop.Config{Resolver: discovery.Static{service: list}})
			client := testpb.NewTestServiceClient(dial(t, mesh, grpc.WithTransportCredentials(w.client)))
			for nodes[2].calls.Load() == 0 { // others serve until it is connected
				if _, err := client.EmptyCall(t.Context(), &testpb.Empty{}); err != nil {
					t.Fatal(err)
				}
			}
			spared := nodes[0].calls.Load() + nodes[1].calls.Load()
			for _, change := range []func(){func() {}, nodes[0].drain, nodes[1].kill, func() { nodes[0].start(t) }} {
				change()
				if err := attempt(t.Context(), func(ctx context.Context) { interop.DoPickFirstUnary(ctx, client) }); err != nil {
					t.Error(err)
				}
			}
			if got := nodes[0].calls.Load() + nodes[1].calls.Load() - spared; got != 0 {
				t.Errorf("nodes that are to be spared got %d calls", got)
			}
		})
	}
}

// TestLoadReports are the cases orca_per_rpc and orca_oob: the balancer of the program gets what servers say of their load,
// with each call and besides. It is that of gRPC's tests, so of ours only the interceptors take part.
func TestLoadReports(t *testing.T) {
	for _, w := range wires(t) {
		t.Run(w.name, func(t *testing.T) {
			n := serve(t, w.server)
			var noted outcomes
			mesh := newMesh(t, zerohop.Config{Hooks: noted.hooks()})
			conn, err := grpc.NewClient("passthrough:///"+n.addr, grpc.WithTransportCredentials(w.client), grpc.WithAuthority(service),
				grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`),
				grpc.WithChainUnaryInterceptor(grpcmesh.UnaryInterceptor(mesh, service)),
				grpc.WithChainStreamInterceptor(grpcmesh.StreamInterceptor(mesh, service)))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			client := testpb.NewTestServiceClient(conn)
			if err := attempt(t.Context(), func(ctx context.Context) {
				interop.DoORCAPerRPCTest(ctx, client)
				interop.DoORCAOOBTest(ctx, client)
			}); err != nil {
				t.Error(err)
			}
			if len(noted.take()) < 3 {
				t.Error("the mesh took no part")
			}
		})
	}
}

// reports is the service that tells how busy a node is, as often as it is asked to. That of gRPC has thirty seconds
// between two reports at least.
type reports struct {
	orcaservice.UnimplementedOpenRcaServiceServer
	metrics orca.ServerMetricsProvider
}

func (r reports) StreamCoreMetrics(req *orcaservice.OrcaLoadReportRequest, s orcaservice.OpenRcaService_StreamCoreMetricsServer) error {
	every := time.NewTicker(max(req.GetReportInterval().AsDuration(), 10*time.Millisecond))
	defer every.Stop()
	for {
		m := r.metrics.ServerMetrics()
		if err := s.Send(&orcadata.OrcaLoadReport{CpuUtilization: m.CPUUtilization, MemUtilization: m.MemUtilization, Utilization: m.Utilization}); err != nil {
			return err
		}
		select {
		case <-s.Context().Done():
			return nil
		case <-every.C:
		}
	}
}
