package grpcmesh

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

func TestUnaryFinishesOnce(t *testing.T) {
	fail := func(context.Context, string) error { return errUnavailable }
	for name, spoil := range map[string]func(b *bed, cancel context.CancelFunc){
		"answered":     func(*bed, context.CancelFunc) {},
		"retried":      func(b *bed, _ context.CancelFunc) { b.servers[0].do(fail); b.servers[1].do(fail) },
		"backed up":    func(b *bed, _ context.CancelFunc) { b.servers[0].do(hang); b.servers[1].do(hang) },
		"no endpoints": func(b *bed, _ context.CancelFunc) { b.source.Remove("orders") },
		"given up":     func(_ *bed, cancel context.CancelFunc) { cancel() },
		"mesh closed":  func(b *bed, _ context.CancelFunc) { b.mesh.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setUp(t, 3, zerohop.Config{Spec: unlimited})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				spoil(b, cancel)
				for range 10 {
					var finishes []error
					_, err := b.client.Say(ctx, &echopb.SayRequest{}, grpc.OnFinish(func(err error) { finishes = append(finishes, err) }))
					if len(finishes) != 1 || !errors.Is(finishes[0], err) {
						t.Errorf("Say() = %v, OnFinish got %v, want the same once", err, finishes)
					}
				}
			})
		})
	}
}

func TestFinishersLeaveOtherOptions(t *testing.T) {
	var f finishers
	first, last := grpc.WaitForReady(true), grpc.CallAuthority("other")
	finish := grpc.OnFinish(func(error) {})
	got := f.take([]grpc.CallOption{first, finish, last, finish})
	if len(got) != 2 || got[0] != first || got[1] != last || len(f) != 2 {
		t.Errorf("take() = %#v and %d finishers, want the other two options and 2", got, len(f))
	}
}
