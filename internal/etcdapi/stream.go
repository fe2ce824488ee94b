package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

const (
	// tick is how often a stream looks whether it was silent, and asks for a sign of life.
	tick = 10 * time.Second
	// silence is how long a stream may be silent. With tick, a server that is gone without a word is found
	// within 35 s. Ten times less would end the streams of a server that is only slow.
	silence = 25 * time.Second
	// oldStream is the age from which the token of a stream may be what is wrong with a request that is denied.
	oldStream = time.Minute
)

// Errors that end a watch.
var (
	ErrSilent     = fmt.Errorf("no sign of life within %v", silence)
	ErrUnanswered = fmt.Errorf("no answer within %v", AnswerTime)
	ErrProtocol   = errors.New("the answer does not fit the requests")
	errBehind     = fmt.Errorf("events of more than %d MiB wait to be read", MaxAnswer>>20)
)

// streams holds the stream that the watches of a connection share, as long as there are any. It belongs to the package so
// that who watches can be a plain value.
var streams = struct {
	sync.Mutex // guards all below
	of         map[*grpc.ClientConn]*stream
}{of: make(map[*grpc.ClientConn]*stream)}

// stream is one call of etcd's Watch that carries all watches of a connection: 200 services cost each side one stream.
// When it breaks all its watches end, and none is resumed: their callers begin them anew.
type stream struct {
	conn   *grpc.ClientConn
	opened time.Time
	end    context.CancelFunc
	done   chan struct{} // closed when all goroutines have ended
	wake   chan struct{} // holds a value if there is something to send
	users  int           // guarded by streams

	mu       sync.Mutex // guards all below; never held together with streams
	outbox   []*pb.WatchRequest
	creating []*subscription // in the order of their requests, which is that of the answers
	active   map[int64]*subscription
	heard    time.Time
	err      error // why it broke
}

// join returns the stream of conn and opens it if there is none. It does not wait. The caller must call leave.
func join(conn *grpc.ClientConn) *stream {
	streams.Lock()
	defer streams.Unlock()
	s := streams.of[conn]
	if s == nil {
		now := time.Now()
		s = &stream{
			conn: conn, opened: now, heard: now,
			done: make(chan struct{}), wake: make(chan struct{}, 1), active: make(map[int64]*subscription),
		}
		// It lives as long as the last of its watches, not only as the first one.
		ctx, end := context.WithCancel(context.Background())
		s.end = end
		streams.of[conn] = s
		go s.run(ctx) // ended and awaited by the last leave
	}
	s.users++
	return s
}

// leave ends the stream if nobody else uses it.
func (s *stream) leave() {
	streams.Lock()
	s.users--
	last := s.users == 0
	if last {
		s.forget()
	}
	streams.Unlock()
	if last {
		s.end()
		<-s.done
	}
}

// retire makes the next watches open another stream if the token of this one may be of the past. Those that have it keep it.
func (s *stream) retire() {
	streams.Lock()
	defer streams.Unlock()
	if time.Since(s.opened) >= oldStream {
		s.forget()
	}
}

// forget makes the next watches open another stream. streams must be locked.
func (s *stream) forget() {
	if streams.of[s.conn] == s {
		delete(streams.of, s.conn)
	}
}

func (s *stream) run(ctx context.Context) {
	defer close(s.done)
	defer s.end()
	late := time.AfterFunc(AnswerTime, s.end)
	// A server that is cut off from its leader would keep the stream and know nothing new.
	call, err := pb.NewWatchClient(s.conn).Watch(clientv3.WithRequireLeader(ctx), CallOptions()...)
	if !late.Stop() {
		err = ErrUnanswered
	}
	if err != nil {
		s.fail(err)
		return
	}
	var receiver sync.WaitGroup
	defer receiver.Wait()
	defer s.end()
	receiver.Go(func() { s.receive(call) })
	s.send(ctx, call)
}

// fail ends the stream and its watches.
func (s *stream) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
		for _, b := range s.creating {
			b.tell()
		}
		for _, b := range s.active {
			b.tell()
		}
	}
	s.mu.Unlock()
	streams.Lock()
	s.forget()
	streams.Unlock()
	s.end()
}

func (s *stream) receive(call pb.Watch_WatchClient) {
	defer func() {
		if v := recover(); v != nil { // of who decodes what the server sent
			s.fail(fmt.Errorf("panic: %v", v))
		}
	}()
	for {
		resp, err := call.Recv()
		if err == nil {
			err = s.deliver(resp)
		}
		if err != nil {
			s.fail(err)
			return
		}
	}
}

// deliver hands an answer to its watch.
func (s *stream) deliver(resp *pb.WatchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
	if !resp.Created {
		b := s.active[resp.WatchId]
		if resp.Canceled {
			delete(s.active, resp.WatchId)
		}
		if b != nil { // else it is gone and the server does not know yet
			b.push(resp)
		}
		return nil
	}
	if len(s.creating) == 0 {
		return ErrProtocol
	}
	b := s.creating[0]
	s.creating = s.creating[1:]
	if resp.Canceled || resp.WatchId < 0 {
		resp.Canceled = true
		b.push(resp)
		return nil
	}
	if s.active[resp.WatchId] != nil {
		return ErrProtocol
	}
	if b.gone {
		s.cancel(resp.WatchId)
		return nil
	}
	b.id, b.created = resp.WatchId, true
	s.active[b.id] = b
	b.push(resp)
	return nil
}

// send sends what is to be sent, and asks for signs of life, until ctx ends.
func (s *stream) send(ctx context.Context, call pb.Watch_WatchClient) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if err := s.probe(now); err != nil {
				s.fail(err)
				return
			}
		case <-s.wake:
		}
		s.mu.Lock()
		requests := s.outbox
		s.outbox = nil
		s.mu.Unlock()
		for _, req := range requests {
			if call.Send(req) != nil {
				<-ctx.Done() // receive gets the reason
				return
			}
		}
	}
}

// probe fails if the stream was silent for too long. If it was silent at all, it begins a watch and ends it: etcd answers
// that in all versions, with whatever it has to tell, and with the permissions of a watch that exists. Servers do not
// answer etcd's request for progress as long as one watch waits for the first change, and not before 3.4.
func (s *stream) probe(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch silent := now.Sub(s.heard); {
	case silent >= silence:
		return ErrSilent
	case silent < tick:
		return nil
	}
	for _, b := range s.active {
		s.create(&subscription{stream: s, gone: true}, &pb.WatchCreateRequest{Key: b.key})
		break
	}
	return nil
}

// create asks for a watch. s.mu must be held.
func (s *stream) create(b *subscription, req *pb.WatchCreateRequest) {
	s.creating = append(s.creating, b)
	s.post(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: req}})
}

// cancel asks for the end of a watch. s.mu must be held.
func (s *stream) cancel(id int64) {
	s.post(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

func (s *stream) post(req *pb.WatchRequest) {
	s.outbox = append(s.outbox, req)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
