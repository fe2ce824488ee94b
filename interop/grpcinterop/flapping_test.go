package grpcinterop

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/grpcmesh"
)

const (
	flaps   = 6 // how often a node goes and comes back in a test
	callers = 4 // that run cases at the same time
)

// TestCasesWhileNodeRestarts runs the cases while one of three nodes goes down and comes back all the time in the way of
// an orderly restart: it says goodbye, ends what it has begun and refuses connections. No case may notice.
func TestCasesWhileNodeRestarts(t *testing.T) {
	for _, w := range wires(t) {
		t.Run(w.name, func(t *testing.T) {
			b := setUp(t, w, zerohop.Policy{})
			b.run(t, cases(), b.soaks(t), (*node).drain, func(ctx context.Context, c testCase) error {
				_, err := b.attempt(ctx, c)
				return err
			})
		})
	}
}

// TestCasesWhileNodeDies is the same with a node that cuts its connections. Unary calls may be repeated by policy, so no
// case made of them may notice. A stream that had begun to answer is lost with its node, whatever a client does: those
// cases may be run again, but only if they had a stream on that node and it was down at some time of that.
//
// Ten deaths within a second fail more of a few callers' attempts than the default budget would repeat, as it should.
func TestCasesWhileNodeDies(t *testing.T) {
	for _, w := range wires(t) {
		t.Run(w.name, func(t *testing.T) {
			b := setUp(t, w, zerohop.Policy{Idempotent: zerohop.On, Budget: zerohop.Budget{Mode: zerohop.Off}})
			var repeated atomic.Int64
			b.run(t, cases(), b.soaks(t), (*node).kill, func(ctx context.Context, c testCase) error {
				for {
					lost, err := b.attempt(ctx, c)
					if err == nil || !c.stream || !lost {
						return err
					}
					repeated.Add(1)
				}
			})
			t.Logf("%d cases met the dying node in the middle of a stream", repeated.Load())
		})
	}
}

// bed is a service of three nodes, one of which can flap, and a client of it.
type bed struct {
	wire  wire
	nodes []*node
	mesh  *zerohop.Mesh
	conn  *grpc.ClientConn
}

// trial is one run of a case.
type trial struct {
	calls sync.WaitGroup // that have not ended
	met   atomic.Bool    // an attempt was made on the node that flaps
}

type trialKey struct{}

func setUp(t *testing.T, w wire, p zerohop.Policy, opts ...grpc.ServerOption) *bed {
	t.Helper()
	opts = append(opts, w.server)
	return setUpOf(t, w, p, serve(t, opts...), serve(t, opts...), serve(t, opts...))
}

// setUpOf makes a bed of some nodes.
func setUpOf(t *testing.T, w wire, p zerohop.Policy, nodes ...*node) *bed {
	t.Helper()
	b := &bed{wire: w, nodes: nodes}
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.addr)
	}
	flapping := addrs[0]
	b.mesh = newMesh(t, zerohop.Config{
		Spec: zerohop.Spec{Defaults: p},
		Hooks: zerohop.Hooks{
			CallStart: func(ctx context.Context, _ zerohop.CallInfo) context.Context {
				if r, ok := ctx.Value(trialKey{}).(*trial); ok {
					r.calls.Add(1)
				}
				return ctx
			},
			AttemptDone: func(ctx context.Context, _ zerohop.CallInfo, a zerohop.AttemptInfo, _ zerohop.AttemptResult) {
				if r, ok := ctx.Value(trialKey{}).(*trial); ok && a.Node != nil && a.Node.Addr() == flapping {
					r.met.Store(true)
				}
			},
			CallDone: func(ctx context.Context, _ zerohop.CallInfo, _ zerohop.CallResult) {
				if r, ok := ctx.Value(trialKey{}).(*trial); ok {
					r.calls.Done()
				}
			},
		},
	}, addrs...)
	b.conn = dial(t, b.mesh, grpc.WithTransportCredentials(w.client))
	return b
}

// attempt runs a case on the connection of the bed and waits until all its calls have ended. It returns what it failed
// with, and whether that may be because it had a call on the node that flaps when that was not there.
func (b *bed) attempt(ctx context.Context, c testCase) (lost bool, err error) {
	r, before := new(trial), b.nodes[0].changes.Load()
	ctx, cancel := context.WithCancel(context.WithValue(ctx, trialKey{}, r))
	err = attempt(ctx, func(ctx context.Context) { c.run(ctx, b.conn) })
	cancel() // some cases leave streams behind, above all those that fail
	r.calls.Wait()
	up := before%2 == 1
	return r.met.Load() && !(up && b.nodes[0].changes.Load() == before), err
}

// connect makes a connection of its own.
func (b *bed) connect(t *testing.T) (*grpc.ClientConn, func()) {
	conn, err := grpc.NewClient(grpcmesh.Target(service), append(grpcmesh.DialOptions(b.mesh), grpc.WithTransportCredentials(b.wire.client))...)
	if err != nil {
		t.Error(err)
	}
	return conn, func() { conn.Close() }
}

// soaks returns the soak tests, on the connection of the bed and on new ones.
func (b *bed) soaks(t *testing.T) []testCase {
	return []testCase{
		soak("rpc_soak", func() (*grpc.ClientConn, func()) { return b.conn, func() {} }),
		soak("channel_soak", func() (*grpc.ClientConn, func()) { return b.connect(t) }),
	}
}

// run has several callers try all cases of a list, over and over, and another one some more cases once, while the first
// node flaps in the given way.
func (b *bed) run(t *testing.T, list, once []testCase, down func(*node), try func(context.Context, testCase) error) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // nothing should take that long
	defer cancel()
	stable, stop := context.WithCancel(ctx)
	passed := make(chan struct{})
	var runs atomic.Int64
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for k := i * len(list) / callers; stable.Err() == nil || k < len(list)+i*len(list)/callers; k++ {
				c := list[k%len(list)]
				if err := try(ctx, c); err != nil {
					t.Errorf("%s: %v", c.name, err)
					stop()
					return
				}
				runs.Add(1)
				select {
				case passed <- struct{}{}:
				default:
				}
			}
		})
	}
	all.Go(func() {
		for _, c := range once {
			if err := try(ctx, c); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	})
	n := b.nodes[0]
	for i := range flaps {
		for range 3 { // the connection is up and in use
			await(stable, n.came)
		}
		down(n)
		for range 3 * callers { // while the node is not there
			await(stable, passed)
		}
		n.start(t)
		if stable.Err() != nil && !t.Failed() {
			t.Errorf("the node got no calls after it was back %d times", i)
		}
	}
	stop()
	all.Wait()
	t.Logf("%d cases passed; the nodes got %d, %d and %d calls", runs.Load(), b.nodes[0].calls.Load(), b.nodes[1].calls.Load(), b.nodes[2].calls.Load())
}

// await waits for a signal, as long as there is hope.
func await(ctx context.Context, signal <-chan struct{}) {
	select {
	case <-signal:
	case <-ctx.Done():
	}
}
