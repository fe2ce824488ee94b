package etcd

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/etcdapi"
)

// fakeServer is an etcd that answers as a test wants.
type fakeServer struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	list  func() (*pb.RangeResponse, error)
	watch func(pb.Watch_WatchServer) error

	mu       sync.Mutex // guards all below
	lists    int
	creates  int
	watching int
}

func (f *fakeServer) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	f.mu.Lock()
	f.lists++
	f.mu.Unlock()
	return f.list()
}

func (f *fakeServer) Watch(stream pb.Watch_WatchServer) error {
	f.mu.Lock()
	f.watching++
	f.mu.Unlock()
	return f.watch(stream)
}

// receive waits for the next request.
func (f *fakeServer) receive(stream pb.Watch_WatchServer) (*pb.WatchRequest, error) {
	req, err := stream.Recv()
	if err == nil && req.GetCreateRequest() != nil {
		f.mu.Lock()
		f.creates++
		f.mu.Unlock()
	}
	return req, err
}

func (f *fakeServer) requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lists + f.creates
}

const fakeCluster = 7

func header(revision int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: fakeCluster, Revision: revision}
}

// listOne answers with one instance.
func listOne() (*pb.RangeResponse, error) {
	return &pb.RangeResponse{Header: header(5), Kvs: []*mvccpb.KeyValue{kv("orders/a", "192.0.2.1:80", 5)}, Count: 1}, nil
}

// behave answers all requests of a stream as etcd does while nothing changes.
func (f *fakeServer) behave(stream pb.Watch_WatchServer) error {
	for id := int64(0); ; id++ {
		req, err := f.receive(stream)
		if err != nil {
			return err
		}
		resp := &pb.WatchResponse{Header: header(5), WatchId: id, Created: true}
		if c := req.GetCancelRequest(); c != nil {
			resp = &pb.WatchResponse{Header: header(5), WatchId: c.WatchId, Canceled: true}
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

// answer reads one request and sends the answers.
func (f *fakeServer) answer(stream pb.Watch_WatchServer, answers ...*pb.WatchResponse) error {
	if _, err := f.receive(stream); err != nil {
		return err
	}
	for _, resp := range answers {
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
	return nil
}

// inBubble runs do with a client of f.
func inBubble(t *testing.T, f *fakeServer, do func(*testing.T, *clientv3.Client)) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(1 << 16)
		server := grpc.NewServer()
		pb.RegisterKVServer(server, f)
		pb.RegisterWatchServer(server, f)
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(l) // ends with Stop
		}()
		c, err := NewClient(clientv3.Config{Endpoints: []string{"etcd.test:2379"}, DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		}})
		if err != nil {
			t.Fatal(err)
		}
		do(t, c)
		_ = c.Close() // fails with the reason it was given: closed
		server.Stop()
		<-served
	})
}

func ignore([]discovery.Endpoint) {}

func created(id int64) *pb.WatchResponse {
	return &pb.WatchResponse{Header: header(5), WatchId: id, Created: true}
}

func TestSilentStreamIsFound(t *testing.T) {
	f := &fakeServer{list: listOne}
	f.watch = func(stream pb.Watch_WatchServer) error {
		if err := f.answer(stream, created(0)); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	}
	inBubble(t, f, func(t *testing.T, c *clientv3.Client) {
		start := time.Now()
		err := Resolver{Client: c}.Watch(t.Context(), "orders", ignore)
		if !errors.Is(err, etcdapi.ErrSilent) || !strings.Contains(err.Error(), "etcd.test:2379") {
			t.Errorf("Watch() = %v, want %v", err, etcdapi.ErrSilent)
		}
		if took := time.Since(start); took > 45*time.Second {
			t.Errorf("found after %v, want 45s at most", took)
		}
	})
}

func TestIdleStreamIsKept(t *testing.T) {
	f := &fakeServer{list: listOne}
	f.watch = f.behave
	inBubble(t, f, func(t *testing.T, c *clientv3.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := (Resolver{Client: c}).Watch(ctx, "orders", ignore); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Watch() = %v, want it to go on for an hour", err)
		}
		// A sign of life every 10 s, and a new list every 10 to 12 min, which takes a stream of its own as nobody else has one.
		if n := f.requests(); n > 380 || f.lists < 5 || f.lists > 6 || f.watching != f.lists {
			t.Errorf("%d requests, %d lists, %d streams in an hour, want about 370, 6 and 6", n, f.lists, f.watching)
		}
	})
}

func TestUnansweredWatchIsFound(t *testing.T) {
	f := &fakeServer{list: listOne}
	f.watch = func(stream pb.Watch_WatchServer) error { <-stream.Context().Done(); return nil }
	inBubble(t, f, func(t *testing.T, c *clientv3.Client) {
		start := time.Now()
		err := Resolver{Client: c}.Watch(t.Context(), "orders", ignore)
		if !errors.Is(err, etcdapi.ErrUnanswered) || time.Since(start) != etcdapi.AnswerTime {
			t.Errorf("Watch() = %v after %v, want %v", err, time.Since(start), etcdapi.ErrUnanswered)
		}
	})
}

