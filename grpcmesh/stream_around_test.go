package grpcmesh

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/echopb"
	"github.com/zerohop/zerohop/resilience"
)

// both runs a test with streams that are gRPC's own, and with streams that may be repeated.
func both(t *testing.T, test func(t *testing.T, spec zerohop.Spec)) {
	for name, spec := range map[string]zerohop.Spec{"plain": unlimited, "repeatable": repeatable} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, spec) }) })
	}
}

// A client that does not read what a stream has for it holds up no other stream of the connection, and misses nothing.
func TestSlowReceiverHoldsUpNobody(t *testing.T) {
	both(t, func(t *testing.T, spec zerohop.Spec) {
		const messages = 1000 // a kilobyte each, which is more than gRPC takes in advance
		pad := strings.Repeat("x", 1<<10)
		sent := 0
		b := setUpStreams(t, 1, zerohop.Config{Spec: spec}, func(_ string, s grpc.ServerStream) error {
			text, err := hear(s)
			if err != nil {
				return err
			}
			if text == "few" {
				return s.SendMsg(&echopb.SayReply{Text: text})
			}
			for ; sent < messages; sent++ {
				if err := s.SendMsg(&echopb.SayReply{Text: fmt.Sprint(sent, pad)}); err != nil {
					return err
				}
			}
			return nil
		})
		slow := b.open(t, bidi)
		_ = slow.SendMsg(say("many"))
		synctest.Wait()
		if sent == 0 || sent == messages {
			t.Fatalf("the server sent %d messages that nobody reads, want some of %d", sent, messages)
		}
		start := time.Now()
		for range 100 {
			s := b.open(t, bidi)
			_ = s.SendMsg(say("few"))
			if text, err := hear(s); text != "few" || err != nil {
				t.Fatalf("RecvMsg() = %q, %v", text, err)
			}
			if _, err := hear(s); !isEOF(err) {
				t.Fatalf("RecvMsg() = %v, want EOF", err)
			}
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("others took %v", took)
		}
		for i := range messages {
			if text, err := hear(slow); text != fmt.Sprint(i, pad) || err != nil {
				t.Fatalf("message %d = %.10q, %v", i, text, err)
			}
		}
		if _, err := hear(slow); !isEOF(err) {
			t.Errorf("RecvMsg() = %v, want EOF", err)
		}
		synctest.Wait()
		b.idle(t)
	})
}

// Header waits for the headers, and for nothing else. Those who send meanwhile need not wait for it.
func TestHeaderWaits(t *testing.T) {
	both(t, func(t *testing.T, spec zerohop.Spec) {
		b := setUpStreams(t, 1, zerohop.Config{Spec: spec}, func(_ string, s grpc.ServerStream) error {
			time.Sleep(5 * time.Second)
			_ = s.SendHeader(nil)
			time.Sleep(5 * time.Second)
			_, _ = read(s, 10)
			return nil
		})
		s, start := b.open(t, bidi), time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 10 {
				_ = s.SendMsg(say("hello"))
			}
			if took := time.Since(start); took > 0 {
				t.Errorf("SendMsg took %v", took)
			}
		}()
		md, err := s.Header()
		if took := time.Since(start); md == nil || err != nil || took != 5*time.Second {
			t.Errorf("Header() = %v, %v after %v, want headers after 5s", md, err, took)
		}
		<-done
		if _, err := hear(s); !isEOF(err) || time.Since(start) != 10*time.Second {
			t.Errorf("RecvMsg() = %v after %v, want EOF after 10s", err, time.Since(start))
		}
	})
}

// The first message binds a stream to its server.
func TestStreamsAreNotRepeatedAfterAMessage(t *testing.T) {
	for name, desc := range map[string]grpc.StreamDesc{"watch": watch1, "bidi": bidi} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c tally
				b := setUpStreams(t, 3, zerohop.Config{Hooks: c.hooks(), Spec: repeatable}, func(_ string, s grpc.ServerStream) error {
					_, _ = hear(s)
					_ = s.SendMsg(&echopb.SayReply{Text: "first"})
					return errUnavailable
				})
				calls := c.begun
				s := b.open(t, desc)
				if err := s.SendMsg(say("hello")); err != nil {
					t.Fatal(err)
				}
				if text, err := hear(s); text != "first" || err != nil {
					t.Errorf("RecvMsg() = %q, %v", text, err)
				}
				if _, err := hear(s); status.Code(err) != codes.Unavailable {
					t.Errorf("RecvMsg() = %v, want UNAVAILABLE", err)
				}
				if err := s.CloseSend(); err != nil {
					t.Errorf("CloseSend() = %v: it has nothing to say about the stream", err)
				}
				synctest.Wait()
				if got := c.settled(t, calls+1); got.Attempts != 1 || got.Outcome != resilience.Failure {
					t.Errorf("CallDone got %+v, want a failure after one attempt", got)
				}
			})
		})
	}
}

