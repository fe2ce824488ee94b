package httpmesh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// strictBody hands out its content in chunks of random size and notes what readers of a body must not do.
type strictBody struct {
	t       testing.TB
	content []byte
	chunk   int
	end     error // after the content; io.EOF may come with it
	busy    atomic.Bool
	closed  atomic.Int32
	late    atomic.Int32 // how many reads may come after Close
	next    int64        // of a simple generator, as only one may read at a time
}

func (b *strictBody) Read(p []byte) (int, error) {
	if !b.busy.CompareAndSwap(false, true) {
		b.t.Error("two at a time read the body")
	}
	defer b.busy.Store(false)
	if b.closed.Load() > 0 && b.late.Add(-1) < 0 {
		b.t.Error("the body was read after it was closed")
	}
	b.next = (b.next*1103515245 + 12345) % (1 << 31)
	n := copy(p[:min(len(p), 1+int(b.next>>8)%b.chunk)], b.content)
	b.content = b.content[n:]
	if len(b.content) > 0 || n > 0 && b.next&1 == 0 {
		return n, nil
	}
	return n, b.end
}

func (b *strictBody) Close() error { b.closed.Add(1); return nil }

// drink reads up to n bytes in pieces.
func drink(r io.Reader, n, piece int) ([]byte, error) {
	var got []byte
	buf := make([]byte, piece)
	for len(got) < n {
		k, err := r.Read(buf[:min(piece, n-len(got))])
		got = append(got, buf[:k]...)
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

// checkReplay makes attempts that read some of the body and fail, while transports of failed ones read on.
func checkReplay(t *testing.T, seed uint64, size, limit, chunk, piece int) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(rnd.Uint32())
	}
	src := &strictBody{t: t, content: content, chunk: chunk, end: io.EOF, next: int64(seed % (1 << 31))}
	r := &replay{src: src}
	var late sync.WaitGroup
	failures, answer := rnd.IntN(resilience.MaxAttempts), -1
	for i := range failures + 1 {
		p := r.begin(t.Context(), i, limit, false)
		if p == nil {
			if i == 0 || !r.exhausted() {
				t.Fatalf("attempt %d got no body, and the limit of %d was not passed", i, limit)
			}
			break
		}
		if i == failures {
			answer = i
			got, err := io.ReadAll(io.MultiReader(p)) // not its WriteTo, if it had one
			if err != nil || !bytes.Equal(got, content) {
				t.Fatalf("attempt %d read %d bytes, %v, want all %d", i, len(got), err, size)
			}
		} else {
			n := rnd.IntN(size + 2)
			if got, err := drink(p, n, piece); !bytes.Equal(got, content[:len(got)]) || err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("attempt %d read other bytes, %v", i, err)
			}
			if rnd.IntN(2) == 0 {
				p.Close()
			}
			if more := rnd.IntN(size + 2); rnd.IntN(2) == 0 {
				late.Go(func() { // as net/http may, although RoundTrip has returned
					if got, _ := drink(p, more, piece); len(got) > 0 && !bytes.Contains(content, got) {
						t.Error("a late reader read other bytes")
					}
				})
			}
			if rnd.IntN(2) == 0 {
				r.retire(i)
			}
		}
	}
	r.end(answer)
	late.Wait()
	if answer >= 0 {
		if n := src.closed.Load(); n != 0 && !r.lost {
			t.Errorf("the body was closed %d times before the transport did", n)
		}
		r.parts[answer].Close()
	}
	if n := src.closed.Load(); n != 1 {
		t.Errorf("the body was closed %d times in the end, want once", n)
	}
	if cap(r.kept) > limit {
		t.Errorf("%d bytes are kept, want at most %d", cap(r.kept), limit)
	}
}

func TestReplayGivesEveryAttemptTheSameBytes(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		checkReplay(t, seed, rnd.IntN(5000), []int{0, 100, 2000, 5000, replayLimit}[rnd.IntN(5)], 1+rnd.IntN(3000), 1+rnd.IntN(3000))
	}
}

func FuzzReplay(f *testing.F) {
	f.Add(uint64(1), uint16(3000), uint16(3000), uint16(100), uint16(512))
	f.Add(uint64(2), uint16(0), uint16(0), uint16(1), uint16(1))
	f.Add(uint64(3), uint16(4096), uint16(4095), uint16(4096), uint16(4096))
	f.Fuzz(func(t *testing.T, seed uint64, size, limit, chunk, piece uint16) {
		checkReplay(t, seed, int(size%8192), int(limit), 1+int(chunk%8192), 1+int(piece%8192))
	})
}

