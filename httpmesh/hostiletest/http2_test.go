package hostiletest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// rogue is a server of HTTP/2 that breaks the rules. It is given the first request on a connection after it said hello.
type rogue struct {
	name     string
	settings []http2.Setting
	script   func(p *peer, id uint32)
	// answers says that the call may end with an answer. If not it ends with an error or hangs.
	answers bool
}

// peer is a server at the level of frames.
type peer struct {
	*http2.Framer
	conn net.Conn
}

// head answers a request up to the body.
func (p *peer) head(id uint32, end bool, fields ...string) error {
	return p.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: block(append([]string{":status", "200"}, fields...)...), EndHeaders: true, EndStream: end,
	})
}

// flood repeats what f writes until the client hangs up.
func flood(f func() error) {
	for f() == nil {
	}
}

func rogues() []rogue {
	never := func(*peer, uint32) {}
	return []rogue{
		{name: "frames of no size", settings: []http2.Setting{{ID: http2.SettingMaxFrameSize}}, script: never},
		{name: "frames of no size, later", script: func(p *peer, _ uint32) { p.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize}) }},
		{name: "no window", settings: []http2.Setting{{ID: http2.SettingInitialWindowSize}}, script: never},
		{name: "too large a window", settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1 << 31}}, script: never},
		{name: "no streams", settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams}}, script: never},
		{name: "no streams, later", script: func(p *peer, _ uint32) { p.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams}) }},
		{name: "one stream", settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}, script: never},
		{name: "no headers", settings: []http2.Setting{{ID: http2.SettingMaxHeaderListSize}}, script: never},
		{name: "push enabled", settings: []http2.Setting{{ID: http2.SettingEnablePush, Val: 1}}, script: never},
		{name: "huge header table", settings: []http2.Setting{{ID: http2.SettingHeaderTableSize, Val: 1<<32 - 1}}, script: never},
		{name: "settings flood", script: func(p *peer, _ uint32) {
			flood(func() error { return p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}) })
		}},
		{name: "ping flood", script: func(p *peer, _ uint32) { flood(func() error { return p.WritePing(false, [8]byte{}) }) }},
		{name: "answers to pings never sent", script: func(p *peer, _ uint32) { flood(func() error { return p.WritePing(true, [8]byte{}) }) }},
		{name: "window flood", script: func(p *peer, id uint32) { flood(func() error { return p.WriteWindowUpdate(id, 1) }) }},
		{name: "window overflow", script: func(p *peer, _ uint32) { flood(func() error { return p.WriteWindowUpdate(0, 1<<31-1) }) }},
		{name: "window of nothing", script: func(p *peer, id uint32) { p.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4)) }},
		{name: "priority flood", script: func(p *peer, id uint32) {
			flood(func() error { return p.WritePriority(id, http2.PriorityParam{StreamDep: id + 2}) })
		}},
		{name: "reset flood", script: func(p *peer, id uint32) { flood(func() error { return p.WriteRSTStream(id, http2.ErrCodeCancel) }) }},
		{name: "unknown frames flood", script: func(p *peer, id uint32) {
			flood(func() error { return p.WriteRawFrame(0xfa, 0xff, id, make([]byte, 100)) })
		}},
		{name: "empty data flood", script: func(p *peer, id uint32) {
			p.head(id, false)
			flood(func() error { return p.WriteData(id, false, nil) })
		}},
		{name: "padding flood", script: func(p *peer, id uint32) {
			p.head(id, false)
			flood(func() error { return p.WriteDataPadded(id, false, nil, make([]byte, 255)) })
		}},
		{name: "continuation flood", script: func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(":status", "200")})
			more := block("x", fmt.Sprintf("%01000d", 0))
			flood(func() error { return p.WriteContinuation(id, false, more) })
		}},
		{name: "continuation of nothing", script: func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(":status", "200")})
			flood(func() error { return p.WriteContinuation(id, false, nil) })
		}},
		{name: "early hints flood", script: func(p *peer, id uint32) {
			hints := block(":status", "103", "x", fmt.Sprintf("%01000d", 0))
			flood(func() error {
				return p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: hints, EndHeaders: true})
			})
		}},
		{name: "large header", script: func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(":status", "200")})
			field := block("x", fmt.Sprintf("%01000d", 0)) // once: what this side allocates is counted, too
			for range 3000 {
				p.WriteContinuation(id, false, field)
			}
			p.WriteContinuation(id, true, nil)
		}},
		{name: "broken header", script: func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}},
		{name: "no status", script: func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block("x", "1"), EndHeaders: true, EndStream: true})
		}},
		{name: "headers twice", script: func(p *peer, id uint32) {
			p.head(id, false)
			p.head(id, false)
		}, answers: true},
		{name: "connection header", answers: true, script: func(p *peer, id uint32) { p.head(id, true, "connection", "close", "transfer-encoding", "chunked") }},
		{name: "upgrade", script: func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(":status", "101"), EndHeaders: true})
		}},
		{name: "data before headers", script: func(p *peer, id uint32) { p.WriteData(id, false, []byte("x")) }},
		{name: "data of no stream", script: func(p *peer, _ uint32) { p.WriteData(0, false, []byte("x")) }},
		{name: "data of a later stream", script: func(p *peer, id uint32) { p.WriteData(id+20, false, []byte("x")) }},
		{name: "data of a closed stream", answers: true, script: func(p *peer, id uint32) {
			p.head(id, true)
			flood(func() error { return p.WriteData(id, false, make([]byte, 1000)) })
		}},
		{name: "data beyond the window", script: func(p *peer, id uint32) {
			p.head(id, false)
			flood(func() error { return p.WriteData(id, false, make([]byte, 16<<10)) })
		}},
		{name: "data beyond the length", script: func(p *peer, id uint32) {
			p.head(id, false, "content-length", "1")
			p.WriteData(id, true, []byte("xyz"))
		}},
		{name: "data short of the length", script: func(p *peer, id uint32) {
			p.head(id, false, "content-length", "5")
			p.WriteData(id, true, []byte("xyz"))
		}},
		{name: "push", script: func(p *peer, id uint32) {
			p.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: block(":path", "/"), EndHeaders: true})
		}},
		{name: "frame too large", script: func(p *peer, id uint32) {
			p.head(id, false)
			p.conn.Write([]byte{0xff, 0xff, 0xff, byte(http2.FrameData), 0, 0, 0, 0, byte(id)})
			flood(func() error { _, err := p.conn.Write(make([]byte, 1000)); return err })
		}},
		{name: "reset", script: func(p *peer, id uint32) { p.WriteRSTStream(id, http2.ErrCodeInternal) }},
		{name: "refused stream", script: func(p *peer, id uint32) { p.WriteRSTStream(id, http2.ErrCodeRefusedStream) }},
		{name: "enhance your calm", script: func(p *peer, id uint32) { p.WriteRSTStream(id, http2.ErrCodeEnhanceYourCalm) }},
		{name: "HTTP/1.1 required", script: func(p *peer, id uint32) { p.WriteRSTStream(id, http2.ErrCodeHTTP11Required) }},
		{name: "reset without a stream", script: func(p *peer, _ uint32) { p.WriteRawFrame(http2.FrameRSTStream, 0, 0, make([]byte, 4)) }},
		{name: "goaway before all", script: func(p *peer, _ uint32) { p.WriteGoAway(0, http2.ErrCodeNo, nil) }},
		{name: "goaway after the request", script: func(p *peer, id uint32) { p.WriteGoAway(id, http2.ErrCodeNo, nil) }},
		{name: "goaway with an even stream", script: func(p *peer, _ uint32) { p.WriteGoAway(2, http2.ErrCodeProtocol, nil) }},
		{name: "falling and rising goaway", script: func(p *peer, id uint32) {
			for _, last := range []uint32{1<<31 - 1, id, 0, id + 100} {
				p.WriteGoAway(last, http2.ErrCodeNo, nil)
			}
		}},
		{name: "goaway flood", script: func(p *peer, _ uint32) {
			flood(func() error { return p.WriteGoAway(1<<31-1, http2.ErrCodeNo, make([]byte, 10_000)) })
		}},
		{name: "HTTP/1", script: func(p *peer, _ uint32) { io.WriteString(p.conn, "HTTP/1.1 400 Bad Request\r\n\r\n") }},
		{name: "hang up", script: func(p *peer, _ uint32) { p.conn.Close() }},
	}
}

