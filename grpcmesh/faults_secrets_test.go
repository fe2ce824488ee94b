package grpcmesh_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/telemetry"
)

// canary is part of every secret of a call.
const canary = "canary-7f3a91"

// token is a credential of each RPC.
type token struct{}

func (token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + canary}, nil
}

func (token) RequireTransportSecurity() bool { return false }

// witness keeps all that is said of calls.
type witness struct {
	mu     sync.Mutex
	heard  strings.Builder
	spans  *tracetest.InMemoryExporter
	reader *metric.ManualReader
	tracer *sdktrace.TracerProvider
}

func (w *witness) say(v ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range v {
		fmt.Fprintf(&w.heard, "%+v\n", v)
	}
}

// hooks returns those of package telemetry, and adds what they were told.
func (w *witness) hooks(t *testing.T) zerohop.Hooks {
	t.Helper()
	w.spans, w.reader = tracetest.NewInMemoryExporter(), metric.NewManualReader()
	w.tracer = sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans))
	h, err := telemetry.New(telemetry.Config{
		TracerProvider: w.tracer,
		MeterProvider:  metric.NewMeterProvider(metric.WithReader(w.reader)),
		Propagator:     propagation.TraceContext{},
	})
	if err != nil {
		t.Fatal(err)
	}
	callDone, attemptDone := h.CallDone, h.AttemptDone
	h.CallDone = func(ctx context.Context, c zerohop.CallInfo, r zerohop.CallResult) {
		w.say(c, r)
		callDone(ctx, c, r)
	}
	h.AttemptDone = func(ctx context.Context, c zerohop.CallInfo, a zerohop.AttemptInfo, r zerohop.AttemptResult) {
		w.say(c, a.Number, a.Backup, r)
		if a.Node != nil {
			w.say(a.Node.Endpoint())
		}
		attemptDone(ctx, c, a, r)
	}
	return h
}

