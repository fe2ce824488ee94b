package interop_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/interop/shop"
	"github.com/zerohop/zerohop/interop/shop/shopconnect"
)

// gateway makes REST of gRPC as the generated handlers of grpc-gateway do: prices are asked for by GET, orders are
// posted, and what is watched comes line by line.
type gateway struct {
	*runtime.ServeMux
	caller
}

func newGateway(t *testing.T, c caller) *httptest.Server {
	t.Helper()
	g := gateway{runtime.NewServeMux(), c}
	for pattern, method := range map[string]string{
		"GET /v1/prices/{text}":  shopconnect.ShopPriceProcedure,
		"POST /v1/orders/{text}": shopconnect.ShopOrderProcedure,
		"GET /v1/watches/{text}": shopconnect.ShopWatchProcedure,
	} {
		verb, path, _ := strings.Cut(pattern, " ")
		if err := g.HandlePath(verb, path, func(w http.ResponseWriter, r *http.Request, params map[string]string) {
			_, out := runtime.MarshalerForRequest(g.ServeMux, r)
			ctx, err := runtime.AnnotateContext(r.Context(), g.ServeMux, r, method, runtime.WithHTTPPathPattern(path))
			if err != nil {
				runtime.HTTPError(r.Context(), g.ServeMux, out, w, r, err)
				return
			}
			forward := g.unary
			if method == shopconnect.ShopWatchProcedure {
				forward = g.watch
			}
			forward(ctx, out, w, r, method, params["text"])
		}); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return server
}

func (g gateway) unary(ctx context.Context, out runtime.Marshaler, w http.ResponseWriter, r *http.Request, method, text string) {
	var md runtime.ServerMetadata
	answer, err := g.call(ctx, method, text, grpc.Header(&md.HeaderMD), grpc.Trailer(&md.TrailerMD))
	ctx = runtime.NewServerMetadataContext(ctx, md)
	if err != nil {
		runtime.HTTPError(ctx, g.ServeMux, out, w, r, err)
		return
	}
	runtime.ForwardResponseMessage(ctx, g.ServeMux, out, w, r, answer)
}

func (g gateway) watch(ctx context.Context, out runtime.Marshaler, w http.ResponseWriter, r *http.Request, method, text string) {
	s, err := g.stream(ctx, method)
	if err == nil {
		err = s.Send(&shop.Item{Text: text, Count: 3})
	}
	if err == nil {
		err = s.CloseSend()
	}
	var md runtime.ServerMetadata
	if err == nil {
		md.HeaderMD, err = s.Header()
	}
	ctx = runtime.NewServerMetadataContext(ctx, md)
	if err != nil {
		runtime.HTTPError(ctx, g.ServeMux, out, w, r, err)
		return
	}
	runtime.ForwardResponseStream(ctx, g.ServeMux, out, w, r, func() (proto.Message, error) { return s.Recv() })
}

// ask makes a request and returns the status and the body of the answer.
func ask(t *testing.T, g *httptest.Server, verb, path string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), verb, g.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := g.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestGatewaySurvivesANodeThatIsUnavailable(t *testing.T) {
	withGRPC(t, func(t *testing.T, f *fleet, c caller) {
		f.failing(connect.CodeUnavailable, f.nodes[0])
		g := newGateway(t, c)
		for i := 0; f.nodes[0].calls.Load() == 0; i++ {
			path := fmt.Sprint("/v1/prices/apple", i)
			code, body := ask(t, g, "GET", path)
			if code != http.StatusOK || !strings.Contains(body, fmt.Sprintf(`"apple%d"`, i)) {
				t.Errorf("GET %s = %d %s", path, code, body)
			}
		}
	})
}

// TestGatewayTellsErrors: clients of the gateway get the status and the details that the shop gave.
func TestGatewayTellsErrors(t *testing.T) {
	withGRPC(t, func(t *testing.T, f *fleet, c caller) {
		g := newGateway(t, c)
		for code, want := range map[connect.Code]int{
			connect.CodeNotFound: http.StatusNotFound, connect.CodeUnavailable: http.StatusServiceUnavailable,
			connect.CodeResourceExhausted: http.StatusTooManyRequests, connect.CodeInternal: http.StatusInternalServerError,
		} {
			f.failing(code, f.nodes...)
			before := f.calls()
			got, body := ask(t, g, "POST", "/v1/orders/apple")
			if got != want || !strings.Contains(body, "closed for lunch") || !strings.Contains(body, "back at two") {
				t.Errorf("POST with %v = %d %s, want %d", code, got, body, want)
			}
			if f.calls() != before+1 {
				t.Errorf("%v: %d calls, want 1", code, f.calls()-before)
			}
		}
	})
}

func TestGatewayStreams(t *testing.T) {
	withGRPC(t, func(t *testing.T, f *fleet, c caller) {
		g := newGateway(t, c)
		code, body := ask(t, g, "GET", "/v1/watches/apple")
		lines := 0
		for s := bufio.NewScanner(strings.NewReader(body)); s.Scan(); lines++ {
			if !strings.Contains(s.Text(), `"apple"`) {
				t.Errorf("line %q, want an apple", s.Text())
			}
		}
		if code != http.StatusOK || lines != 3 {
			t.Errorf("GET = %d with %d lines, want 200 with 3", code, lines)
		}
	})
}

func TestGatewayKeepsDeadlines(t *testing.T) {
	f := start(t, overH2C, 1, zerohop.Policy{}, func(b *node) http.Handler { return slow{b}.handler() })
	code, body := ask(t, newGateway(t, f.grpcClient(t)), "POST", "/v1/orders/apple", "Grpc-Timeout", "200m")
	if code != http.StatusGatewayTimeout {
		t.Errorf("POST = %d %s, want 504", code, body)
	}
}
