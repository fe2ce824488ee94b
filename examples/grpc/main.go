// Command grpc shows gRPC on a mesh from end to end, with generated code and nothing but this process: a client that
// calls a service by its name over a plain *grpc.ClientConn, and three instances of the service, of which one breaks and
// one is taken away while calls run.
//
//	go run ./examples/grpc
//
// It prints (which instance does what differs from run to run, and how many attempts it takes):
//
//	100 calls: all answered in 100 attempts
//	a breaks
//	100 calls: all answered in 101 attempts
//	  one of them: first attempt to a, Unavailable; retry to c, OK
//	b leaves
//	100 calls: all answered in 101 attempts
//	a is repaired
//	watching: 100 pieces
//	an order of 30 leaves 70
//	watching: 70 pieces
package main

import (
	"context"
	"fmt"
	"log"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/examples/grpc/stockpb"
	"github.com/zerohop/zerohop/grpcmesh"
)

func main() {
	shared := &store{pieces: 100, changed: make(chan struct{})}
	instances := map[string]*instance{} // by address
	var endpoints []discovery.Endpoint
	for _, name := range []string{"a", "b", "c"} {
		i := start(name, shared)
		instances[i.addr] = i
		endpoints = append(endpoints, discovery.Endpoint{Addr: i.addr})
	}

	// In earnest the instances are found by package discovery/consul or the like.
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"stock": endpoints}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	conn, err := grpc.NewClient(grpcmesh.Target("stock"),
		append(grpcmesh.DialOptions(mesh), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := stockpb.NewStockClient(conn)

	busiest := count(client, instances, false)
	busiest.broken.Store(true)
	fmt.Println(busiest.name, "breaks")
	next := count(client, instances, true)
	fmt.Println(next.name, "leaves")
	left := make(chan error, 1)
	go func() { left <- next.leave() }()
	count(client, instances, false)
	if err := <-left; err != nil {
		log.Fatal(err)
	}
	busiest.broken.Store(false)
	fmt.Println(busiest.name, "is repaired")
	watch(client)
}

// count asks a hundred times how much is in stock, or more often if it wants to see a call that was repeated. It tells how
// that went, and returns who answered most.
func count(client stockpb.StockClient, instances map[string]*instance, repeated bool) (busiest *instance) {
	calls, attempts, example := 0, 0, ""
	answers := map[*instance]int{}
	for ; calls < 100 || repeated && example == ""; calls++ {
		ctx, report := zerohop.WithReport(context.Background())
		if _, err := client.Count(ctx, &stockpb.CountRequest{Article: "chair"}); err != nil {
			log.Fatal(err)
		}
		made := report.Calls()[0].Attempts
		attempts += len(made)
		i := instances[made[len(made)-1].Addr]
		if answers[i]++; busiest == nil || answers[i] > answers[busiest] {
			busiest = i
		}
		if len(made) == 2 && made[0].Err != nil {
			example = fmt.Sprintf("%s attempt to %s, %v; %s to %s, %v", made[0].Cause, instances[made[0].Addr].name,
				codes.Code(made[0].Status), made[1].Cause, i.name, codes.Code(made[1].Status))
		}
	}
	fmt.Printf("%d calls: all answered in %d attempts\n", calls, attempts)
	if example != "" {
		fmt.Println("  one of them:", example)
	}
	return busiest
}

// watch follows the stock while something is taken out of it.
func watch(client stockpb.StockClient) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stream, err := client.Watch(ctx, &stockpb.CountRequest{Article: "chair"})
	if err != nil {
		log.Fatal(err)
	}
	next := func() {
		now, err := stream.Recv()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("watching: %d pieces\n", now.GetPieces())
	}
	next()
	// It is not declared as safe to repeat, so it is sent once.
	reply, err := client.Order(ctx, &stockpb.OrderRequest{Article: "chair", Pieces: 30})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("an order of 30 leaves %d\n", reply.GetLeft())
	next()
}

// store is what the instances share.
type store struct {
	mu      sync.Mutex // guards what follows
	pieces  int64
	changed chan struct{} // closed at the next change
}

func (s *store) look() (pieces int64, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pieces, s.changed
}

func (s *store) take(n int64) (left int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pieces -= n
	close(s.changed)
	s.changed = make(chan struct{})
	return s.pieces
}
