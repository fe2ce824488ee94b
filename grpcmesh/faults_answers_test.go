package grpcmesh_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/resilience"
)

// answers are those that a server should not give, and what becomes of a call that gets one.
var answers = map[string]struct {
	script  script
	code    codes.Code
	outcome resilience.Outcome
	// elsewhere says that a call that may be repeated is.
	elsewhere bool
}{
	"unknown code":              {only("grpc-status", "99"), 99, resilience.Success, false},
	"negative code":             {only("grpc-status", "-1"), 1<<32 - 1, resilience.Success, false},
	"code that is no number":    {only("grpc-status", "banana"), codes.Unknown, resilience.Success, false},
	"empty code":                {only("grpc-status", ""), codes.Unknown, resilience.Success, false},
	"code out of range":         {only("grpc-status", "99999999999"), codes.Unknown, resilience.Success, false},
	"two codes":                 {only("grpc-status", "14", "grpc-status", "5"), codes.NotFound, resilience.Success, false},
	"no code":                   {trailers("x", "y"), codes.Unknown, resilience.Success, false},
	"no code at all":            {only(), codes.Unknown, resilience.Success, false},
	"code in words after reply": {trailers("grpc-status", "OK"), codes.Unknown, resilience.Success, false},
	"broken escapes":            {only("grpc-status", "13", "grpc-message", "%zz%%e"), codes.Internal, resilience.Failure, false},
	// gRPC tells nobody that it was the server who made this of its call.
	"characters that are forbidden": {only("grpc-status", "0", "x", "\x7f"), codes.Internal, resilience.Neutral, false},
	"broken binary trailer":         {only("grpc-status", "0", "x-bin", "!"), codes.Internal, resilience.Failure, false},
	"broken details":                {only("grpc-status", "14", "grpc-status-details-bin", base64.RawStdEncoding.EncodeToString([]byte("\xff\xff\xff"))), codes.Unavailable, resilience.Failure, true},
	"details of another code":       {only("grpc-status", "14", "grpc-status-details-bin", "CAU"), codes.Internal, resilience.Failure, false},
	"no message":                    {only("grpc-status", "0"), codes.Internal, resilience.Failure, false},
	// gRPC does not say that anything was received here, either.
	"two messages":               {func(w *frames, s uint32) { w.begin(s); w.reply(s); w.reply(s); w.headers(s, true, "grpc-status", "0") }, codes.Internal, resilience.Neutral, false},
	"message that is none":       {raw("\x00\x00\x00\x00\x03\xff\xff\xff", "grpc-status", "0"), codes.Internal, resilience.Failure, false},
	"message cut short":          {raw("\x00\x00\x00\x00\x09abc", "grpc-status", "0"), codes.Internal, resilience.Failure, false},
	"message of 4 GiB":           {raw("\x00\xff\xff\xff\xff", "grpc-status", "0"), codes.ResourceExhausted, resilience.Success, false},
	"compressed with nothing":    {raw("\x01\x00\x00\x00\x03abc", "grpc-status", "0"), codes.Internal, resilience.Failure, false},
	"unknown kind of message":    {raw("\x07\x00\x00\x00\x03abc", "grpc-status", "0"), codes.Internal, resilience.Failure, false},
	"data before headers":        {func(w *frames, s uint32) { w.reply(s); w.headers(s, true, "grpc-status", "0") }, codes.Internal, resilience.Failure, false},
	"headers without end":        {func(w *frames, s uint32) { w.begin(s); w.begin(s) }, codes.Internal, resilience.Failure, false},
	"end without trailers":       {func(w *frames, s uint32) { w.begin(s); _ = w.WriteData(s, true, nil) }, codes.Internal, resilience.Failure, false},
	"no status of HTTP":          {func(w *frames, s uint32) { w.headers(s, true, "x", "y") }, codes.Internal, resilience.Failure, false},
	"status of HTTP in words":    {func(w *frames, s uint32) { w.headers(s, true, ":status", "fine") }, codes.Internal, resilience.Failure, false},
	"informational end":          {func(w *frames, s uint32) { w.headers(s, true, ":status", "103") }, codes.Internal, resilience.Failure, false},
	"HTTP 200":                   {html("200"), codes.Unknown, resilience.Success, false},
	"HTTP 400":                   {html("400"), codes.Internal, resilience.Failure, false},
	"HTTP 401":                   {html("401"), codes.Unauthenticated, resilience.Success, false},
	"HTTP 403":                   {html("403"), codes.PermissionDenied, resilience.Success, false},
	"HTTP 404":                   {html("404"), codes.Unimplemented, resilience.Success, false},
	"HTTP 429":                   {html("429"), codes.Unavailable, resilience.Failure, true},
	"HTTP 500":                   {html("500"), codes.Unknown, resilience.Success, false},
	"HTTP 502":                   {html("502"), codes.Unavailable, resilience.Failure, true},
	"HTTP 503":                   {html("503"), codes.Unavailable, resilience.Failure, true},
	"HTTP 504":                   {html("504"), codes.Unavailable, resilience.Failure, true},
	"HTTP 999":                   {html("999"), codes.Unknown, resilience.Success, false},
	"more headers than agreed":   {only(many("grpc-status", "0")...), codes.Internal, resilience.Failure, false},
	"more trailers than agreed":  {trailers(many("grpc-status", "0")...), codes.Internal, resilience.Failure, false},
	"header larger than agreed":  {only("grpc-status", "0", "x", strings.Repeat("x", 64<<10)), codes.Unavailable, resilience.Failure, true},
	"trailer larger than agreed": {trailers("grpc-status", "0", "x", strings.Repeat("x", 64<<10)), codes.Unavailable, resilience.Failure, true},
	"reset, no error":            {resets(http2.ErrCodeNo), codes.Internal, resilience.Failure, false},
	"reset, protocol":            {resets(http2.ErrCodeProtocol), codes.Internal, resilience.Failure, false},
	"reset, cancelled":           {resets(http2.ErrCodeCancel), codes.Canceled, resilience.Neutral, false},
	"reset, too much":            {resets(http2.ErrCodeEnhanceYourCalm), codes.ResourceExhausted, resilience.Overload, false},
	"reset, unknown code":        {resets(12345), codes.Unknown, resilience.Success, false},
	"garbage":                    {func(w *frames, _ uint32) { _, _ = w.conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, codes.Unavailable, resilience.Failure, true},
	"end of connection":          {func(w *frames, _ uint32) { _ = w.conn.Close() }, codes.Unavailable, resilience.Failure, true},
}

// many returns the fields and a thousand others.
func many(fields ...string) []string {
	for i := range 1000 {
		fields = append(fields, fmt.Sprint("x-", i), "some value")
	}
	return fields
}

// outcomes are those of attempts, as hooks see them.
type outcomes struct {
	mu   sync.Mutex
	list []resilience.Outcome
}

func (o *outcomes) hooks() zerohop.Hooks {
	return zerohop.Hooks{
		AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.list = append(o.list, r.Outcome)
		},
	}
}

