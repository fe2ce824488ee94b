// Command quickstart shows what zerohop is for. It needs nothing but Go:
//
//	go run ./examples/quickstart
//
// It starts four backends, processes of their own that serve HTTP and gRPC, and a registry that they register
// with. Four clients call them side by side, 150 times a second each: net/http in turn over what the registry
// lists, round_robin of grpc-go, and the same two on a mesh with default settings. Then one backend becomes slow, another one
// fails, and a third one is killed. While it runs, a terminal shows what the callers see (this is without one):
//
//	Phase 2 of 4: Backend b takes 20 times as long, and calls queue up there.
//	                  HTTP                              gRPC
//	              net/http         zerohop           grpc-go         zerohop
//	success        77.09 %        100.00 %           77.06 %        100.00 %
//	p50 latency      11 ms           11 ms             12 ms           12 ms
//	p99 latency     573 ms           16 ms            639 ms           15 ms
//	attempts/call     1.00            1.00              1.00            1.00
//	where calls went
//	  a               25 % ███        31 % ███▊         25 % ███        34 % ████▏
//	  b slow          25 % ███         1 % ▏            25 % ███         1 % ▏
//	  c               25 % ███        33 % ███▉         25 % ███        36 % ████▎
//	  d               25 % ███        36 % ████▎        25 % ███        29 % ███▌
//
// It takes about 20 seconds, and Ctrl-C ends it at any time. What a program does to use zerohop is in the function
// zerohopClients; backend.go says what the backends do.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	backends = 4
	columns  = 4 // HTTP without and with zerohop, gRPC without and with it
)

var names = [backends]string{"a", "b", "c", "d"}

// phase is a part of the story: what happens to which backend.
type phase struct {
	name, note string
	victim     int
	fault      string
}

const beKilled = "killed"

var story = []phase{
	{name: "all healthy", note: "All backends are healthy.", fault: beHealthy},
	{name: "one slow", note: "Backend b takes 20 times as long, and calls queue up there.", victim: 1, fault: beSlow},
	{name: "one failing", note: "Backend c fails at once: 503 over HTTP, UNAVAILABLE over gRPC.", victim: 2, fault: beFailing},
	{name: "one killed", note: "Backend d is killed, and listed until its lease runs out.", victim: 3, fault: beKilled},
}

func main() {
	if name := os.Getenv(nameVariable); name != "" {
		exit(runBackend(name, os.Getenv(registryVariable)))
	}
	length := flag.Duration("phase", 5*time.Second, "length of each of the four phases")
	flag.Parse()
	if *length <= 0 || *length > time.Hour {
		exit(fmt.Errorf("-phase must be more than 0 and at most 1h, got %v", *length))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, newScreen(os.Stdout), *length))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run tells the story. It returns nil when it was told or the user had enough, and leaves no process behind.
func run(user context.Context, out *screen, length time.Duration) error {
	bound := time.Duration(len(story))*(length+deadline) + 10*time.Second
	ctx, cancel := context.WithTimeoutCause(user, bound, fmt.Errorf("not done after %v", bound))
	defer cancel()
	s := newShow(out, length)
	out.open()
	err := s.play(ctx)
	out.close()
	if err != nil && user.Err() == nil {
		return err
	}
	s.end()
	return nil
}
