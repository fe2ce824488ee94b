package grpcmesh

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

func TestServiceConfigWaitsForEndpoints(t *testing.T) {
	const waits = `{"name":[{}],"waitForReady":true}`
	for name, tc := range map[string]struct {
		config string
		option []grpc.CallOption
		code   codes.Code
	}{
		"says nothing": {`{}`, nil, codes.Unavailable},
		"all":          {`{"methodConfig":[` + waits + `]}`, nil, codes.OK},
		"service":      {`{"methodConfig":[{"name":[{"service":"zerohop.echo.v1.Echo"}],"waitForReady":true}]}`, nil, codes.OK},
		"methods": {`{"methodConfig":[{"name":[{"service":"zerohop.echo.v1.Echo","method":"Order"},
			{"service":"zerohop.echo.v1.Echo","method":"Chat"}],"waitForReady":true}]}`, nil, codes.OK},
		"another method": {`{"methodConfig":[{"name":[{"service":"zerohop.echo.v1.Echo","method":"Say"}],"waitForReady":true}]}`, nil, codes.Unavailable},
		"but not this":   {`{"methodConfig":[` + waits + `,{"name":[{"service":"zerohop.echo.v1.Echo"}]}]}`, nil, codes.Unavailable},
		"overridden":     {`{"methodConfig":[` + waits + `]}`, []grpc.CallOption{grpc.WaitForReady(false)}, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setUp(t, 1, zerohop.Config{})
				b.source.Set("late")
				client := echopb.NewEchoClient(b.dialTo(t, Target("late"), Client{Mesh: b.mesh, ServiceConfig: tc.config}.DialOptions()...))
				time.AfterFunc(10*time.Second, func() { b.source.Set("late", endpoints(b.servers[0].name)...) })
				done := make(chan error)
				go func() {
					_, err := client.Chat(t.Context(), tc.option...)
					done <- err
				}()
				_, err := client.Order(t.Context(), &echopb.SayRequest{}, tc.option...)
				if got := status.Code(err); got != tc.code {
					t.Errorf("Order() = %v, want %v", err, tc.code)
				}
				if err := <-done; status.Code(err) != tc.code {
					t.Errorf("Chat() = %v, want %v", err, tc.code)
				}
			})
		})
	}
}
