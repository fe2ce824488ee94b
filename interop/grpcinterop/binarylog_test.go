package grpcinterop

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/binarylog"
	logpb "google.golang.org/grpc/binarylog/grpc_binarylog_v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
)

// filter is the variable that turns binary logs on. gRPC looks at it when a program starts.
const filter = "GRPC_BINARY_LOG_FILTER"

// journal collects binary logs.
type journal struct {
	mu      sync.Mutex // guards what follows
	entries []*logpb.GrpcLogEntry
}

func (j *journal) Write(e *logpb.GrpcLogEntry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, e)
	return nil
}

func (j *journal) Close() error { return nil }

// TestBinaryLog: every attempt is an RPC of its own in gRPC's log, with the service as its authority and the node as its
// peer. It runs in a process of its own.
func TestBinaryLog(t *testing.T) {
	if os.Getenv(filter) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBinaryLog$", "-test.v")
		cmd.Env = append(os.Environ(), filter+"=grpc.testing.TestService/EmptyCall")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestBinaryLog") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	var j journal
	binarylog.SetSink(&j)
	var calls atomic.Int64
	options := grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		if calls.Add(1) == 1 {
			return nil, status.Error(codes.Unavailable, "come again")
		}
		return h(ctx, req)
	})
	a, b := serve(t, options), serve(t, options)
	mesh := newMesh(t, zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{
		Idempotent: zerohop.On, Retry: zerohop.Retry{Base: time.Millisecond, Max: time.Millisecond}, Backup: zerohop.Backup{Mode: zerohop.Off},
	}}}, a.addr, b.addr)
	client := connect(t, mesh, nil, []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())})
	if _, err := client.EmptyCall(t.Context(), &testpb.Empty{}); err != nil {
		t.Fatal(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	var ids []uint64
	var ends []uint32
	for _, e := range j.entries {
		if e.Logger != logpb.GrpcLogEntry_LOGGER_CLIENT {
			continue
		}
		switch e.Type {
		case logpb.GrpcLogEntry_EVENT_TYPE_CLIENT_HEADER:
			ids = append(ids, e.CallId)
			if got := e.GetClientHeader().Authority; got != service {
				t.Errorf("authority = %q, want %q", got, service)
			}
		case logpb.GrpcLogEntry_EVENT_TYPE_SERVER_TRAILER:
			ends = append(ends, e.GetTrailer().StatusCode)
		}
	}
	if len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("RPCs in the log: %v, want two", ids)
	}
	if want := []uint32{14, 0}; !slices.Equal(ends, want) {
		t.Errorf("codes in the log: %v, want %v", ends, want)
	}
}
