package grpcmesh

import (
	"fmt"
	"testing"

	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/routing"
)

func TestIdempotentAsDeclared(t *testing.T) {
	for method, want := range map[string]bool{
		echopb.Echo_Say_FullMethodName:   true,
		echopb.Echo_Order_FullMethodName: false,
		"/zerohop.echo.v1.Echo/Unknown":  false,
		"/zerohop.echo.v1.SayReply/text": false,
		"/no.such.Service/Say":           false,
		"zerohop.echo.v1.Echo":           false,
		"":                               false,
		"zerohop.echo.v1.Echo/Say":       false,
		"//zerohop.echo.v1.Echo/Say":     false,
		"/zerohop.echo.v1.Echo//Say":     false,
		"/zerohop.echo.v1.Echo%2fSay":    false,
		"/zerohop.echo.v1.echo/Say":      false,
		"/zerohop.echo.v1.Echo/SAY":      false,
	} {
		for range 2 { // the second answer is remembered
			if got, _ := idempotent(method); got != want {
				t.Errorf("idempotent(%q) = %v, want %v", method, got, want)
			}
		}
	}
}

func TestUnknownMethodsDoNotFillMemory(t *testing.T) {
	idempotent(echopb.Echo_Say_FullMethodName)
	before := len(*declared.Load())
	for i := range 1000 {
		for _, format := range []string{"/made.Up/Method%d", "/zerohop.echo.v1.Echo/Say%d"} {
			if v, _ := idempotent(fmt.Sprintf(format, i)); v {
				t.Fatal("a method that nobody declared is idempotent")
			}
		}
	}
	if got := len(*declared.Load()); got != before {
		t.Errorf("%d methods are remembered, want the %d of before", got, before)
	}
}

func TestKnownMethodsAreFoundWithoutAllocations(t *testing.T) {
	method := echopb.Echo_Say_FullMethodName
	if got := testing.AllocsPerRun(100, func() { idempotent(method) }); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

func FuzzMethodNames(f *testing.F) {
	const say = echopb.Echo_Say_FullMethodName
	for _, m := range []string{say, "", "/", "//", say[1:], "/" + say, say + "/", "/zerohop.echo.v1.Echo//Say", "/zerohop.echo.v1.Echo%2fSay",
		"/zerohop.echo.v1.echo/Say", "/zerohop.echo.v1.Echo/say", "/zerohop.echo.v1.Echo/%53ay", say + "?", say + "#", say + " ", "/./" + say,
		"/zerohop.echo.v1.Echo/Say\x00", "/zerohop.echo.v1..Echo/Say", "/.zerohop.echo.v1.Echo/Say", "/\xff/\xff"} {
		f.Add(m)
	}
	table, err := routing.Compile([]routing.Rule{{
		Name: "say", Match: routing.Match{Service: "orders", Path: routing.Path{Exact: say}}, Backends: []routing.Backend{{Service: "say"}},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method string) {
		got, _ := idempotent(method)
		if want := method == say; got != want {
			t.Errorf("idempotent(%q) = %v, want %v", method, got, want)
		}
		r := request("orders", method, &outgoing{t.Context()}, nil, nil)
		rule := table.Route(&r.Request, 0).Rule
		if got, want := rule >= 0, method == say; got != want {
			t.Errorf("a route of %q matches %q: %v, want %v", say, method, got, want)
		}
	})
}