// playing reads all that a client sends and runs the script for the first request of each connection.
func playing(settings []http2.Setting, script func(p *peer, id uint32)) func(*net.TCPConn) {
	return settled(func(_ *http2.Framer, c *net.TCPConn) {
		in := http2.NewFramer(io.Discard, c)
		out := &peer{http2.NewFramer(c, nil), c}
		out.AllowIllegalWrites = true
		ids := make(chan uint32, 1)
		played := make(chan struct{})
		go func() {
			defer close(played)
			if id, ok := <-ids; ok {
				script(out, id)
			}
		}()
		for sent := false; ; {
			f, err := in.ReadFrame()
			if err != nil {
				break
			}
			if f.Header().Type == http2.FrameHeaders && !sent {
				sent = true
				ids <- f.Header().StreamID
			}
		}
		close(ids)
		c.Close()
		<-played
	}, settings...)
}

// An endpoint that breaks the rules of HTTP/2 costs its callers no more than their time, little memory, and, if there is
// another one, nothing at all.
func TestMalformedFramesAreContained(t *testing.T) {
	const (
		limit     = 100 * time.Millisecond
		maxGrowth = 10 << 20
	)
	leakCheck(t)
	good := serve(t, true, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "healthy") })
	for _, r := range rogues() {
		t.Run(r.name, func(t *testing.T) {
			bad := listen(t, playing(r.settings, r.script))
			alone := connect(t, base(true), zerohop.Policy{Retry: zerohop.Retry{Mode: zerohop.Off}}, bad.addr)
			growth := heapGrowth(func() {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				late, start := lateness(limit), time.Now()
				resp, err := alone.RoundTrip(request(ctx, t, http.MethodGet, "http://orders/", nil))
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if err == nil && !r.answers {
					t.Error("call ended without an error")
				}
				if took := time.Since(start) - <-late; took > limit+500*time.Millisecond {
					t.Errorf("call with a deadline after %v took %v", limit, took)
				}
			})
			if growth > maxGrowth {
				t.Errorf("memory grew by %d MiB, want at most %d", growth>>20, maxGrowth>>20)
			}
			alone.checkIdle(t)
			alone.checkClosed(t, bad)
			if r.answers {
				return
			}

			policy := zerohop.Policy{
				Budget:  zerohop.Budget{Mode: zerohop.Off},
				Backup:  zerohop.Backup{Min: time.Millisecond},
				Retry:   zerohop.Retry{Base: 1, Max: 1},
				Balance: "target",
			}
			var target atomic.Pointer[string] // of first attempts
			target.Store(&good.addr)
			both := connectWith(t, base(true), zerohop.Config{
				Resolver: discovery.Static{"orders": {{Addr: bad.addr}, {Addr: good.addr}}},
				Balancers: map[string]loadbalance.Builder{"target": func(nodes []*loadbalance.Node) loadbalance.Picker {
					return pickerFunc(func(in loadbalance.Info) *loadbalance.Node { return first{*target.Load(), nodes}.Pick(in) })
				}},
				Spec: zerohop.Spec{Defaults: policy},
			})
			alike := zerohop.WithCall(t.Context(), zerohop.CallOptions{Backup: zerohop.Off}) // a backup would go to the bad one
			for range 30 {                                                                   // learns how soon to look elsewhere
				if status, _, err := do(both, request(alike, t, http.MethodGet, "http://orders/", nil)); status != http.StatusOK || err != nil {
					t.Fatalf("call to the good endpoint = %d, %v", status, err)
				}
			}
			target.Store(&bad.addr)
			// What floods its client floods the machine of this test as well: that it is answered is all to ask for.
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			resp, err := both.RoundTrip(request(ctx, t, http.MethodGet, "http://orders/", nil))
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("call with another endpoint = %v, %v", resp, err)
			}
			resp.Body.Close() // an answer whose head was handed over is the one, whatever follows
			both.checkIdle(t)
			both.checkClosed(t, bad)
		})
	}
}

