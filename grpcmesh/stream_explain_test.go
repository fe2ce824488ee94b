package grpcmesh

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// The error of a stream that breaks off is that of gRPC, and explains itself, be the stream one that may be repeated or not.
func TestStreamsThatBreakOffAreExplained(t *testing.T) {
	once := repeatable
	once.Defaults.Idempotent = zerohop.Inherit
	for name, spec := range map[string]zerohop.Spec{"repeatable": repeatable, "not repeatable": once} {
		for _, tc := range []struct {
			name   string
			begins func(s grpc.ServerStream) error
			code   codes.Code
			flag   zerohop.Flag // empty if the call did not fail
		}{
			{"at once", nil, codes.Internal, zerohop.FlagStatus},
			{"after headers", func(s grpc.ServerStream) error { return s.SendHeader(nil) }, codes.Internal, zerohop.FlagStatus},
			{"after a message", func(s grpc.ServerStream) error { return s.SendMsg(say("x")) }, codes.Internal, zerohop.FlagStatus},
			{"application", func(s grpc.ServerStream) error { return s.SendMsg(say("x")) }, codes.NotFound, ""},
			{"end", func(s grpc.ServerStream) error { return s.SendMsg(say("x")) }, codes.OK, ""},
		} {
			t.Run(name+"/"+tc.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := setUpStreams(t, 1, zerohop.Config{Spec: spec}, func(_ string, s grpc.ServerStream) error {
						if tc.begins != nil {
							if err := tc.begins(s); err != nil {
								return err
							}
						}
						return status.Error(tc.code, "no")
					})
					s, err := b.conn.NewStream(t.Context(), &bidi, "/orders.Orders/Any")
					for err == nil {
						err = s.RecvMsg(&echopb.SayRequest{})
					}
					if tc.code == codes.OK && err != io.EOF || tc.code != codes.OK && status.Code(err) != tc.code {
						t.Errorf("the stream ended with %v, want %v", err, tc.code)
					}
					e := zerohop.Explain(fmt.Errorf("in other words: %w", err))
					if (e != nil) != (tc.flag != "") {
						t.Fatalf("%v is explained by %v", err, e)
					}
					if e == nil {
						return
					}
					if e.Flag != tc.flag || e.N != 1 || e.Tries[0].Addr != "10.0.0.1:80" || e.Tries[0].Flag != tc.flag {
						t.Errorf("flag %s, want %s\n%v", e.Flag, tc.flag, e)
					}
					if again := s.RecvMsg(&echopb.SayRequest{}); status.Code(again) != tc.code {
						t.Errorf("the error is %v the second time", again)
					}
					if s, ok := status.FromError(err); !ok || s.Code() != tc.code || errors.Unwrap(err) == nil {
						t.Errorf("%v has no status", err)
					}
				})
			})
		}
	}
}
