package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop/internal/echopb"
)

// The services that every backend registers.
const (
	httpService = "greeter"
	grpcService = "greeter-grpc"
)

// What a backend is told on its standard input, a word a line.
const (
	beHealthy = "healthy"
	beSlow    = "slow"
	beFailing = "failing"
)

const (
	// workTime is what a call takes on average, slowdown how many times longer if the backend is slow.
	workTime = 10 * time.Millisecond
	slowdown = 20
	// workers is how many calls a backend works on at a time, like a server with a pool of threads or of database
	// connections. The others wait. It is almost three times what the load needs while all are healthy.
	workers = 4
)

// backend is one server, a process of its own. It writes a line to its standard output for each call that reaches it:
// what the caller sent along to be recognised by.
type backend struct {
	echopb.UnimplementedEchoServer
	name  string
	state atomic.Value // one of the words above
	pool  chan struct{}

	mu sync.Mutex // serialises lines
}

// runBackend serves until the standard input ends, which it does when the program that started it ends in whatever way.
func runBackend(name, registry string) error {
	signal.Ignore(os.Interrupt) // Ctrl-C reaches all processes of a terminal; ours ends us
	b := &backend{name: name, pool: make(chan struct{}, workers)}
	b.state.Store(beHealthy)

	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	rpc, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, quit := context.WithCancelCause(context.Background())
	defer quit(nil)
	go func() { quit(http.Serve(web, b)) }()
	server := grpc.NewServer()
	echopb.RegisterEchoServer(server, b)
	go func() { quit(server.Serve(rpc)) }()

	var registrations sync.WaitGroup
	for service, l := range map[string]net.Listener{httpService: web, grpcService: rpc} {
		registrations.Go(func() {
			if err := register(ctx, registry, service, name, l.Addr().String()); err != nil {
				quit(err)
			}
		})
	}
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			b.state.Store(lines.Text())
		}
		quit(nil)
	}()
	<-ctx.Done()
	registrations.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// work is what a call costs. It reports false if the backend fails.
func (b *backend) work(ctx context.Context, tag string) (bool, error) {
	b.mu.Lock()
	_, err := fmt.Println(tag)
	b.mu.Unlock()
	if err != nil {
		return false, err
	}
	state := b.state.Load()
	if state == beFailing {
		return false, nil
	}
	select {
	case b.pool <- struct{}{}:
		defer func() { <-b.pool }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	d := time.Duration((0.8 + 0.4*rand.Float64()) * float64(workTime))
	if state == beSlow {
		d *= slowdown
	}
	select {
	case <-time.After(d):
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// ServeHTTP greets.
func (b *backend) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch ok, err := b.work(req.Context(), req.URL.RawQuery); {
	case err != nil: // nobody waits for the answer
	case !ok: // 500 would be the application's word, which zerohop passes on instead of asking elsewhere
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	default:
		_, _ = fmt.Fprintf(w, "hello from %s\n", b.name)
	}
}

// Say greets over gRPC.
func (b *backend) Say(ctx context.Context, req *echopb.SayRequest) (*echopb.SayReply, error) {
	switch ok, err := b.work(ctx, req.GetText()); {
	case err != nil:
		return nil, status.FromContextError(err).Err()
	case !ok:
		return nil, status.Error(codes.Unavailable, "out of order")
	}
	return &echopb.SayReply{Text: "hello", Node: b.name}, nil
}
