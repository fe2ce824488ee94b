package zerohop_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/loadbalance"
)

// faults are attempts still to fail, on one endpoint or on whatever they meet.
type faults struct {
	left atomic.Int64
	addr atomic.Value // of strings; "" is any
}

func (f *faults) set(left int64, addr string) {
	f.addr.Store(addr)
	f.left.Store(left)
}

func (f *faults) next(addr string) bool {
	at, _ := f.addr.Load().(string)
	return (at == "" || at == addr) && f.left.Add(-1) >= 0
}

// A driver calls "orders" for a user over one transport, and returns the endpoint that answered.
type driver struct {
	name  string
	serve func(t *testing.T, f *faults) (addr string)
	open  func(t *testing.T, m *zerohop.Mesh) func(ctx context.Context, user string) (string, error)
}

var drivers = []driver{
	{"http", serveHTTP, func(t *testing.T, m *zerohop.Mesh) func(context.Context, string) (string, error) {
		tr := httpmesh.NewTransport(m, &http.Transport{})
		t.Cleanup(tr.CloseIdleConnections)
		return func(ctx context.Context, user string) (string, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://orders/", nil)
			if err != nil {
				return "", err
			}
			req.Header.Set("X-User", user)
			return read(tr.RoundTrip(req))
		}
	}},
	{"unary", serveGRPC, func(t *testing.T, m *zerohop.Mesh) func(context.Context, string) (string, error) {
		client := dial(t, m)
		return func(ctx context.Context, user string) (string, error) {
			reply, err := client.Say(metadata.AppendToOutgoingContext(ctx, "x-user", user), &echopb.SayRequest{})
			return reply.GetNode(), err
		}
	}},
	{"stream", serveGRPC, func(t *testing.T, m *zerohop.Mesh) func(context.Context, string) (string, error) {
		client := dial(t, m)
		return func(ctx context.Context, user string) (string, error) {
			s, err := client.Chat(metadata.AppendToOutgoingContext(ctx, "x-user", user))
			if err != nil {
				return "", err
			}
			if err := errors.Join(s.Send(&echopb.SayRequest{}), s.CloseSend()); err != nil {
				return "", err
			}
			reply, err := s.Recv()
			if err == nil {
				_, end := s.Recv()
				if !errors.Is(end, io.EOF) {
					err = end
				}
			}
			return reply.GetNode(), err
		}
	}},
	{"do", serveHTTP, func(t *testing.T, m *zerohop.Mesh) func(context.Context, string) (string, error) {
		client := &http.Client{Transport: &http.Transport{}}
		t.Cleanup(client.CloseIdleConnections)
		return func(ctx context.Context, user string) (string, error) {
			ctx = zerohop.WithCall(ctx, zerohop.CallOptions{HashKey: user})
			return zerohop.Do(ctx, m, "orders", func(ctx context.Context, n *loadbalance.Node) (string, error) {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Addr(), nil)
				if err != nil {
					return "", err
				}
				return read(client.Do(req))
			})
		}
	}},
}

// read returns the body of an answer, or as an error a status other than 200.
func read(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(body), err
}

func serveHTTP(t *testing.T, f *faults) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr := r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()
		if r.URL.Path == httpmesh.LoadPath { // a probe, which is no call
			http.NotFound(w, r)
			return
		}
		if f.next(addr) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, addr)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

type echo struct {
	echopb.UnimplementedEchoServer
	faults *faults
	addr   string
}

func (e *echo) Say(context.Context, *echopb.SayRequest) (*echopb.SayReply, error) {
	if e.faults.next(e.addr) {
		return nil, status.Error(codes.Unavailable, "not now")
	}
	return &echopb.SayReply{Node: e.addr}, nil
}

func (e *echo) Chat(s echopb.Echo_ChatServer) error {
	if e.faults.next(e.addr) {
		return status.Error(codes.Unavailable, "not now")
	}
	if _, err := s.Recv(); err != nil {
		return err
	}
	return s.Send(&echopb.SayReply{Node: e.addr})
}

func serveGRPC(t *testing.T, f *faults) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	echopb.RegisterEchoServer(s, &echo{faults: f, addr: l.Addr().String()})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return l.Addr().String()
}