func TestReplayWaitsForAReadButNotForEver(t *testing.T) {
	for _, c := range []struct {
		name          string
		takes, waited time.Duration
		cancel        time.Duration
		want          bool
	}{
		{"short", 20 * time.Millisecond, 20 * time.Millisecond, time.Hour, true},
		{"long", time.Second, replayWait, time.Hour, false},
		{"canceled", time.Second, 10 * time.Millisecond, 10 * time.Millisecond, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			src := readerFunc(func(p []byte) (int, error) {
				time.Sleep(c.takes)
				return copy(p, "x"), io.EOF
			})
			r := &replay{src: io.NopCloser(src)}
			first := r.begin(t.Context(), 0, replayLimit, false)
			go func() { _, _ = first.Read(make([]byte, 10)) }()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), c.cancel)
			defer cancel()
			start := time.Now()
			second := r.begin(ctx, 1, 0, false)
			if got := time.Since(start); (second != nil) != c.want || got != c.waited {
				t.Errorf("%s: second attempt gets the body: %v after %v, want %v after %v", c.name, second != nil, got, c.want, c.waited)
			}
			if second != nil {
				if got, err := io.ReadAll(second); string(got) != "x" || err != nil {
					t.Errorf("%s: second attempt read %q, %v", c.name, got, err)
				}
			}
			if n, err := first.Read(make([]byte, 10)); !errors.Is(err, errRetired) {
				t.Errorf("%s: the first attempt read on: %d, %v", c.name, n, err)
			}
			time.Sleep(c.takes)
		})
	}
}

func TestReplayLetsAttemptsJoinOnlyWhenAllIsKept(t *testing.T) {
	r := &replay{src: io.NopCloser(bytes.NewReader([]byte("content")))}
	first := r.begin(t.Context(), 0, replayLimit, false)
	_, _ = drink(first, 3, 3)
	if r.begin(t.Context(), 1, 0, true) != nil {
		t.Error("an attempt joined before the body was read")
	}
	if got, err := io.ReadAll(first); string(got) != "tent" || err != nil {
		t.Errorf("the first attempt read %q, %v, want the rest", got, err)
	}
	second := r.begin(t.Context(), 1, 0, true)
	if second == nil {
		t.Fatal("no attempt can join although the whole body was read")
	}
	if got, err := io.ReadAll(second); string(got) != "content" || err != nil {
		t.Errorf("the second attempt read %q, %v, want all", got, err)
	}
	if first.retired {
		t.Error("the first attempt may not read any more")
	}
}

func TestReplayClosesTheBodyWhenNobodyReadsIt(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name  string
		limit int
		do    func(r *replay, p *part)
		want  int32
	}{
		{"attempt failed, another may follow", 10, func(_ *replay, p *part) { p.Close() }, 0},
		{"nothing was kept", 0, func(_ *replay, p *part) { _, _ = drink(p, 1, 1); p.Close() }, 1},
		{"nothing was read", 0, func(_ *replay, p *part) { p.Close() }, 0},
		{"failed", 10, func(r *replay, p *part) { _, _ = drink(p, 1, 1); r.end(-1) }, 1},
		{"failed, then closed", 10, func(r *replay, p *part) { r.end(-1); p.Close(); p.Close() }, 1},
		{"answered, upload goes on", 10, func(r *replay, _ *part) { r.end(0) }, 0},
		{"answered, upload done", 10, func(r *replay, p *part) { r.end(0); _, _ = io.ReadAll(p); p.Close() }, 1},
		{"never sent", 10, func(r *replay, p *part) { p.replay = nil; r.end(-1) }, 1},
	} {
		src := &strictBody{t: t, content: make([]byte, 5), chunk: 5, end: broken}
		r := &replay{src: src}
		c.do(r, r.begin(t.Context(), 0, c.limit, false))
		if got := src.closed.Load(); got != c.want {
			t.Errorf("%s: body closed %d times, want %d", c.name, got, c.want)
		}
		r.end(0)
		if r.begin(t.Context(), 1, 0, false) != nil {
			t.Errorf("%s: an attempt began after the end", c.name)
		}
	}
}

// A read that hangs is ended by closing the body, if its transport did that, and else waited for.
func TestReplayClosesABodyThatIsBeingRead(t *testing.T) {
	for _, abandoned := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			pr, pw := io.Pipe()
			r := &replay{src: pr}
			p := r.begin(t.Context(), 0, replayLimit, false)
			done := make(chan error, 1)
			go func() {
				_, err := p.Read(make([]byte, 1))
				done <- err
			}()
			synctest.Wait()
			if abandoned {
				p.Close()
			}
			r.end(-1)
			synctest.Wait()
			if abandoned != (len(done) == 1) {
				t.Errorf("abandoned %v: the read has ended: %v", abandoned, len(done) == 1)
			}
			if !abandoned {
				_, _ = pw.Write([]byte("x"))
			}
			<-done
			if _, err := pw.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("abandoned %v: writing to the body: %v, want %v", abandoned, err, io.ErrClosedPipe)
			}
		})
	}
}
