package grpcinterop

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// testCase is one of gRPC's own interop test cases.
type testCase struct {
	name   string
	stream bool // part of it is a stream, which no one can repeat once it has begun to answer
	run    func(ctx context.Context, conn *grpc.ClientConn)
}

// of makes a case of one that calls the test service.
func of(name string, f func(context.Context, testpb.TestServiceClient, ...grpc.CallOption), opts ...grpc.CallOption) testCase {
	return testCase{name: name, run: func(ctx context.Context, conn *grpc.ClientConn) {
		f(ctx, testpb.NewTestServiceClient(conn), opts...)
	}}
}

// streaming marks a case.
func streaming(c testCase) testCase {
	c.stream = true
	return c
}

// cases returns those that need neither an account nor a certain balancer; see TestCasesWithAccounts, TestOneServer and
// TestLoadReports for the others. Go has none for single compressed messages; those with gzip are the usual ones with all
// messages compressed.
func cases() []testCase {
	compressed, patient := grpc.UseCompressor(gzip.Name), grpc.WaitForReady(true)
	return []testCase{
		of("empty_unary", interop.DoEmptyUnaryCall),
		of("large_unary", interop.DoLargeUnaryCall),
		of("special_status_message", interop.DoSpecialStatusMessage),
		{name: "unimplemented_method", run: interop.DoUnimplementedMethod},
		{name: "unimplemented_service", run: func(ctx context.Context, conn *grpc.ClientConn) {
			interop.DoUnimplementedService(ctx, testpb.NewUnimplementedServiceClient(conn))
		}},
		streaming(of("client_streaming", interop.DoClientStreaming)),
		streaming(of("server_streaming", interop.DoServerStreaming)),
		streaming(of("ping_pong", interop.DoPingPong)),
		streaming(of("empty_stream", interop.DoEmptyStream)),
		streaming(of("timeout_on_sleeping_server", interop.DoTimeoutOnSleepingServer)),
		streaming(of("cancel_after_begin", interop.DoCancelAfterBegin)),
		streaming(of("cancel_after_first_response", interop.DoCancelAfterFirstResponse)),
		streaming(of("status_code_and_message", interop.DoStatusCodeAndMessage)),
		streaming(of("custom_metadata", interop.DoCustomMetadata)),
		of("large_unary gzip", interop.DoLargeUnaryCall, compressed),
		streaming(of("client_streaming gzip", interop.DoClientStreaming, compressed)),
		streaming(of("server_streaming gzip", interop.DoServerStreaming, compressed)),
		streaming(of("ping_pong gzip", interop.DoPingPong, compressed)),
		of("large_unary patient", interop.DoLargeUnaryCall, patient),
		streaming(of("ping_pong patient", interop.DoPingPong, patient)),
	}
}

// soak returns a short form of gRPC's soak test. The connection is got, and given back, once for each call.
func soak(name string, connect func() (*grpc.ClientConn, func())) testCase {
	return testCase{name: name, run: func(ctx context.Context, _ *grpc.ClientConn) {
		interop.DoSoakTest(ctx, interop.SoakTestConfig{
			RequestSize: 271828, ResponseSize: 314159, PerIterationMaxAcceptableLatency: 5 * time.Second,
			OverallTimeout: 30 * time.Second, NumWorkers: 2, Iterations: 10, ChannelForTest: connect,
		})
	}}
}
