package grpcinterop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/resilience"
)

// ticket is a credential for one RPC, new for each.
type ticket struct {
	secure bool // it must not be seen by others

	mu     sync.Mutex // guards what follows
	issued int
	uris   []string // that it was asked for
	err    error
}

func (c *ticket) GetRequestMetadata(_ context.Context, uri ...string) (map[string]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	c.issued++
	c.uris = append(c.uris, uri...)
	return map[string]string{"ticket": fmt.Sprint(c.issued)}, nil
}

func (c *ticket) RequireTransportSecurity() bool { return c.secure }

func (c *ticket) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// outcomes are those of attempts, for a mesh to note.
type outcomes struct {
	mu   sync.Mutex // guards what follows
	list []resilience.Outcome
}

func (o *outcomes) hooks() zerohop.Hooks {
	return zerohop.Hooks{AttemptDone: func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.list = append(o.list, r.Outcome)
	}}
}

// take returns what was noted since the last time.
func (o *outcomes) take() []resilience.Outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.list
	o.list = nil
	return list
}

// TestCredentialsOfEachAttempt: credentials are asked for the service, and once for each attempt, so that a repetition does
// not bring a ticket that was used.
func TestCredentialsOfEachAttempt(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.certify(t, service)
	var mu sync.Mutex
	var tickets []string
	options := []grpc.ServerOption{
		grpc.Creds(credentials.NewServerTLSFromCert(&cert)),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			mu.Lock()
			defer mu.Unlock()
			tickets = append(tickets, md.Get("ticket")...)
			if len(tickets)%2 == 1 {
				return nil, status.Error(codes.Unavailable, "come again")
			}
			return h(ctx, req)
		}),
	}
	a, b := serve(t, options...), serve(t, options...)
	mesh := newMesh(t, zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{
		Idempotent: zerohop.On, Retry: zerohop.Retry{Base: time.Millisecond, Max: time.Millisecond}, Backup: zerohop.Backup{Mode: zerohop.Off},
	}}}, a.addr, b.addr)
	secret := &ticket{secure: true}
	dialled := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(ca.roots, ""))}
	own := append(dialled, grpc.WithPerRPCCredentials(secret))
	for i, client := range []testpb.TestServiceClient{connect(t, mesh, own, nil), connect(t, mesh, nil, own), connect(t, mesh, dialled, nil)} {
		var call []grpc.CallOption
		if i == 2 {
			call = append(call, grpc.PerRPCCredentials(secret))
		}
		if _, err := client.EmptyCall(t.Context(), &testpb.Empty{}, call...); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"1", "2", "3", "4", "5", "6"}; !slices.Equal(tickets, want) {
		t.Errorf("the nodes got the tickets %v, want %v", tickets, want)
	}
	for _, uri := range secret.uris {
		if want := "https://" + service + "/grpc.testing.TestService"; uri != want {
			t.Errorf("a ticket was issued for %s, want %s", uri, want)
		}
	}
}

// TestCredentialsThatFail: what credentials fail with is the caller's, as without a mesh. It says nothing about nodes,
// not even if it reads like what they fail with.
func TestCredentialsThatFail(t *testing.T) {
	n := serve(t)
	var noted outcomes
	mesh := newMesh(t, zerohop.Config{Hooks: noted.hooks(), Spec: zerohop.Spec{Defaults: zerohop.Policy{
		Idempotent: zerohop.On, Retry: zerohop.Retry{Base: time.Millisecond, Max: time.Millisecond},
	}}}, n.addr)
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	c := new(ticket)
	with := grpc.WithPerRPCCredentials(c)
	without, err := grpc.NewClient("passthrough:///"+n.addr, plain, with)
	if err != nil {
		t.Fatal(err)
	}
	defer without.Close()
	clients := []testpb.TestServiceClient{
		testpb.NewTestServiceClient(without), connect(t, mesh, []grpc.DialOption{plain, with}, nil), connect(t, mesh, nil, []grpc.DialOption{plain, with}),
	}
	for _, failure := range []error{
		errors.New("no ink"), status.Error(codes.Unavailable, "closed for lunch"), status.Error(codes.NotFound, "no paper"),
		status.Error(codes.PermissionDenied, "not you"), context.DeadlineExceeded, nil,
	} {
		c.fail(failure)
		var want codes.Code
		for i, client := range clients {
			_, unary := client.EmptyCall(t.Context(), &testpb.Empty{})
			_, stream := client.FullDuplexCall(t.Context())
			if i == 0 {
				want = status.Code(unary)
			}
			for _, err := range []error{unary, stream} {
				if got := status.Code(err); got != want || failure != nil && !strings.Contains(err.Error(), failure.Error()) {
					t.Errorf("credentials fail with %v, and calls with %v, want %v", failure, err, want)
				}
			}
		}
		list := noted.take()
		if failure == nil {
			continue
		}
		if want != codes.Unavailable && len(list) != 4 {
			t.Errorf("credentials fail with %v: %d attempts for 4 calls", failure, len(list))
		}
		for _, o := range list {
			if o != resilience.Neutral {
				t.Errorf("credentials fail with %v: the outcome is a %v", failure, o)
			}
		}
	}
}

// TestSecretsNeedTLS: what must not be seen by others is refused on a plain connection, before it is sent.
func TestSecretsNeedTLS(t *testing.T) {
	n := serve(t)
	secret := &ticket{secure: true}
	mesh := newMesh(t, zerohop.Config{}, n.addr)
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	for _, options := range [][]grpc.DialOption{
		append(grpcmesh.DialOptions(mesh), plain, grpc.WithPerRPCCredentials(secret)),
		append([]grpc.DialOption{grpc.WithPerRPCCredentials(secret), plain}, grpcmesh.DialOptions(mesh)...),
	} {
		if conn, err := grpc.NewClient(grpcmesh.Target(service), options...); err == nil {
			conn.Close()
			t.Error("NewClient() with credentials that need TLS works without")
		}
	}
	client := connect(t, mesh, nil, []grpc.DialOption{plain})
	if _, err := client.EmptyCall(t.Context(), &testpb.Empty{}, grpc.PerRPCCredentials(secret)); status.Code(err) != codes.Unauthenticated {
		t.Errorf("EmptyCall() = %v, want Unauthenticated", err)
	}
	if secret.issued != 0 || n.calls.Load() != 0 {
		t.Errorf("%d tickets were issued and %d calls made", secret.issued, n.calls.Load())
	}
}
