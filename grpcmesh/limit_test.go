package grpcmesh

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/resilience"
)

// RPCs that the limit of calls or those of all endpoints refuse say so, and their places come back.
func TestLimitsRefuseRPCs(t *testing.T) {
	for _, c := range []struct {
		stage  zerohop.Stage
		policy zerohop.Policy
	}{
		{zerohop.StageLimit, zerohop.Policy{Limit: zerohop.Limit{Mode: zerohop.On, Max: 2}}},
		{zerohop.StageEndpointLimit, zerohop.Policy{EndpointLimit: zerohop.EndpointLimit{Mode: zerohop.On, Algorithm: "fixed", Max: 1}}},
	} {
		t.Run(string(c.stage), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []zerohop.Refusal
				b := setUp(t, 2, zerohop.Config{Spec: zerohop.Spec{Defaults: c.policy}, Hooks: zerohop.Hooks{
					Refused: func(_ context.Context, _ zerohop.CallInfo, r zerohop.Refusal) { told = append(told, r) },
				}})
				b.warm(t)
				told = nil
				hold := make(chan struct{})
				for _, s := range b.servers {
					s.do(func(context.Context, string) error { <-hold; return nil })
				}
				var all sync.WaitGroup
				for range 2 {
					all.Go(func() {
						if _, err := b.client.Say(t.Context(), &echopb.SayRequest{}); err != nil {
							t.Error(err)
						}
					})
				}
				synctest.Wait()
				_, err := b.client.Say(t.Context(), &echopb.SayRequest{})
				var e *zerohop.Error
				if status.Code(err) != codes.ResourceExhausted || !errors.As(err, &e) || e.Reason != zerohop.Limited || !errors.Is(err, resilience.ErrLimited) || e.Sent {
					t.Errorf("error = %v, want that the call is limited", err)
				}
				if len(told) != 1 || told[0].Stage != c.stage {
					t.Errorf("Hooks.Refused got %+v, want one refusal by %s", told, c.stage)
				}
				close(hold)
				all.Wait()
				if _, err := b.client.Say(t.Context(), &echopb.SayRequest{}); err != nil {
					t.Errorf("RPC with nothing in flight: %v", err)
				}
				b.idle(t)
			})
		})
	}
}
