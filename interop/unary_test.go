package interop_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/interop/shop"
	"github.com/zerohop/zerohop/resilience"
)

var rpcs = []struct {
	name string
	opts []connect.ClientOption
}{
	{"connect", nil},
	{"connect json", []connect.ClientOption{connect.WithProtoJSON()}},
	{"grpc", []connect.ClientOption{connect.WithGRPC()}},
	{"grpc-web", []connect.ClientOption{connect.WithGRPCWeb()}},
}

// everywhere runs a test over every pair of connection and protocol.
func everywhere(t *testing.T, test func(t *testing.T, w wire, opts ...connect.ClientOption)) {
	for _, w := range []wire{overTLS, overH2C} {
		for _, rpc := range rpcs {
			t.Run(w.name+"/"+rpc.name, func(t *testing.T) { test(t, w, rpc.opts...) })
		}
	}
}

func item(text string) *connect.Request[shop.Item] {
	return connect.NewRequest(&shop.Item{Text: text})
}

// mark says that the calls of a context may be executed more than once, and without backups, so that their number
// does not depend on how fast the machine is.
func mark(ctx context.Context) context.Context {
	return zerohop.WithCall(ctx, zerohop.CallOptions{Idempotent: zerohop.On, Backup: zerohop.Off})
}

func TestQueriesSurviveANodeThatIsUnavailable(t *testing.T) {
	for _, w := range []wire{overTLS, overH2C, overHTTP1} {
		for _, rpc := range rpcs[:2] {
			t.Run(w.name+"/"+rpc.name, func(t *testing.T) {
				f := shops(t, w, zerohop.Policy{})
				f.failing(connect.CodeUnavailable, f.nodes[0])
				client := f.client(append(rpc.opts, connect.WithHTTPGet())...)
				for i := 0; f.nodes[0].calls.Load() == 0; i++ {
					text := fmt.Sprint("apple ", i)
					answer, err := client.Price(t.Context(), item(text))
					if err != nil {
						t.Fatal(err)
					}
					if got := answer.Msg; got.Text != text || got.Node == f.nodes[0].name {
						t.Errorf("answer = %v, want %q of another node than %s", got, text, f.nodes[0].name)
					}
				}
			})
		}
	}
}

func TestMarkedOrdersSurviveANodeThatIsUnavailable(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		f := shops(t, w, zerohop.Policy{})
		f.failing(connect.CodeUnavailable, f.nodes[0])
		client := f.client(opts...)
		for i := 0; f.nodes[0].calls.Load() == 0; i++ {
			// More than fits into the first window of HTTP/2, so that it is under way when the answer comes.
			text := strings.Repeat(fmt.Sprint("apple ", i), 20_000)
			answer, err := client.Order(mark(t.Context()), item(text))
			if err != nil {
				t.Fatal(err)
			}
			if answer.Msg.Text != text {
				t.Error("the order arrived changed")
			}
		}
	})
}

func TestErrorsReachTheCallerAsTheyAre(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		for _, row := range []struct {
			code    connect.Code
			marked  bool
			calls   int
			outcome resilience.Outcome
		}{
			{connect.CodeUnavailable, false, 1, resilience.Failure},
			{connect.CodeUnavailable, true, 3, resilience.Failure},
			{connect.CodeInternal, true, 1, resilience.Failure},
			{connect.CodeDataLoss, true, 1, resilience.Failure},
			{connect.CodeUnknown, true, 1, resilience.Success},
			{connect.CodeInvalidArgument, true, 1, resilience.Success},
			{connect.CodeNotFound, true, 1, resilience.Success},
			{connect.CodeUnimplemented, true, 1, resilience.Success},
			{connect.CodeResourceExhausted, true, 1, resilience.Overload},
			{connect.CodeDeadlineExceeded, true, 1, resilience.Failure},
			{connect.CodeCanceled, true, 1, resilience.Neutral},
		} {
			f := shops(t, w, zerohop.Policy{})
			f.failing(row.code, f.nodes...)
			ctx := t.Context()
			if row.marked {
				ctx = mark(ctx)
			}
			_, err := f.client(opts...).Order(ctx, item("apple"))
			checkLunch(t, err, row.code)
			if got := f.calls(); got != row.calls {
				t.Fatalf("%v: %d calls, want %d", row.code, got, row.calls)
			}
			for _, got := range f.await(t, row.calls) {
				if got != row.outcome {
					t.Errorf("%v: outcome = %v, want %v", row.code, got, row.outcome)
				}
			}
		}
	})
}