func TestWrongAnswersEndCalls(t *testing.T) {
	for name, tc := range answers {
		t.Run(name, func(t *testing.T) {
			s := frameServer(t, good)
			var o outcomes
			u := use(t, zerohop.Config{Hooks: o.hooks()}, []string{s.addr}, grpc.WithMaxHeaderListSize(16<<10))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := u.Order(ctx, &echopb.SayRequest{}, grpc.WaitForReady(true)); err != nil {
				t.Fatal(err)
			}
			s.answer.Store(&tc.script)
			_, err := u.Order(ctx, &echopb.SayRequest{})
			if got := status.Code(err); got != tc.code {
				t.Errorf("Order() = %v, want %v", err, tc.code)
			}
			var e *zerohop.Error
			if errors.As(err, &e) && (!e.Sent || len(e.Attempts) != 1) {
				t.Errorf("sent = %v after %d attempts, want true after one", e.Sent, len(e.Attempts))
			}
			if got := s.calls.Load(); got != 2 {
				t.Errorf("the server saw %d calls, want 2", got)
			}
			o.mu.Lock()
			if got := o.list[len(o.list)-1]; len(o.list) != 2 || got != tc.outcome {
				t.Errorf("outcomes = %v, want %v last of two: %v", o.list, tc.outcome, err)
			}
			o.mu.Unlock()
			u.idle(t)
			// The node is as good as ever when its answers are.
			back := script(good)
			s.answer.Store(&back)
			if _, err := u.Order(ctx, &echopb.SayRequest{}, grpc.WaitForReady(true)); err != nil {
				t.Errorf("Order() of a good server = %v", err)
			}
			u.idle(t)
		})
	}
}

func TestWrongAnswersAreRepeatedWhereThatHelps(t *testing.T) {
	for name, tc := range answers {
		t.Run(name, func(t *testing.T) {
			bad, fine := frameServer(t, good), frameServer(t, good)
			u := use(t, zerohop.Config{Spec: hasty}, []string{bad.addr, fine.addr}, grpc.WithMaxHeaderListSize(16<<10))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			ctx = zerohop.WithCall(ctx, zerohop.CallOptions{Backup: zerohop.Off}) // it would go to the good one, too
			for bad.calls.Load() == 0 || fine.calls.Load() == 0 {                 // until both are connected
				if _, err := u.Say(ctx, &echopb.SayRequest{}, grpc.WaitForReady(true)); err != nil {
					t.Fatal(err)
				}
			}
			bad.answer.Store(&tc.script)
			want := tc.code
			if tc.elsewhere {
				want = codes.OK
			}
			for before := bad.calls.Load(); bad.calls.Load() == before; {
				_, err := u.Say(ctx, &echopb.SayRequest{})
				if got := status.Code(err); got != want && (err != nil || bad.calls.Load() > before) {
					t.Fatalf("Say() = %v, want %v", err, want)
				}
			}
			u.idle(t)
		})
	}
}

func TestWrongAnswersEndStreams(t *testing.T) {
	for name, tc := range answers {
		t.Run(name, func(t *testing.T) {
			s := frameServer(t, tc.script)
			u := use(t, zerohop.Config{}, []string{s.addr}, grpc.WithMaxHeaderListSize(16<<10))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			stream, err := u.Chat(ctx, grpc.WaitForReady(true))
			if err == nil {
				err = stream.CloseSend()
			}
			for err == nil {
				_, err = stream.Recv()
			}
			// What is wrong with unary calls only is right here.
			if got := status.Code(err); got != tc.code && !errors.Is(err, io.EOF) {
				t.Errorf("Recv() = %v, want %v", err, tc.code)
			}
			u.idle(t)
		})
	}
}
