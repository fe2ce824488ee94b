package grpcmesh

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/echopb"
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

func TestServiceConfigsAreChecked(t *testing.T) {
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{}})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	for _, tt := range []struct {
		client Client
		want   string // in the error, which is none if empty
	}{
		{Client{Mesh: mesh}, ""},
		{Client{}, "client.mesh"},
		{Client{Mesh: mesh, ServiceConfig: `null`}, ""},
		{Client{Mesh: mesh, ServiceConfig: `{`}, "client.serviceConfig: unexpected end"},
		{Client{Mesh: mesh, ServiceConfig: `{"methodConfig":7}`}, "client.serviceConfig.methodConfig: "},
		{Client{Mesh: mesh, ServiceConfig: `{"loadBalancingConfig":[{"round_robin":{}}]}`}, "client.serviceConfig.loadBalancingConfig: "},
		{Client{Mesh: mesh, ServiceConfig: `{"LoadBalancingPolicy":"round_robin"}`}, "client.serviceConfig.LoadBalancingPolicy: "},
		{Client{Mesh: mesh, ServiceConfig: `{"retryThrottling":{"maxTokens":10,"tokenRatio":0.1}}`}, "client.serviceConfig.retryThrottling: "},
		{Client{Mesh: mesh, ServiceConfig: `{"methodConfig":[{"name":[{}]},{"name":[{"service":"a"}],"retryPolicy":{"maxAttempts":2}}]}`}, "client.serviceConfig.methodConfig[1].retryPolicy: "},
		{Client{Mesh: mesh, ServiceConfig: `{"methodConfig":[{"name":[{}],"hedgingPolicy":{"maxAttempts":2}}]}`}, "client.serviceConfig.methodConfig[0].hedgingPolicy: "},
		{Client{Mesh: mesh, ServiceConfig: `{"methodConfig":[{"name":[{}],"timeout":"fast"}]}`}, "malformed duration"},
		{Client{Mesh: mesh, ServiceConfig: `{"methodConfig":[{"name":[{}],"waitForReady":true,"timeout":"1s"}]}`}, ""},
		{Client{Mesh: mesh, ServiceConfig: `{"healthCheckConfig":{"serviceName":"a"}}`}, ""},
		{Client{Mesh: mesh, ServiceConfig: `{"healthcheckconfig":{"serviceName":"a"}}`, Health: &Health{}}, "client.health: "},
		{Client{Mesh: mesh, Health: &Health{}}, ""},
	} {
		conn, err := grpc.NewClient(Target("orders"), append(tt.client.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("NewClient() with %q, %v = %v, want %q", tt.client.ServiceConfig, tt.client.Health, err, tt.want)
		}
		if err == nil {
			conn.Close()
		}
	}
}

func TestServiceConfigIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t, 3, zerohop.Config{Spec: unlimited})
		dial := func(config string, opts ...grpc.DialOption) echopb.EchoClient {
			c := Client{Mesh: b.mesh, ServiceConfig: config}
			return echopb.NewEchoClient(b.dialTo(t, Target("orders"), append(c.DialOptions(), opts...)...))
		}
		small := dial(`{"methodConfig":[{"name":[{}],"maxResponseMessageBytes":5}]}`)
		if _, err := small.Say(t.Context(), &echopb.SayRequest{Text: "hello"}); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("Say() with a small answer wanted = %v, want RESOURCE_EXHAUSTED", err)
		}
		for _, s := range b.servers {
			s.do(hang)
		}
		start := time.Now()
		_, err := dial(`{"methodConfig":[{"name":[{}],"timeout":"0.3s"}]}`).Say(t.Context(), &echopb.SayRequest{})
		if took := time.Since(start); status.Code(err) != codes.DeadlineExceeded || took < 300*time.Millisecond || took > 3*time.Second {
			t.Errorf("Say() with a timeout = %v after %v", err, took)
		}
		// Retries of gRPC would multiply those of the mesh.
		retries := grpc.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.1s",
			"maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}`)
		for _, s := range b.servers {
			s.do(func(context.Context, string) error { return errUnavailable })
			s.calls.Store(0)
		}
		if _, err := dial("", retries).Say(t.Context(), &echopb.SayRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("Say() = %v, want UNAVAILABLE", err)
		}
		var calls int64
		for _, s := range b.servers {
			calls += s.calls.Load()
		}
		if calls != 3 {
			t.Errorf("the servers got %d attempts, want 3", calls)
		}
		_, err = dial("", grpc.WithDisableServiceConfig()).Say(t.Context(), &echopb.SayRequest{})
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "service configs are disabled") {
			t.Errorf("Say() without service configs = %v, want why that cannot be", err)
		}
	})
}
