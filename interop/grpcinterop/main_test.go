package grpcinterop

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/grpclog"
)

func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(logger{grpclog.NewLoggerV2(discard{}, discard{}, os.Stderr)})
	goleak.VerifyTestMain(m)
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// failure is what a test case of gRPC fails with.
type failure string

// logger turns the fatal log lines by which the test cases of gRPC fail into panics, before gRPC ends the process.
// The lines are written by the goroutine that runs the case.
type logger struct{ grpclog.LoggerV2 }

func (logger) Fatal(args ...any)                 { panic(failure(fmt.Sprint(args...))) }
func (logger) Fatalln(args ...any)               { panic(failure(strings.TrimSpace(fmt.Sprintln(args...)))) }
func (logger) Fatalf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// attempt runs a test case of gRPC and returns what it failed with.
func attempt(ctx context.Context, c func(context.Context)) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case failure:
			err = fmt.Errorf("%.500s", string(v)) // some hold whole messages
		default:
			panic(v)
		}
	}()
	c(ctx)
	return nil
}

func TestFailedCaseIsReported(t *testing.T) {
	err := attempt(t.Context(), func(context.Context) { grpclog.Component("interop").Fatalf("got %d", 1) })
	if err == nil || !strings.Contains(err.Error(), "got 1") {
		t.Errorf("attempt() = %v, want what the case failed with", err)
	}
}
