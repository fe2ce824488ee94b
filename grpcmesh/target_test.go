package grpcmesh

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func TestTargetNamesService(t *testing.T) {
	for target, want := range map[string]string{
		Target("orders"):       "orders",
		Target("team/orders"):  "team/orders",
		Target("50% off?#x"):   "50% off?#x",
		"dns:///orders":        "",
		"passthrough:///a:443": "",
		"zerohop:///%zz":       "",
	} {
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(Resolver(nil)))
		if err != nil {
			if want != "" {
				t.Errorf("%s: %v", target, err)
			}
			continue
		}
		got, ok := serviceOf(conn)
		if ok != (want != "") || ok && got != want {
			t.Errorf("service of %s = %q, %v, want %q", target, got, ok, want)
		}
		conn.Close()
	}
}
