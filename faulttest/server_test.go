//go:build unix

package faulttest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/grpcmesh"
	"github.com/zerohop/zerohop/httpmesh"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/internal/porttest"
)

// mode is how a backend behaves. It is changed by a line of its standard input.
type mode string

const (
	healthy mode = "healthy"
	slow    mode = "slow"   // works 20 times as long
	tired   mode = "tired"  // works 5 times as long
	flaky   mode = "flaky"  // refuses a third of the requests with 503 or UNAVAILABLE
	uneven  mode = "uneven" // takes 0.8 s longer with one request in a hundred
	failing mode = "failing"
	hanging mode = "hanging"

	refusing   mode = "refusing"   // refuses all with 503 or UNAVAILABLE, within a millisecond
	collapsing mode = "collapsing" // fails after a while
	busy       mode = "busy"       // refuses after a while with 503 or RESOURCE_EXHAUSTED and asks for a pause
	limited    mode = "limited"    // is busy with 429
)

const (
	slowdown = 20
	fatigue  = 5
	hiccup   = 800 * time.Millisecond
	slack    = 100 * time.Millisecond // the while after which a backend fails or refuses
	rest     = "1"                    // seconds that a busy one asks for
)

// What a backend logs: a line for each, followed by the text of the request if there is one.
const (
	connected = "connected" // a gRPC connection
	began     = "began"     // to handle a request
	refused   = "refused"   // a request

	stoodStill = "stood-still" // the process, from when until when
)

// unlucky is what the texts of gRPC requests begin with that a backend refuses as UNAVAILABLE unless they were sent before.
const unlucky = "unlucky"

// setup is what a backend is told when it starts.
type setup struct {
	HTTP, GRPC string // listen addresses; empty means a free port
	Log        string // file
	Seed       uint64
	Consul     string // address of the agent that it registers itself with; empty means that it does not
	capacity
}

// capacity says how much a backend can do.
type capacity struct {
	Workers, Queue int
	Mean           time.Duration // of the time that a worker needs for a request
	Fixed          bool          // every request takes Mean; else times are exponential
	Stubborn       bool          // requests stay in the queue, and are worked on, when their callers have left
	// Admission decides which requests come as far as the queue. nil means all.
	Admission *zerohop.AdmissionPolicy
}

// server is a backend process: a fixed number of workers behind a queue, as most services are.
type server struct {
	echopb.UnimplementedEchoServer
	setup
	log     *os.File
	mode    atomic.Pointer[mode]
	room    chan struct{} // holds a value for each request that waits or is worked on
	workers chan struct{} // holds a value for each request that is worked on

	owed atomic.Int64 // by how much sleeps were too long
	mu   sync.Mutex   // guards rand
	rand *rand.Rand
}

// serve runs a backend until its standard input ends, which it does at the latest with the test.
func serve(config string) error {
	s := &server{}
	if err := json.Unmarshal([]byte(config), &s.setup); err != nil {
		return err
	}
	m := healthy
	s.mode.Store(&m)
	s.room = make(chan struct{}, s.Workers+s.Queue)
	s.workers = make(chan struct{}, s.Workers)
	s.rand = rand.New(rand.NewPCG(s.Seed, 0))
	var err error
	if s.log, err = os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	h, err := porttest.Again(s.HTTP)
	if err != nil {
		return err
	}
	g, err := porttest.Again(s.GRPC)
	if err != nil {
		return err
	}
	s.GRPC = g.Addr().String()
	if s.Consul != "" {
		return s.serveRegistered(h, g)
	}
	var front http.Handler = s
	var opts []grpc.ServerOption
	if s.Admission != nil {
		a, err := zerohop.NewAdmission(zerohop.AdmissionConfig{Policy: *s.Admission})
		if err != nil {
			return err
		}
		front = httpmesh.NewHandler(s, httpmesh.HandlerOptions{Admission: a})
		opts = (&grpcmesh.Server{Admission: a}).ServerOptions()
	}
	rpc := grpc.NewServer(opts...)
	echopb.RegisterEchoServer(rpc, s)
	ended := make(chan error, 4)
	go func() { ended <- s.watchItself() }()
	go func() { ended <- http.Serve(h, front) }()
	go func() { ended <- rpc.Serve(counted{g, s}) }()
	go func() { ended <- s.obey(os.Stdin) }()
	fmt.Println(h.Addr(), s.GRPC)
	return <-ended
}