type pickerFunc func(loadbalance.Info) *loadbalance.Node

func (f pickerFunc) Pick(in loadbalance.Info) *loadbalance.Node { return f(in) }

// Whatever frames a server sends, a call ends, and the process lives.
func FuzzHTTP2Frames(f *testing.F) {
	frame := func(kind http2.FrameType, flags http2.Flags, id byte, payload string) string {
		return string([]byte{byte(kind), byte(flags), id, byte(len(payload))}) + payload
	}
	ok := string(block(":status", "200"))
	f.Add([]byte(frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, ok) + frame(http2.FrameData, http2.FlagDataEndStream, 1, "x")))
	f.Add([]byte(frame(http2.FrameHeaders, 0, 1, ok) + frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, "")))
	f.Add([]byte(frame(http2.FrameGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00") + frame(http2.FrameRSTStream, 0, 1, "\x00\x00\x00\x07")))
	f.Add([]byte(frame(http2.FrameSettings, 0, 0, "\x00\x05\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00") + frame(http2.FramePing, 0, 0, "12345678")))
	f.Add([]byte(frame(http2.FramePushPromise, 4, 1, "\x00\x00\x00\x02"+ok) + frame(http2.FrameWindowUpdate, 0, 1, "\x7f\xff\xff\xff")))
	input := make(chan []byte, 1)
	// Three bytes say what kind of frame it is and how long: most mutations of frames are frames again.
	s := listen(f, playing(nil, func(p *peer, _ uint32) {
		data := <-input
		for len(data) >= 4 {
			payload := data[4:][:min(int(data[3]), len(data)-4)]
			if p.WriteRawFrame(http2.FrameType(data[0]), http2.Flags(data[1]), binary.BigEndian.Uint32([]byte{0, 0, 0, data[2]}), payload) != nil {
				return
			}
			data = data[4+len(payload):]
		}
		p.conn.(*net.TCPConn).CloseWrite()
	}))
	c := connect(f, base(true), zerohop.Policy{Retry: zerohop.Retry{Mode: zerohop.Off}}, s.addr)
	f.Fuzz(func(t *testing.T, data []byte) {
		offer(input, data)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, _, err := do(c, request(ctx, t, http.MethodGet, "http://orders/", nil))
		if ctx.Err() != nil {
			t.Errorf("call did not end by itself: %v", err)
		}
		c.checkIdle(t)
		c.CloseIdleConnections()
	})
}
