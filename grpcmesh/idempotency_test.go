package grpcmesh

import (
	"fmt"
	"testing"

	"github.com/zerohop/zerohop/internal/echopb"
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
	} {
		for range 2 { // the second answer is remembered
			if got := idempotent(method); got != want {
				t.Errorf("idempotent(%q) = %v, want %v", method, got, want)
			}
		}
	}
}

func TestUnknownMethodsDoNotFillMemory(t *testing.T) {
	defer func(n int64) {
		declarations.Store(n)
		declared.Range(func(k, _ any) bool {
			if !lookUp(k.(string)) {
				declared.Delete(k)
			}
			return true
		})
	}(declarations.Load())
	for i := range maxDeclarations + 100 {
		idempotent(fmt.Sprintf("/made.Up/Method%d", i))
	}
	n := 0
	declared.Range(func(any, any) bool { n++; return true })
	if n > maxDeclarations {
		t.Errorf("%d methods are remembered, want at most %d", n, maxDeclarations)
	}
	if !idempotent(echopb.Echo_Say_FullMethodName) {
		t.Error("a declared method is not found once the memory is full")
	}
}
