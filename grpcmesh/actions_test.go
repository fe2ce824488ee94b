package grpcmesh

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/routing"
)

// inbox is the metadata that servers got, one each call.
type inbox struct {
	mu   sync.Mutex
	list []metadata.MD
}

func (s *inbox) note(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, md)
}

func (s *inbox) all() []metadata.MD {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list
}

// setUpActions makes a bed of two services, orders at 10.0.0.1 and .2 and archive at 10.0.1.1, whose servers note what they get
// and send a header.
func setUpActions(t *testing.T, spec zerohop.Spec) (b *bed, orders, archive *inbox) {
	t.Helper()
	orders, archive = &inbox{}, &inbox{}
	b = setUp(t, 2, zerohop.Config{Spec: spec})
	add := func(s *server, to *inbox) {
		f := func(ctx context.Context, _ string, stream echopb.Echo_ChatServer) error {
			if stream != nil {
				ctx = stream.Context()
			}
			to.note(ctx)
			if err := grpc.SetHeader(ctx, metadata.Pairs("x-server", s.name, "x-old", "1")); err != nil || stream == nil {
				return err
			}
			return s.echo(stream)
		}
		s.behave.Store(&f)
	}
	b.servers = append(b.servers, b.serve(t, "10.0.1.1:80"))
	add(b.servers[0], orders)
	add(b.servers[1], orders)
	add(b.servers[2], archive)
	eps := endpoints("10.0.0.1:80", "10.0.0.2:80")
	eps[0].Meta, eps[1].Meta = map[string]string{"version": "1"}, map[string]string{"version": "2"}
	b.source.Set("orders", eps...)
	b.source.Set("archive", endpoints("10.0.1.1:80")...)
	time.Sleep(time.Second) // until all are connected
	return b, orders, archive
}

func rule(r routing.Rule) zerohop.Spec {
	r.Name, r.Match.Service = "r", "orders"
	return zerohop.Spec{Defaults: zerohop.Policy{Idempotent: zerohop.On}, Routes: []routing.Rule{r}}
}

// ask makes a unary call and returns its header.
func (b *bed) ask(ctx context.Context, opts ...grpc.CallOption) (*echopb.SayReply, metadata.MD, error) {
	var header metadata.MD
	r, err := b.client.Say(ctx, &echopb.SayRequest{Text: "hello"}, append(opts, grpc.Header(&header))...)
	return r, header, err
}

// converse makes a stream of one message and returns its header.
func (b *bed) converse(ctx context.Context, opts ...grpc.CallOption) (*echopb.SayReply, metadata.MD, error) {
	s, err := b.client.Chat(ctx, opts...)
	if err != nil {
		return nil, nil, err
	}
	if err := s.Send(&echopb.SayRequest{Text: "hello"}); err != nil {
		return nil, nil, err
	}
	r, err := s.Recv()
	if err != nil {
		return nil, nil, err
	}
	if err := s.CloseSend(); err != nil {
		return nil, nil, err
	}
	md, err := s.Header()
	if _, end := s.Recv(); !errors.Is(end, io.EOF) {
		return nil, nil, end
	}
	return r, md, err
}

var rewrite = routing.Rewrite{
	Host:     "orders.internal",
	Request:  routing.Headers{Remove: []string{"X-Gone"}, Set: map[string]string{"X-Set": "s"}, Add: map[string]string{"X-Add": "a"}},
	Response: routing.Headers{Remove: []string{"X-Old"}, Set: map[string]string{"X-New": "n"}},
}

func TestRoutesRewriteMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, orders, _ := setUpActions(t, rule(routing.Rule{Rewrite: rewrite, Backends: []routing.Backend{
			{Service: "orders", Headers: routing.Headers{Add: map[string]string{"X-Add": "b"}}},
		}}))
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-gone", "1", "x-set", "1", "x-set", "2", "x-add", "0", "authorization", "secret")
		for name, call := range map[string]func(context.Context, ...grpc.CallOption) (*echopb.SayReply, metadata.MD, error){"unary": b.ask, "stream": b.converse} {
			_, header, err := call(ctx)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := strings.Join(header.Get("x-old"), ",") + "|" + strings.Join(header.Get("x-new"), ","); got != "|n" {
				t.Errorf("%s: header = %v, want x-new and no x-old", name, header)
			}
			list := orders.all()
			md := list[len(list)-1]
			for key, want := range map[string]string{
				"x-gone": "", "x-set": "s", "x-add": "0,a,b", "authorization": "secret", ":authority": "orders.internal",
			} {
				if got := strings.Join(md.Get(key), ","); got != want {
					t.Errorf("%s: %s = %q, want %q", name, key, got, want)
				}
			}
		}
		if got, _ := metadata.FromOutgoingContext(ctx); len(got.Get("x-add")) != 1 {
			t.Errorf("the metadata of the caller has changed: %v", got)
		}
	})
}