// However long a stream is silent, it gets no backup.
func TestStreamsGetNoBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := repeatable
		spec.Defaults.Backup = zerohop.Backup{Mode: zerohop.On, Min: time.Millisecond}
		var c tally
		b := setUpStreams(t, 3, zerohop.Config{Hooks: c.hooks(), Spec: spec}, func(_ string, s grpc.ServerStream) error {
			time.Sleep(time.Minute)
			return s.SendMsg(&echopb.SayReply{Text: "late"})
		})
		calls := c.begun
		for _, desc := range []grpc.StreamDesc{bidi, upload, watch1} {
			s := b.open(t, desc)
			_ = s.SendMsg(say("hello"))
			_ = s.CloseSend()
			if text, err := hear(s); text != "late" || err != nil {
				t.Errorf("RecvMsg() = %q, %v", text, err)
			}
			if _, err := hear(s); desc.ServerStreams && !isEOF(err) {
				t.Errorf("RecvMsg() = %v, want EOF", err)
			}
			synctest.Wait()
			if calls++; c.settled(t, calls).Attempts != 1 {
				t.Errorf("%+v: %d attempts, want 1", desc, c.settled(t, calls).Attempts)
			}
		}
	})
}

// counter is a stats handler that counts events by type.
type counter struct {
	mu     sync.Mutex // guards events
	events map[string]int
}

func (*counter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*counter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*counter) HandleConn(context.Context, stats.ConnStats)                       {}
func (c *counter) HandleRPC(_ context.Context, s stats.RPCStats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events[fmt.Sprintf("%T", s)]++
	if p, ok := s.(*stats.OutPayload); ok && p.CompressedLength < p.Length {
		c.events["compressed"]++
	}
}

// Stats handlers see each attempt begin, send and end, and what is sent again is compressed again.
func TestRepeatedStreamsAreSeenAndCompressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := []string{strings.Repeat("a", 1000), strings.Repeat("b", 1000)}
		var e executed
		stat := &counter{events: map[string]int{}}
		b := setUpStreams(t, 3, zerohop.Config{Spec: repeatable}, func(node string, s grpc.ServerStream) error {
			got, _ := read(s, 100)
			if e.add(node, s, got) < 3 {
				return errUnavailable
			}
			return s.SendMsg(&echopb.SayReply{Text: "done"})
		}, grpc.WithStatsHandler(stat), grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
		synctest.Wait()
		stat.events = map[string]int{}
		s := b.open(t, bidi)
		for _, text := range told {
			_ = s.SendMsg(say(text))
		}
		_ = s.CloseSend()
		if text, err := hear(s); text != "done" || err != nil {
			t.Fatalf("RecvMsg() = %q, %v", text, err)
		}
		if _, err := hear(s); !isEOF(err) {
			t.Errorf("RecvMsg() = %v, want EOF", err)
		}
		for _, x := range e.list {
			if !slices.Equal(x.told, told) {
				t.Errorf("%s was told %d messages, want both", x.node, len(x.told))
			}
		}
		synctest.Wait()
		for event, want := range map[string]int{"*stats.Begin": 3, "*stats.End": 3, "*stats.OutPayload": 6, "compressed": 6, "*stats.InPayload": 1} {
			if got := stat.events[event]; got != want {
				t.Errorf("%s: %d, want %d", event, got, want)
			}
		}
	})
}

// However large or small messages are, what is kept of a stream is within its bound.
func TestReplayMemoryIsBounded(t *testing.T) {
	const streams = 100
	for _, size := range []int{0, 1, 100, 5000, 60 << 10, 1 << 20} {
		logs, m := make([]replayLog, streams), say(strings.Repeat("x", size))
		before := heap()
		for i := range logs {
			for logs[i].add(m) {
			}
		}
		got := (heap() - before) / streams
		if kept := len(logs[0].messages); (kept > 0) != (size < maxReplay) || got > maxReplay*5/4 {
			t.Errorf("messages of %d bytes: %d are kept in %d bytes, want at most %d", size, kept, got, maxReplay)
		}
		runtime.KeepAlive(logs)
	}
}

func heap() int {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int(s.HeapAlloc)
}