// all returns what was said, in text.
func (w *witness) all(t *testing.T) string {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := w.reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	w.say(data)
	for _, s := range w.spans.GetSpans() {
		w.say(s.Name, s.Status, s.Attributes, s.SpanContext.TraceState())
		for _, e := range s.Events {
			w.say(e.Name, e.Attributes)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard.String()
}

// failures are the ways in which a call can fail, with the code that shows that it did in that one.
var failures = map[string]struct {
	code    codes.Code
	script  script // of the server
	options zerohop.CallOptions
	before  func(t *testing.T, u *user)
	during  func(cancel context.CancelFunc)
	opts    []grpc.CallOption
	md      []string
	text    string
}{
	"unavailable":       {code: codes.Unavailable, script: only("grpc-status", "14", "x-reply", canary)},
	"overload":          {code: codes.ResourceExhausted, script: only("grpc-status", "8", "grpc-retry-pushback-ms", "1", "x-reply", canary)},
	"internal":          {code: codes.Internal, script: trailers("grpc-status", "13", "x-reply", canary)},
	"application":       {code: codes.NotFound, script: only("grpc-status", "5", "x-reply", canary)},
	"no gRPC":           {code: codes.Unavailable, script: html("503")},
	"message is none":   {code: codes.Internal, script: raw("\x00\x00\x00\x00\x0d\xff\xff"+canary[:11], "grpc-status", "0")},
	"reply too large":   {code: codes.ResourceExhausted, script: good, opts: []grpc.CallOption{grpc.MaxCallRecvMsgSize(1)}},
	"request too large": {code: codes.ResourceExhausted, script: good, opts: []grpc.CallOption{grpc.MaxCallSendMsgSize(1)}},
	"request is none":   {code: codes.Internal, script: good, text: canary + "\xff"},
	"no compressor":     {code: codes.Internal, script: good, opts: []grpc.CallOption{grpc.UseCompressor("none-such")}},
	"wrong metadata":    {code: codes.Internal, script: good, md: []string{"x-broken", canary + "\x00"}},
	"connection lost":   {code: codes.Unavailable, script: func(w *frames, _ uint32) { w.conn.Close() }},
	"stream reset":      {code: codes.Internal, script: resets(2)},
	"deadline":          {code: codes.DeadlineExceeded, script: func(*frames, uint32) {}, options: zerohop.CallOptions{Timeout: 50 * time.Millisecond}},
	"cancelled":         {code: codes.Canceled, script: func(*frames, uint32) {}, during: func(cancel context.CancelFunc) { cancel() }},
	"hung": {
		code: codes.DeadlineExceeded, script: func(*frames, uint32) {}, options: zerohop.CallOptions{AttemptTimeout: 20 * time.Millisecond},
	},
	"connection refused": {code: codes.Unavailable, script: good, before: func(t *testing.T, u *user) {
		u.become(t, "127.0.0.1:1")
		u.conn.WaitForStateChange(t.Context(), connectivity.Ready) // gRPC learns of it a moment later
	}},
	"mesh closed":       {code: codes.Canceled, script: good, before: func(_ *testing.T, u *user) { u.mesh.Close() }},
	"connection closed": {code: codes.Canceled, script: good, before: func(_ *testing.T, u *user) { u.conn.Close() }},
}

func TestSecretsStayInCalls(t *testing.T) {
	for name, tc := range failures {
		t.Run(name, func(t *testing.T) {
			var w witness
			s := frameServer(t, good)
			u := use(t, zerohop.Config{Hooks: w.hooks(t), Spec: hasty}, []string{s.addr},
				grpc.WithPerRPCCredentials(token{}))
			defer func() { _ = w.tracer.Shutdown(context.Background()) }()
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-secret", canary)
			if _, err := u.Say(ctx, &echopb.SayRequest{Text: canary}, grpc.WaitForReady(true)); err != nil {
				t.Fatal(err)
			}
			if got, want := strings.Count(s.said(), canary), 3; got != want {
				t.Fatalf("the server was told the secret %d times, want %d", got, want)
			}
			s.answer.Store(&tc.script)
			if tc.before != nil {
				tc.before(t, u)
			}
			if tc.text == "" {
				tc.text = canary
			}
			for _, kind := range []string{"say", "order", "chat"} {
				if tc.options.AttemptTimeout > 0 && kind == "chat" {
					continue // it bounds attempts that have an answer
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				ctx, report := zerohop.WithReport(zerohop.WithCall(ctx, tc.options))
				ctx = metadata.AppendToOutgoingContext(ctx, append(tc.md, "x-secret", canary, "cookie", "session="+canary)...)
				if tc.during != nil {
					wait := time.AfterFunc(20*time.Millisecond, func() { tc.during(cancel) })
					defer wait.Stop()
				}
				err := u.attempt(ctx, kind, &echopb.SayRequest{Text: tc.text}, tc.opts)
				if got := status.Code(err); got != tc.code && (err != nil || kind != "chat") {
					t.Errorf("%s: %v, want %v", kind, err, tc.code)
				}
				w.say(err, status.Convert(err), report.Calls())
			}
			got := w.all(t)
			for line := range strings.Lines(got) {
				if strings.Contains(line, canary) || strings.Contains(line, canary[:11]) {
					t.Errorf("a secret is in %q", line)
				}
			}
			// They would have been found.
			for _, want := range []string{"/zerohop.echo.v1.Echo/Say", "Service:orders", "zerohop.call.duration", tc.code.String()} {
				if !strings.Contains(got, want) {
					t.Errorf("nothing was said of %q", want)
				}
			}
		})
	}
}

// attempt makes one call to its end.
func (u *user) attempt(ctx context.Context, kind string, r *echopb.SayRequest, opts []grpc.CallOption) error {
	switch kind {
	case "say":
		_, err := u.Say(ctx, r, opts...)
		return err
	case "order":
		_, err := u.Order(ctx, r, opts...)
		return err
	}
	stream, err := u.Chat(ctx, opts...)
	if err != nil {
		return err
	}
	if err := stream.Send(r); err == nil {
		_ = stream.CloseSend()
	} else if status.Code(err) != codes.Unknown { // else it is io.EOF, and Recv tells
		return err
	}
	for {
		if _, err := stream.Recv(); err != nil {
			if status.Code(err) == codes.Unknown {
				return nil // the end
			}
			return err
		}
	}
}