// Each attempt, be it a retry or a backup, starts from what the caller gave.
func TestAttemptsAreRewrittenOnce(t *testing.T) {
	for name, first := range map[string]func(context.Context) error{
		"retry":  func(context.Context) error { return status.Error(codes.Unavailable, "again") },
		"backup": func(ctx context.Context) error { return hang(ctx, "") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, orders, _ := setUpActions(t, rule(routing.Rule{Rewrite: rewrite}))
				for _, s := range b.servers[:2] {
					s.do(func(ctx context.Context, _ string) error {
						if orders.note(ctx); len(orders.all()) == 1 {
							return first(ctx)
						}
						return grpc.SetHeader(ctx, metadata.Pairs("x-old", "1"))
					})
				}
				_, header, err := b.ask(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if got := header.Get("x-new"); len(got) != 1 || len(header.Get("x-old")) > 0 {
					t.Errorf("header = %v, want one x-new and no x-old", header)
				}
				list := orders.all()
				if len(list) != 2 {
					t.Errorf("%d attempts, want 2", len(list))
				}
				for i, md := range list {
					if got := md.Get("x-add"); len(got) != 1 {
						t.Errorf("attempt %d: x-add = %q, want it once", i, got)
					}
				}
			})
		})
	}
}

// token proves a caller by an option of the call.
type token struct{}

func (token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "of the call"}, nil
}

func (token) RequireTransportSecurity() bool { return false }

var _ credentials.PerRPCCredentials = token{}

func TestCredentialsStayWithTheServiceThatTheyAreFor(t *testing.T) {
	for _, tt := range []struct {
		backend routing.Backend
		want    string
	}{
		{routing.Backend{Service: "archive"}, "||"},
		{routing.Backend{Service: "archive", Credentials: true}, "of the call,secret|c|p"},
		{routing.Backend{Service: "orders"}, "of the call,secret|c|p"},
		{routing.Backend{Service: "archive", Headers: routing.Headers{Set: map[string]string{"Authorization": "own"}}}, "own||"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, orders, archive := setUpActions(t, rule(routing.Rule{Backends: []routing.Backend{tt.backend}}))
			ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "secret", "cookie", "c", "proxy-authorization", "p")
			for range 2 {
				if _, _, err := b.ask(ctx, grpc.PerRPCCredentials(token{})); err != nil {
					t.Fatal(err)
				}
				if _, _, err := b.converse(ctx, grpc.PerRPCCredentials(token{})); err != nil {
					t.Fatal(err)
				}
			}
			list := append(orders.all(), archive.all()...)
			if len(list) != 4 {
				t.Fatalf("%d calls came to servers, want 4", len(list))
			}
			for _, md := range list {
				got := strings.Join(md.Get("authorization"), ",") + "|" + strings.Join(md.Get("cookie"), ",") + "|" + strings.Join(md.Get("proxy-authorization"), ",")
				if got != tt.want {
					t.Errorf("%+v: credentials = %q, want %q", tt.backend, got, tt.want)
				}
			}
		})
	}
}

func TestFaultsAndResponsesOfRPCs(t *testing.T) {
	for _, tt := range []struct {
		name    string
		rule    routing.Rule
		code    codes.Code
		message string
		header  string
		after   time.Duration
	}{
		{"abort", routing.Rule{Fault: routing.Fault{Abort: 503}}, codes.Unavailable, "by route", "zerohop-fault", 0},
		{"abort with a code", routing.Rule{Fault: routing.Fault{Abort: 503, AbortCode: 8}}, codes.ResourceExhausted, "by route", "zerohop-fault", 0},
		{"delay", routing.Rule{Fault: routing.Fault{Delay: time.Second}}, codes.OK, "", "x-server", time.Second},
		{"response", routing.Rule{Response: &routing.Response{Status: 404, Body: "gone", Headers: map[string]string{"X-Why": "moved"}}}, codes.Unimplemented, "gone", "x-why", 0},
		{"response with a code", routing.Rule{Response: &routing.Response{Status: 404, Code: 5}}, codes.NotFound, "", "", 0},
		{"path", routing.Rule{Rewrite: routing.Rewrite{Path: routing.PathRewrite{Full: "/x"}}}, codes.Internal, "path", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, orders, _ := setUpActions(t, rule(tt.rule))
				for name, call := range map[string]func(context.Context, ...grpc.CallOption) (*echopb.SayReply, metadata.MD, error){"unary": b.ask, "stream": b.converse} {
					start := time.Now()
					_, header, err := call(t.Context())
					if status.Code(err) != tt.code || !strings.Contains(status.Convert(err).Message(), tt.message) {
						t.Errorf("%s: error = %v, want %v with %q", name, err, tt.code, tt.message)
					}
					if took := time.Since(start); took != tt.after {
						t.Errorf("%s took %v, want %v", name, took, tt.after)
					}
					if name == "unary" && tt.header != "" && len(header.Get(tt.header)) != 1 {
						t.Errorf("header = %v, want %s", header, tt.header)
					}
				}
				if n := len(orders.all()); (n > 0) != (tt.code == codes.OK) {
					t.Errorf("%d calls came to servers", n)
				}
			})
		})
	}
}