func dial(t *testing.T, m *zerohop.Mesh) echopb.EchoClient {
	t.Helper()
	conn, err := grpc.NewClient(grpcmesh.Target("orders"),
		append(grpcmesh.DialOptions(m), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return echopb.NewEchoClient(conn)
}

// start opens a mesh of four servers, and waits until each of them has answered: gRPC connects in the background.
func (d driver) start(t *testing.T, f *faults, p zerohop.Policy) func(ctx context.Context, user string) (string, error) {
	t.Helper()
	_, _, call := d.startMesh(t, f, p)
	return call
}

// startMesh is start for those who want to know the mesh and the addresses, too.
func (d driver) startMesh(t *testing.T, f *faults, p zerohop.Policy) (*zerohop.Mesh, []discovery.Endpoint, func(ctx context.Context, user string) (string, error)) {
	t.Helper()
	eps := make([]discovery.Endpoint, 4)
	for i := range eps {
		eps[i].Addr = d.serve(t, f)
	}
	m, err := zerohop.New(zerohop.Config{
		Resolver: discovery.Static{"orders": eps},
		Spec:     zerohop.Spec{Services: map[string]zerohop.Policy{"orders": p}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	call := d.open(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := map[string]bool{}
	for i := 0; len(seen) < len(eps); i++ {
		addr, err := call(ctx, fmt.Sprint("user-", i))
		if err != nil {
			t.Fatalf("call %d, after answers of %d endpoints: %v", i, len(seen), err)
		}
		seen[addr] = true
	}
	return m, eps, call
}

func TestEveryAlgorithmWorksOverEveryTransport(t *testing.T) {
	for _, name := range zerohop.Algorithms() {
		for _, d := range drivers {
			t.Run(name+" over "+d.name, func(t *testing.T) {
				p := zerohop.Policy{Balance: name, Idempotent: zerohop.On, Backup: zerohop.Backup{Mode: zerohop.Off}}
				if zerohop.Hashes(name) {
					p.Hash = []zerohop.HashSource{{Header: "x-user"}}
				}
				var f faults
				call := d.start(t, &f, p)
				homes := map[string]int{}
				for k := range 20 {
					user := fmt.Sprint("user-", k)
					var answers []string
					for range 3 {
						addr, err := call(t.Context(), user)
						if err != nil {
							t.Fatal(err)
						}
						answers = append(answers, addr)
					}
					homes[answers[0]]++
					if zerohop.Hashes(name) && !alike(answers) {
						t.Errorf("calls for %s were answered by %v, want the same endpoint each time", user, answers)
					}
				}
				if zerohop.Hashes(name) && len(homes) == 1 {
					t.Error("calls for all users were answered by the same endpoint")
				}

				for range 3 {
					f.set(1, "")
					ctx, report := zerohop.WithReport(t.Context())
					addr, err := call(ctx, "user-7")
					if err != nil {
						t.Fatalf("a call whose first attempt failed: %v", err)
					}
					if a := report.Calls()[0].Attempts; len(a) != 2 || a[0].Addr == a[1].Addr || a[1].Addr != addr {
						t.Errorf("attempts = %+v, want two on different endpoints", a)
					}
				}
			})
		}
	}
}

func TestEveryAlgorithmIsDescribed(t *testing.T) {
	for file, form := range map[string]string{"README.md": "| `%s`", "loadbalance/doc.go": "//\t%s "} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range zerohop.Algorithms() {
			if !strings.Contains(string(text), fmt.Sprintf(form, name)) {
				t.Errorf("%s does not say what %q is for", file, name)
			}
		}
	}
}

func TestRetriesFollowTheOrderOfTheKey(t *testing.T) {
	for _, name := range slices.DeleteFunc(zerohop.Algorithms(), func(name string) bool { return !zerohop.Hashes(name) }) {
		for _, d := range drivers {
			t.Run(name+" over "+d.name, func(t *testing.T) {
				p := zerohop.Policy{Balance: name, Hash: []zerohop.HashSource{{Header: "x-user"}}, Idempotent: zerohop.On}
				p.Backup.Mode = zerohop.Off
				var f faults
				call := d.start(t, &f, p)
				home, err := call(t.Context(), "user-7")
				if err != nil {
					t.Fatal(err)
				}
				f.set(1000, home)
				ctx, report := zerohop.WithReport(t.Context())
				var others []string
				for range 5 {
					addr, err := call(ctx, "user-7")
					if err != nil {
						t.Fatal(err)
					}
					others = append(others, addr)
				}
				if a := report.Calls()[0].Attempts; len(a) != 2 || a[0].Addr != home {
					t.Errorf("attempts = %+v, want one on %s and a retry", a, home)
				}
				if !alike(others) || others[0] == home {
					t.Errorf("while %s fails calls of a key of it are answered by %v, want the same other endpoint", home, others)
				}
			})
		}
	}
}

// alike reports whether all strings are the same.
func alike(list []string) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return s != list[0] })
}
