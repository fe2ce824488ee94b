package grpcmesh

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/resilience"
)

func TestCallsTellHowCriticalTheyAre(t *testing.T) {
	for _, tt := range []struct {
		name   string
		call   resilience.Criticality
		policy zerohop.Policy
		stale  string
		want   string
	}{
		{"by default", 0, zerohop.Policy{}, "", "-"},
		{"by the call", resilience.Sheddable, zerohop.Policy{}, "critical-plus", "sheddable"},
		{"by the policy", 0, zerohop.Policy{Criticality: resilience.CriticalPlus}, "", "critical-plus"},
		{"stale metadata", 0, zerohop.Policy{}, "sheddable", "-"},
		{"not to be told", resilience.Sheddable, zerohop.Policy{Propagate: zerohop.Off}, "x", "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setUp(t, 1, zerohop.Config{Spec: zerohop.Spec{Defaults: tt.policy}})
				b.warm(t)
				told := func(ctx context.Context) string {
					v := metadata.ValueFromIncomingContext(ctx, criticalityKey)
					if v == nil {
						return "-"
					}
					return strings.Join(v, ",")
				}
				var unary, stream string
				behave := func(ctx context.Context, _ string, s echopb.Echo_ChatServer) error {
					if s == nil {
						unary = told(ctx)
					} else {
						stream = told(ctx)
					}
					return nil
				}
				b.servers[0].behave.Store(&behave)
				ctx := zerohop.WithCall(t.Context(), zerohop.CallOptions{Criticality: tt.call})
				if tt.stale != "" {
					ctx = metadata.AppendToOutgoingContext(ctx, criticalityKey, tt.stale)
				}
				if _, err := b.client.Say(ctx, &echopb.SayRequest{}); err != nil {
					t.Fatal(err)
				}
				chat, err := b.client.Chat(ctx)
				if err != nil {
					t.Fatal(err)
				}
				chat.Recv()
				if unary != tt.want || stream != tt.want {
					t.Errorf("the server was told %q and, of a stream, %q, want %q", unary, stream, tt.want)
				}
			})
		})
	}
}

func TestServerKnowsHowCriticalCallsAre(t *testing.T) {
	for _, tt := range []struct {
		values []string
		most   resilience.Criticality
		want   resilience.Criticality
	}{
		{nil, 0, 0},
		{[]string{"sheddable"}, 0, resilience.Sheddable},
		{[]string{"critical-plus"}, 0, resilience.Critical},
		{[]string{"critical-plus"}, resilience.CriticalPlus, resilience.CriticalPlus},
		{[]string{"critical"}, resilience.SheddablePlus, resilience.SheddablePlus},
		{[]string{"sheddable", "sheddable"}, 0, 0},
		{[]string{"1"}, 0, 0},
		{[]string{""}, 0, 0},
	} {
		var pairs []string
		for _, v := range tt.values {
			pairs = append(pairs, criticalityKey, v)
		}
		s := &Server{MaxCriticality: tt.most}
		in, err := s.admit(inbound(t.Context(), pairs...), "")
		if err != nil || in.Criticality != tt.want {
			t.Errorf("a call with %q, up to %v, is %v, %v, want %v", tt.values, tt.most, in.Criticality, err, tt.want)
		}
	}
}

// Nobody gets above what the server allows, and nonsense says nothing.
func FuzzCriticality(f *testing.F) {
	f.Add("sheddable", "", uint8(0))
	f.Add("critical-plus", "sheddable", uint8(4))
	f.Add("critical\x00", "", uint8(3))
	f.Fuzz(func(t *testing.T, one, two string, most uint8) {
		limit := resilience.Criticality(most % 5)
		pairs := []string{criticalityKey, one}
		if two != "" {
			pairs = append(pairs, criticalityKey, two)
		}
		got := criticalityOf(inbound(t.Context(), pairs...), limit)
		if got > limit.Or(resilience.Critical) {
			t.Errorf("criticality = %v, above %v", got, limit)
		}
		if c, ok := resilience.ParseCriticality(one); got != resilience.Unspecified && (two != "" || !ok || got > c) {
			t.Errorf("criticality of %q = %v", pairs, got)
		}
	})
}