func TestUnaryCallsAreMirrored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, orders, archive := setUpActions(t, rule(routing.Rule{
			Rewrite: routing.Rewrite{Request: routing.Headers{Add: map[string]string{"X-Add": "a"}}},
			Mirrors: []routing.Mirror{{Service: "archive", MaxBody: 100}},
		}))
		var texts []string
		var mu sync.Mutex
		b.servers[2].do(func(ctx context.Context, text string) error {
			archive.note(ctx)
			mu.Lock()
			defer mu.Unlock()
			texts = append(texts, text)
			return status.Error(codes.Unavailable, "not repeated")
		})
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "secret", "x-user", "u")
		ctx = zerohop.WithLane(ctx, "x")
		req := &echopb.SayRequest{Text: "hello"}
		if r, err := b.client.Say(ctx, req, grpc.PerRPCCredentials(token{})); err != nil || !strings.HasPrefix(r.Node, "10.0.0.") {
			t.Fatalf("answer %v, %v", r, err)
		}
		req.Text = "changed" // which the caller may do
		synctest.Wait()
		list := archive.all()
		if len(list) != 1 || len(orders.all()) != 1 || texts[0] != "hello" {
			t.Fatalf("%d calls and %d copies (%q), want one each", len(orders.all()), len(list), texts)
		}
		for key, want := range map[string]string{"authorization": "", "x-user": "u", "x-add": "a", "zerohop-mirror": "1", "baggage": "zerohop-lane=x"} {
			if got := strings.Join(list[0].Get(key), ","); got != want {
				t.Errorf("copy: %s = %q, want %q", key, got, want)
			}
		}
		// What is too large is not, and streams are not.
		if _, err := b.client.Say(ctx, &echopb.SayRequest{Text: strings.Repeat("x", 100)}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.converse(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(archive.all()); n != 1 {
			t.Errorf("%d copies, want 1", n)
		}
	})
}

func TestSlowMirrorsHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, archive := setUpActions(t, rule(routing.Rule{Mirrors: []routing.Mirror{{Service: "archive", MaxInFlight: 3, Timeout: time.Minute}}}))
		b.servers[2].do(func(ctx context.Context, _ string) error {
			archive.note(ctx)
			return hang(ctx, "")
		})
		start := time.Now()
		for range 10 {
			if _, _, err := b.ask(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if took := time.Since(start); took > 0 || len(archive.all()) != 3 {
			t.Errorf("10 calls took %v, with %d copies, want none and 3", took, len(archive.all()))
		}
		time.Sleep(2 * time.Minute)
		if _, _, err := b.ask(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(archive.all()); n != 4 {
			t.Errorf("%d copies after the first ones timed out, want 4", n)
		}
	})
}

// Two backends are parts of one service, a third is another one, on one connection.
func TestBackendsSelectAndShareOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := zerohop.Spec{Routes: []routing.Rule{
			{
				Match:    routing.Match{Service: "orders", Headers: []routing.Field{{Name: "x-to", Value: "archive"}}},
				Backends: []routing.Backend{{Service: "archive"}},
			},
			{
				Match:    routing.Match{Service: "orders", Headers: []routing.Field{{Name: "x-to", Value: "none"}}},
				Backends: []routing.Backend{{Service: "orders", Select: map[string]string{"version": "9"}}},
			},
			{Match: routing.Match{Service: "orders"}, Backends: []routing.Backend{
				{Service: "orders", Weight: 1, Select: map[string]string{"version": "1"}},
				{Service: "orders", Weight: 3, Select: map[string]string{"version": "2"}},
			}},
		}}
		b, _, _ := setUpActions(t, spec)
		nodes := map[string]int{}
		for range 400 {
			r, _, err := b.ask(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			nodes[r.Node]++
		}
		if n := nodes["10.0.0.1:80"]; n < 60 || n > 140 || nodes["10.0.0.2:80"] != 400-n {
			t.Errorf("calls by node: %v, want a quarter for version 1", nodes)
		}
		to := func(v string) context.Context { return metadata.AppendToOutgoingContext(t.Context(), "x-to", v) }
		if r, _, err := b.converse(to("archive")); err != nil || r.Node != "10.0.1.1:80" {
			t.Errorf("a stream for the archive is answered by %v, %v", r, err)
		}
		if _, _, err := b.ask(to("none")); status.Code(err) != codes.Unavailable {
			t.Errorf("error without an endpoint that is selected = %v, want Unavailable", err)
		}
	})
}
