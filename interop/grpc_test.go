package interop_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/interop/shop"
	"github.com/zerohop/zerohop/interop/shop/shopconnect"
	"github.com/zerohop/zerohop/resilience"
)

// caller is a client of the shop made by gRPC: the shops are Connect's.
type caller struct{ conn *grpc.ClientConn }

// grpcClient connects to the shops of a fleet over its mesh.
func (f *fleet) grpcClient(t testing.TB, opts ...grpc.DialOption) caller {
	t.Helper()
	transport := insecure.NewCredentials()
	if config := f.wire.base().TLSClientConfig; config != nil {
		transport = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient(grpcmesh.Target("shop"), append(append(opts, grpcmesh.DialOptions(f.mesh)...), grpc.WithTransportCredentials(transport))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return caller{conn}
}

func (c caller) call(ctx context.Context, method, text string, opts ...grpc.CallOption) (*shop.Answer, error) {
	answer := new(shop.Answer)
	return answer, c.conn.Invoke(ctx, method, &shop.Item{Text: text}, answer, opts...)
}

func (c caller) stream(ctx context.Context, method string, opts ...grpc.CallOption) (grpc.BidiStreamingClient[shop.Item, shop.Answer], error) {
	s, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, opts...)
	return &grpc.GenericClientStream[shop.Item, shop.Answer]{ClientStream: s}, err
}

// withGRPC runs a test over both ways to speak HTTP/2.
func withGRPC(t *testing.T, test func(t *testing.T, f *fleet, c caller)) {
	for _, w := range []wire{overTLS, overH2C} {
		t.Run(w.name, func(t *testing.T) {
			f := shops(t, w, zerohop.Policy{})
			test(t, f, f.grpcClient(t))
		})
	}
}

func TestGRPCQueriesSurviveANodeThatIsUnavailable(t *testing.T) {
	withGRPC(t, func(t *testing.T, f *fleet, c caller) {
		f.failing(connect.CodeUnavailable, f.nodes[0])
		for i := 0; f.nodes[0].calls.Load() == 0; i++ {
			text := fmt.Sprint("apple ", i)
			answer, err := c.call(t.Context(), shopconnect.ShopPriceProcedure, text, grpc.UseCompressor(gzip.Name))
			if err != nil {
				t.Fatal(err)
			}
			if answer.Text != text || answer.Node == f.nodes[0].name {
				t.Errorf("answer = %v, want %q of another node than %s", answer, text, f.nodes[0].name)
			}
		}
	})
}

func TestGRPCErrorsReachTheCallerAsTheyAre(t *testing.T) {
	withGRPC(t, func(t *testing.T, f *fleet, c caller) {
		done := 0
		for _, row := range []struct {
			code    codes.Code
			calls   int
			outcome resilience.Outcome
		}{
			{codes.NotFound, 1, resilience.Success},
			{codes.ResourceExhausted, 1, resilience.Overload},
			{codes.Internal, 1, resilience.Failure},
			{codes.Unavailable, 1, resilience.Failure},
		} {
			f.failing(connect.Code(row.code), f.nodes...)
			var trailer metadata.MD
			_, err := c.call(t.Context(), shopconnect.ShopOrderProcedure, "apple", grpc.Trailer(&trailer))
			s := status.Convert(err)
			if s.Code() != row.code || len(s.Details()) != 1 || s.Details()[0].(*shop.Item).Text != "back at two" {
				t.Errorf("error = %v with %v, want %v with one detail", err, s.Details(), row.code)
			}
			if got := trailer.Get("shop-note"); !slices.Equal(got, []string{"on the door"}) {
				t.Errorf("%v: note = %q", row.code, got)
			}
			if done += row.calls; f.calls() != done {
				t.Errorf("%v: %d calls in all, want %d", row.code, f.calls(), done)
			}
			if got := f.await(t, 1); !slices.Contains(got, row.outcome) {
				t.Errorf("%v: outcome = %v, want %v", row.code, got, row.outcome)
			}
			f.attempts = nil
		}
	})
}

func TestGRPCStreams(t *testing.T) {
	withGRPC(t, func(t *testing.T, f *fleet, c caller) {
		ctx := t.Context()
		haggle, err := c.stream(ctx, shopconnect.ShopHaggleProcedure)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 { // each is answered before the next
			text := fmt.Sprint("apple ", i)
			if err := haggle.Send(&shop.Item{Text: text}); err != nil {
				t.Fatal(err)
			}
			if answer, err := haggle.Recv(); err != nil || answer.Text != text {
				t.Fatalf("answer = %v, %v, want %q", answer, err, text)
			}
		}
		if err := haggle.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := haggle.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end, error = %v, want %v", err, io.EOF)
		}

		f.failing(connect.CodeUnavailable, f.nodes...)
		watch, err := c.stream(ctx, shopconnect.ShopWatchProcedure)
		if err == nil {
			err = errors.Join(watch.Send(&shop.Item{Text: "apple", Count: 3}), watch.CloseSend())
		}
		n := 0
		for ; err == nil; n++ {
			_, err = watch.Recv()
		}
		if n != 4 || status.Code(err) != codes.Unavailable || len(status.Convert(err).Details()) != 1 {
			t.Errorf("after %d answers, error = %v, want Unavailable after 3", n-1, err)
		}
		if got, want := f.await(t, 2), []resilience.Outcome{resilience.Success, resilience.Failure}; !slices.Equal(got, want) {
			t.Errorf("outcomes = %v, want %v", got, want)
		}
	})
}

func TestGRPCDeadlineReachesTheShop(t *testing.T) {
	f := start(t, overH2C, 1, zerohop.Policy{}, func(b *node) http.Handler { return slow{b}.handler() })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := f.grpcClient(t).call(ctx, shopconnect.ShopOrderProcedure, "apple")
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("error = %v, want DeadlineExceeded", err)
	}
}