func TestWatchEndsWithTheReason(t *testing.T) {
	denied := &pb.WatchResponse{Header: header(5), WatchId: -1, Created: true, Canceled: true,
		CancelReason: "rpc error: code = PermissionDenied desc = etcdserver: permission denied"}
	foreign := created(0)
	foreign.Header.ClusterId++
	for name, test := range map[string]struct {
		list            func() (*pb.RangeResponse, error)
		answers         []*pb.WatchResponse
		end             error
		want            string
		refused, denied bool
	}{
		"broken":           {answers: []*pb.WatchResponse{created(0)}, end: status.Error(codes.Unavailable, "etcdserver: no leader"), want: "no leader"},
		"denied":           {answers: []*pb.WatchResponse{denied}, want: "permission denied", refused: true, denied: true},
		"ended by server":  {answers: []*pb.WatchResponse{created(0), {Header: header(5), Canceled: true, CancelReason: "x\ny"}}, want: `"x\ny"`},
		"other cluster":    {answers: []*pb.WatchResponse{foreign}, want: etcdapi.ErrClusters.Error()},
		"created twice":    {answers: []*pb.WatchResponse{created(0), created(0)}, want: etcdapi.ErrProtocol.Error()},
		"without a header": {answers: []*pb.WatchResponse{{Created: true}, {Events: []*mvccpb.Event{{}}}}, end: status.Error(codes.Unavailable, "end"), want: "end"},
		"no etcd":          {list: func() (*pb.RangeResponse, error) { return nil, status.Error(codes.Unimplemented, "what?") }, want: "what?", refused: true},
		"too many requests": {list: func() (*pb.RangeResponse, error) {
			return nil, status.Error(codes.ResourceExhausted, "etcdserver: too many requests")
		}, want: "too many requests", refused: true},
		"too large": {list: func() (*pb.RangeResponse, error) {
			return &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{kv("orders/a", strings.Repeat("x", etcdapi.MaxAnswer), 1)}}, nil
		}, want: "larger than max", refused: true},
		"long text": {list: func() (*pb.RangeResponse, error) {
			return nil, status.Error(codes.Internal, strings.Repeat("x", 10_000))
		}, want: `xxx..."`},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeServer{list: listOne}
			if test.list != nil {
				f.list = test.list
			}
			f.watch = func(stream pb.Watch_WatchServer) error {
				if err := f.answer(stream, test.answers...); err != nil || test.end != nil {
					return errors.Join(err, test.end)
				}
				<-stream.Context().Done()
				return nil
			}
			inBubble(t, f, func(t *testing.T, c *clientv3.Client) {
				err := Resolver{Client: c}.Watch(t.Context(), "orders", ignore)
				if err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 500 {
					t.Errorf("Watch() = %v, want %q in it", err, test.want)
				}
				refused, ok := errors.AsType[*discovery.RefusedError](err)
				if ok != test.refused || ok && refused.Denied != test.denied {
					t.Errorf("Watch() = %v: refused is %v, want %v", err, ok, test.refused)
				}
			})
		})
	}
}

// A server that says all the time that history is gone is asked once a second, and one that breaks each watch hardly more.
func TestMadServersAreAskedSeldom(t *testing.T) {
	for name, answers := range map[string][]*pb.WatchResponse{
		"compacts": {created(0), {Header: header(5), Canceled: true, CompactRevision: 9}},
		"breaks":   {created(0)},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeServer{list: listOne}
			f.watch = func(stream pb.Watch_WatchServer) error {
				if err := f.answer(stream, answers...); err != nil || name == "breaks" {
					return errors.Join(err, status.Error(codes.Unavailable, "broken"))
				}
				<-stream.Context().Done()
				return nil
			}
			inBubble(t, f, func(t *testing.T, c *clientv3.Client) {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				_ = discovery.Run(ctx, Resolver{Client: c}, "orders", discovery.RunOptions{}, ignore) // ends with ctx
				t.Logf("%d requests in 5 min", f.requests())
				// A list and a watch at most every 1.375 s on average, if each watch breaks.
				if n := f.requests(); n > 480 || name == "compacts" && n > 310 {
					t.Errorf("%d requests in 5 min", n)
				}
			})
		})
	}
}

func TestErrorsOfAnUnreachableServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := NewClient(clientv3.Config{Endpoints: []string{"etcd.test:2379"}, Username: "mesh", Password: "hunter2", DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("connection refused") }),
		}})
		if err != nil {
			t.Fatalf("NewClient() = %v although it need not connect", err)
		}
		defer c.Close()
		start := time.Now()
		errWatch := Resolver{Client: c}.Watch(t.Context(), "orders", ignore)
		_, errRegister := Registrar{Client: c}.Register(t.Context(), discovery.Instance{
			Service: "orders", Endpoint: discovery.Endpoint{Addr: "192.0.2.1:80"},
		})
		for name, err := range map[string]error{"Watch": errWatch, "Register": errRegister} {
			if err == nil || !strings.Contains(err.Error(), "at etcd.test:2379: Unavailable") || !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("%s() = %v, want an error with server and reason", name, err)
			}
			if _, ok := errors.AsType[*discovery.RefusedError](err); ok {
				t.Errorf("%s() = %v: nobody refused", name, err)
			}
		}
		if took := time.Since(start); took > 2*etcdapi.ReadyTime {
			t.Errorf("both took %v, want %v each", took, etcdapi.ReadyTime)
		}
	})
}