// counted logs the connections of a listener.
type counted struct {
	net.Listener
	server *server
}

func (c counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		err = c.server.note(connected, "")
	}
	return conn, err
}

func (s *server) note(what, text string) error {
	_, err := s.log.WriteString(what + " " + text + "\n")
	return err
}

func (s *server) obey(control io.Reader) error {
	lines := bufio.NewScanner(control)
	for lines.Scan() {
		m := mode(lines.Text())
		s.mode.Store(&m)
	}
	return lines.Err()
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	code := s.handle(r.Context(), "")
	if s.pauses(code) {
		w.Header().Set("Retry-After", rest)
	}
	w.WriteHeader(code)
}

// Say answers like the HTTP side: what is an error there is UNAVAILABLE here.
func (s *server) Say(ctx context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	switch code := s.handle(ctx, r.Text); {
	case code == http.StatusOK:
	case s.pauses(code):
		if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", rest+"000")); err != nil {
			return nil, err
		}
		return nil, status.Error(codes.ResourceExhausted, http.StatusText(code))
	default:
		return nil, status.Error(codes.Unavailable, http.StatusText(code))
	}
	return &echopb.SayReply{Text: r.Text, Node: s.GRPC}, nil
}

// pauses reports whether an answer asks for a pause.
func (s *server) pauses(code int) bool {
	m := *s.mode.Load()
	return code != http.StatusOK && (m == busy || m == limited)
}

// Order is Say for requests that may not be repeated.
func (s *server) Order(ctx context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	return s.Say(ctx, r)
}

// Chat answers every message at once.
func (s *server) Chat(stream echopb.Echo_ChatServer) error {
	if err := s.note(began, ""); err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&echopb.SayReply{Text: r.Text, Node: s.GRPC}); err != nil {
			return err
		}
	}
}

// handle works on a request and returns the HTTP status of the answer.
func (s *server) handle(ctx context.Context, text string) int {
	if err := s.note(began, text); err != nil {
		return http.StatusInsufficientStorage
	}
	if strings.HasPrefix(text, unlucky) && len(metadata.ValueFromIncomingContext(ctx, "grpc-previous-rpc-attempts")) == 0 {
		if err := s.note(refused, text); err != nil {
			return http.StatusInsufficientStorage
		}
		return http.StatusServiceUnavailable
	}
	work := s.Mean
	if !s.Fixed {
		work = time.Duration(s.draw(true) * float64(s.Mean))
	}
	switch *s.mode.Load() {
	case slow:
		work *= slowdown
	case tired:
		work *= fatigue
	case flaky:
		if s.draw(false) < 1./3 {
			return http.StatusServiceUnavailable
		}
	case uneven:
		if s.draw(false) < 0.01 {
			work += hiccup
		}
	case failing:
		return http.StatusInternalServerError
	case refusing:
		return http.StatusServiceUnavailable
	case collapsing:
		time.Sleep(slack)
		return http.StatusInternalServerError
	case busy:
		time.Sleep(slack)
		return http.StatusServiceUnavailable
	case limited:
		time.Sleep(slack)
		return http.StatusTooManyRequests
	case hanging:
		<-ctx.Done()
		return http.StatusServiceUnavailable
	}
	select {
	case s.room <- struct{}{}:
		defer func() { <-s.room }()
	default:
		return http.StatusServiceUnavailable
	}
	left := ctx.Done()
	if s.Stubborn {
		left = nil
	}
	select {
	case s.workers <- struct{}{}:
		defer func() { <-s.workers }()
	case <-left: // who has left the queue is not served; work begun goes on to its end
		return http.StatusServiceUnavailable
	}
	s.toil(work)
	return http.StatusOK
}

// toil takes that long, on average: a sleep is always a little too long, by a part of the capacity that shows.
func (s *server) toil(work time.Duration) {
	began := time.Now()
	paid := min(time.Duration(s.owed.Load()), work)
	s.owed.Add(-int64(paid))
	time.Sleep(work - paid)
	s.owed.Add(int64(min(time.Since(began)-(work-paid), 5*time.Millisecond))) // more is a process that was stopped
}

func (s *server) draw(exponential bool) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if exponential {
		return s.rand.ExpFloat64()
	}
	return s.rand.Float64()
}
