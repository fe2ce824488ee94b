package grpcmesh

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
)

// call is a random call of a client.
func (s *storm) call(t *testing.T, id uint64) {
	r := rand.New(rand.NewPCG(s.seed, id<<8+255))
	kinds := []grpc.StreamDesc{{}, upload, watch1, bidi, bidi, bidi}
	a := &account{
		kind: kinds[r.IntN(len(kinds))], repeatable: r.IntN(4) > 0,
		finished: make(chan struct{}), attempts: map[int]int{},
	}
	name := strconv.FormatUint(id, 10)
	s.mu.Lock()
	s.calls[name] = a
	s.mu.Unlock()
	acts := []string{"", "", "", "", "", "reply", "head", "fail", "kill", "reset", "error", "end"}
	timeout := time.Minute
	if r.IntN(4) == 0 {
		timeout, a.gaveUp = time.Duration(r.Int64N(int64(30*time.Millisecond))), true
		acts = append(acts, "hang")
	}
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), idKey, name), timeout)
	defer cancel()
	if a.repeatable {
		ctx = zerohop.WithCall(ctx, zerohop.CallOptions{Idempotent: zerohop.On})
	}
	texts := make([]string, 1)
	if a.kind.ClientStreams {
		texts = make([]string, r.IntN(8))
	}
	for i := range texts {
		texts[i] = fmt.Sprint(i, " ", acts[r.IntN(len(acts))])
	}
	wait := grpc.WaitForReady(r.IntN(4) > 0)
	if !a.kind.ClientStreams && !a.kind.ServerStreams {
		defer close(a.finished)
		var reply echopb.SayReply
		var trailer metadata.MD
		a.sent, a.closed = 1, true
		if a.err = s.conn.Invoke(ctx, "/orders.Orders/Any", say(texts[0]), &reply, wait, grpc.Trailer(&trailer)); a.err == nil {
			a.heard = []string{reply.Text}
		}
		a.by = trailer["execution"]
		return
	}
	cs, err := s.conn.NewStream(ctx, &a.kind, "/orders.Orders/Any", wait, grpc.OnFinish(func(error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if a.finishes++; a.finishes == 1 {
			close(a.finished)
		}
	}))
	if err != nil {
		a.err = err
		return
	}
	c := &conversation{storm: s, account: a, ClientStream: cs, cancel: cancel}
	sender := rand.New(rand.NewPCG(r.Uint64(), 0))
	if r.IntN(2) == 0 {
		var wg sync.WaitGroup
		wg.Go(func() { c.send(sender, texts) })
		defer wg.Wait()
	} else {
		c.send(sender, texts)
	}
	c.receive(t, r)
}

// conversation is the client's side of a stream.
type conversation struct {
	*storm
	*account
	grpc.ClientStream
	cancel func()
}

// bind notes that the stream may not be repeated any more.
func (c *conversation) bind() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bound = true
}

// giveUp ends the stream for its client.
func (c *conversation) giveUp() {
	c.mu.Lock()
	c.gaveUp = true
	c.mu.Unlock()
	c.cancel()
}

// wait does nothing for a while.
func (c *conversation) wait(r *rand.Rand) {
	if c.pause != nil && r.IntN(4) == 0 {
		c.pause(time.Duration(r.Int64N(int64(20 * time.Millisecond))))
	}
}

func (c *conversation) header() {
	if md, err := c.Header(); md != nil && err == nil {
		c.bind()
	}
}

func (c *conversation) send(r *rand.Rand, texts []string) {
	stop, look := r.IntN(12), r.IntN(40)
	for i, text := range texts {
		if c.wait(r); i == look {
			c.Context()
			c.bind()
		}
		m := say(text)
		if i == stop {
			c.giveUp()
			return
		}
		if err := c.SendMsg(m); err != nil {
			_ = c.CloseSend()
			return
		}
		m.Text = "changed" // it was sent
		c.sent = i + 1
	}
	c.wait(r)
	_ = c.CloseSend()
	c.closed = true
	if r.IntN(4) == 0 {
		c.header()
	}
}

func (c *conversation) receive(t *testing.T, r *rand.Rand) {
	if r.IntN(6) == 0 {
		c.header()
	}
	for stop := r.IntN(20); ; stop-- {
		c.wait(r)
		if stop == 0 {
			c.giveUp()
			c.err = context.Canceled
			return
		}
		text, err := hear(c)
		if c.err = err; err != nil {
			break
		}
		c.bind()
		c.heard = append(c.heard, text)
		if !c.kind.ServerStreams {
			break
		}
	}
	c.by = c.Trailer()["execution"]
	if err := c.RecvMsg(&echopb.SayReply{}); err == nil {
		t.Errorf("a message after the end: %+v", c.account)
	}
}
