package telemetry

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

const someParent = "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01"

func TestExtractReadsTraceAndBaggage(t *testing.T) {
	h := http.Header{}
	h.Set("Traceparent", someParent)
	h.Add("Baggage", "a=1,b=2")
	h.Add("Baggage", "c=3")
	for name, values := range map[string]func(string) []string{
		"http": h.Values,
		"grpc": metadata.Pairs("traceparent", someParent, "baggage", "a=1,b=2", "baggage", "c=3").Get,
	} {
		ctx := Extract(t.Context(), propagator, values)
		sc := trace.SpanContextFromContext(ctx)
		if got, want := "00-"+sc.TraceID().String()+"-"+sc.SpanID().String()+"-01", someParent; got != want || !sc.IsRemote() {
			t.Errorf("%s: trace = %s, remote %t, want %s", name, got, sc.IsRemote(), want)
		}
		bag := baggage.FromContext(ctx)
		if got, want := bag.Member("a").Value()+bag.Member("b").Value()+bag.Member("c").Value(), "123"; got != want {
			t.Errorf("%s: baggage = %q, want %q", name, got, want)
		}
	}
}

func TestExtractIsLimited(t *testing.T) {
	many := func(n int) []string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("k%d=v", i))
		}
		return list
	}
	for _, row := range []struct {
		name   string
		values []string
		want   int // members
	}{
		{"none", nil, 0},
		{"64", []string{strings.Join(many(64), ",")}, 64},
		{"65", []string{strings.Join(many(65), ",")}, 64},
		{"65 headers", many(65), 64},
		{"1,000,000 empty members", []string{strings.Repeat(",", 8000) + "k=v"}, 0},
		{"8 KiB", []string{"k=" + strings.Repeat("v", maxHeader-2)}, 1},
		{"8 KiB and a byte", []string{"k=" + strings.Repeat("v", maxHeader-1)}, 0},
		{"8 KiB and a byte in two", []string{"k=" + strings.Repeat("v", maxHeader-5), "a=1"}, 0},
		{"1 MiB", []string{strings.Repeat("k=v,", 1<<18)}, 0},
		{"not valid", []string{"k=\xff,\x00=1,good=1"}, 1},
	} {
		ctx := Extract(t.Context(), propagator, func(key string) []string {
			if key == "baggage" {
				return row.values
			}
			return nil
		})
		if got := baggage.FromContext(ctx).Len(); got != row.want {
			t.Errorf("%s: %d members, want %d", row.name, got, row.want)
		}
	}
}

func TestExtractWithoutPropagator(t *testing.T) {
	if ctx := Extract(t.Context(), nil, func(string) []string { return []string{someParent} }); ctx == nil {
		t.Error("Extract() = nil")
	}
	r := received(func(string) []string { return nil })
	r.Set("traceparent", someParent)
	if got := r.Keys(); got != nil {
		t.Errorf("Keys() = %q, want none", got)
	}
}

// What comes in is never sent on larger than everybody has to carry, nor does it make the library fail.
func FuzzExtract(f *testing.F) {
	f.Add(someParent, "a=1", "b=2,c=3;p=q", "x=y")
	f.Add("00-zz", "%zz=%", strings.Repeat(",", 100), strings.Repeat("a", 600))
	p := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	f.Fuzz(func(t *testing.T, parent, one, two, state string) {
		h := map[string][]string{"traceparent": {parent}, "tracestate": {state, two}, "baggage": {one, two, one}}
		ctx := Extract(context.Background(), p, func(key string) []string { return h[key] })
		if n := baggage.FromContext(ctx).Len(); n > maxMembers {
			t.Errorf("%d members of baggage", n)
		}
		out := propagation.MapCarrier{}
		p.Inject(ctx, out)
		for k, v := range out {
			if len(v) > maxHeader {
				t.Errorf("%s of %d bytes is sent on", k, len(v))
			}
		}
	})
}
