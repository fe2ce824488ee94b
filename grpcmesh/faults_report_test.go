package grpcmesh_test

import (
	"context"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// The race detector watches this one.
func TestReportsMayBeReadWhileStreamsEnd(t *testing.T) {
	s := frameServer(t, func(*frames, uint32) {})
	u := use(t, zerohop.Config{}, []string{s.addr})
	for range 50 {
		ctx, report := zerohop.WithReport(t.Context())
		ctx, cancel := context.WithCancel(ctx)
		stream, err := u.Chat(ctx, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&echopb.SayRequest{Text: "hello"}); err != nil {
			t.Fatal(err)
		}
		var reader sync.WaitGroup
		over := make(chan struct{})
		reader.Go(func() {
			for {
				report.Calls()
				select {
				case <-over:
					return
				default:
				}
			}
		})
		cancel()
		if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("Recv() = %v, want CANCELLED", err)
		}
		close(over)
		reader.Wait()
		if calls := report.Calls(); len(calls) != 1 || len(calls[0].Attempts) != 1 {
			t.Errorf("report = %+v, want one attempt of one call", calls)
		}
	}
}