// checkLunch checks that the error is the one that fleet.failing makes, details and metadata included.
func checkLunch(t testing.TB, err error, code connect.Code) {
	t.Helper()
	var e *connect.Error
	if !errors.As(err, &e) {
		t.Fatalf("error = %v (%T), want a *connect.Error", err, err)
	}
	if got := e.Code(); got != code {
		t.Errorf("code = %v, want %v", got, code)
	}
	if got, want := e.Message(), "closed for lunch"; got != want {
		t.Errorf("message = %q, want %q", got, want)
	}
	if got, want := e.Meta().Get("Shop-Note"), "on the door"; got != want {
		t.Errorf("metadata = %q, want %q", got, want)
	}
	if len(e.Details()) != 1 {
		t.Fatalf("%d details, want 1", len(e.Details()))
	}
	detail, err := e.Details()[0].Value()
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := detail.(*shop.Item); !ok || got.Text != "back at two" {
		t.Errorf("detail = %v, want that of the shop", detail)
	}
}

func TestDeadlinesOfCallersAreTheirs(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		told := make(chan bool, 1000)
		f := start(t, w, 1, zerohop.Policy{}, func(*node) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
				h := req.Header
				told <- h.Get("Connect-Timeout-Ms") != "" || h.Get("Grpc-Timeout") != ""
				<-req.Context().Done()
			})
		})
		for len(told) == 0 { // a busy machine may not get as far in time
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_, err := f.client(opts...).Order(ctx, item("apple"))
			cancel()
			if got, want := connect.CodeOf(err), connect.CodeDeadlineExceeded; got != want {
				t.Fatalf("code = %v, want %v", got, want)
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error = %v, want one that is the context's", err)
			}
		}
		if !<-told {
			t.Error("the server was not told the deadline")
		}
	})
}

// The server hangs up at the deadline that it was told, or a hair before. Neither is its fault, if it had no time.
func TestServersThatKeepDeadlinesAreNotBlamed(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		f := start(t, w, 1, zerohop.Policy{}, func(b *node) http.Handler {
			return slow{b}.handler()
		})
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			_, err := f.client(opts...).Order(ctx, item("apple"))
			cancel()
			if got, want := connect.CodeOf(err), connect.CodeDeadlineExceeded; got != want {
				t.Errorf("code = %v, want %v (%v)", got, want, err)
			}
		}
		for _, got := range f.await(t, 5) {
			if got != resilience.Neutral && got != resilience.Success {
				t.Errorf("outcome = %v, want one that blames nobody", got)
			}
		}
	})
}

func TestCancelledCallsAreCancelled(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		ctx, cancel := context.WithCancel(t.Context())
		f := start(t, w, 1, zerohop.Policy{}, func(*node) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
				cancel()
				<-req.Context().Done()
			})
		})
		_, err := f.client(opts...).Order(ctx, item("apple"))
		if got, want := connect.CodeOf(err), connect.CodeCanceled; got != want {
			t.Errorf("code = %v, want %v", got, want)
		}
		if got := f.await(t, 1)[0]; got != resilience.Neutral {
			t.Errorf("outcome = %v, want neutral", got)
		}
	})
}

func TestErrorsOfTheMeshCanBeFound(t *testing.T) {
	everywhere(t, func(t *testing.T, w wire, opts ...connect.ClientOption) {
		f := shops(t, w, zerohop.Policy{})
		for _, b := range f.nodes {
			b.server.Close()
		}
		_, err := f.client(opts...).Order(t.Context(), item("apple"))
		if got, want := connect.CodeOf(err), connect.CodeUnavailable; got != want {
			t.Errorf("code = %v, want %v", got, want)
		}
		var e *zerohop.Error
		if !errors.As(err, &e) {
			t.Fatalf("error = %v, want a *zerohop.Error in it", err)
		}
		if e.Service != "shop" || e.Sent || len(e.Attempts) != 3 {
			t.Errorf("error = %+v, want one of shop that was not sent in 3 attempts", e)
		}
	})
}
