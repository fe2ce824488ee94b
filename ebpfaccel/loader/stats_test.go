//go:build linux

package loader

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/zerohop/zerohop/ebpfaccel"
)

// since returns what the Stats have more than before.
func since(before ebpfaccel.Stats) ebpfaccel.Stats {
	now := ebpfaccel.ReadStats()
	now.Accelerated -= before.Accelerated
	now.RedirectedBytes -= before.RedirectedBytes
	now.TCPBytes -= before.TCPBytes
	for reason, n := range before.Fallbacks {
		if now.Fallbacks[reason] -= n; now.Fallbacks[reason] == 0 {
			delete(now.Fallbacks, reason)
		}
	}
	return now
}

// write has bytes written and read, in one message.
func write(t *testing.T, from, to net.Conn, n int) {
	t.Helper()
	if _, err := from.Write((&stream{}).fill(make([]byte, n))); err != nil {
		t.Fatal(err)
	}
	read(t, to, n)
}

// reasons lists those that have counted since before.
func reasons(c, before Counters) []string {
	list := func(c Counters) []uint64 {
		return []uint64{c.NoPeer, c.Unread, c.Held, c.Stream, c.Off, c.Full, c.Streams, c.Returned, c.Stranger, c.Refused, c.Elsewhere,
			c.Device, c.OneSided}
	}
	var names []string
	for i, n := range list(c) {
		if n > list(before)[i] {
			names = append(names, [...]string{"no peer", "unread", "held", "stream", "off", "full", "streams", "returned", "stranger",
				"refused", "elsewhere", "device", "one-sided"}[i])
		}
	}
	return names
}

func read(t *testing.T, c net.Conn, n int) {
	t.Helper()
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
}

// addAddress gives another address to the loopback interface of the thread's network namespace.
func addAddress(address [4]byte) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var request struct {
		name    [syscall.IFNAMSIZ]byte
		address syscall.RawSockaddrInet4
		_       [8]byte
	}
	copy(request.name[:], "lo:1")
	request.address = syscall.RawSockaddrInet4{Family: syscall.AF_INET, Addr: address}
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFADDR, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}

func set(t *testing.T, o *accelObjects, settings accelSettings) {
	t.Helper()
	if err := o.Setting.Put(uint32(0), settings); err != nil {
		t.Fatal(err)
	}
}

// Each reason is told by the accelerator of the host and by the process, and no other with it.
func TestReasonsAreToldApart(t *testing.T) {
	small := accelSettings{Limit: 1 << 10, Messages: 100, Hold: 1}
	tests := []struct {
		name     string
		settings accelSettings
		room     uint32 // for so many sockets, 0 for enough
		run      func(t *testing.T, o *accelObjects)
		host     Counters // what is 1 is wanted to have counted, and no other reason
		process  map[ebpfaccel.Reason]uint64
	}{
		{
			name: "no reason", settings: defaults,
			run: func(t *testing.T, _ *accelObjects) {
				client, server := pair(t)
				write(t, client, server, 100)
			},
		},
		{
			name: "the other end did not opt in", settings: defaults,
			run: func(t *testing.T, _ *accelObjects) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				client, server, err := connect(l, new(ebpfaccel.Dialer))
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				defer server.Close()
				write(t, client, server, 100)
			},
			host: Counters{NoPeer: 1}, process: map[ebpfaccel.Reason]uint64{ebpfaccel.ReasonNoPeer: 1},
		},
		{
			name: "it was accepted from one that did not opt in", settings: defaults,
			run: func(t *testing.T, _ *accelObjects) {
				l := listen(t, "127.0.0.1:0")
				client, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				server, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				write(t, client, server, 100)
				write(t, server, client, 100)
			},
			host: Counters{OneSided: 1}, process: map[ebpfaccel.Reason]uint64{ebpfaccel.ReasonNoPeer: 1},
		},
		{
			name: "unread bytes", settings: defaults,
			run: func(t *testing.T, _ *accelObjects) {
				if err := fastOpen(1); err != nil {
					t.Fatal(err)
				}
			},
			host:    Counters{Unread: 1, Returned: 1},
			process: map[ebpfaccel.Reason]uint64{ebpfaccel.ReasonUnread: 1},
		},
		{
			name: "switched off", settings: defaults,
			run: func(t *testing.T, o *accelObjects) {
				client, server := pair(t)
				off := defaults
				off.Off = 1
				set(t, o, off)
				write(t, client, server, 100)
				late, lateServer := pair(t)
				write(t, late, lateServer, 100)
			},
			host: Counters{Off: 1}, process: map[ebpfaccel.Reason]uint64{ebpfaccel.ReasonOff: 3},
		},
		{
			name: "a stranger", settings: defaults,
			run: func(t *testing.T, o *accelObjects) {
				client, server := pair(t)
				var key accelKey
				var conn accelConn
				for all := o.Conns.Iterate(); all.Next(&key, &conn); {
					conn.Ends[1].Snd++
					if err := o.Conns.Put(key, conn); err != nil {
						t.Fatal(err)
					}
				}
				write(t, client, server, 100)
			},
			host: Counters{Stranger: 1, NoPeer: 1}, process: map[ebpfaccel.Reason]uint64{ebpfaccel.ReasonNoPeer: 1},
		},
		{
			name: "a full queue", settings: small,
			run: func(t *testing.T, _ *accelObjects) {
				client, server := pair(t)
				for range 3 {
					if _, err := client.Write(make([]byte, 1<<10)); err != nil {
						t.Fatal(err)
					}
				}
				read(t, server, 3<<10)
			},
			host: Counters{Full: 1, Held: 1}, process: map[ebpfaccel.Reason]uint64{ebpfaccel.ReasonFull: 1},
		},
		{
			name: "a stream", settings: accelSettings{Limit: 1 << 20, Messages: 100, Hold: 100, StreamBytes: 1 << 30, StreamMessages: 2},
			run: func(t *testing.T, _ *accelObjects) {
				client, server := pair(t)
				for range 4 {
					write(t, client, server, 100)
				}
			},
			host: Counters{Streams: 1, Stream: 1}, process: map[ebpfaccel.Reason]uint64{ebpfaccel.ReasonStream: 1},
		},
		{
			name: "another host", settings: defaults,
			run: func(t *testing.T, _ *accelObjects) {
				// An address of this host that is not of loopback stands for one of another host: who dials from it dials as from there.
				if err := inNamespace(func() error {
					if err := addAddress([4]byte{10, 0, 0, 1}); err != nil {
						return err
					}
					l, err := localListener()
					if err != nil {
						return err
					}
					defer l.Close()
					d := &ebpfaccel.Dialer{Dialer: net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}}}
					client, server, err := connect(l, d)
					if err != nil {
						return err
					}
					defer client.Close()
					defer server.Close()
					return call(client, server, 100)
				}); err != nil {
					t.Fatal(err)
				}
			},
			host: Counters{Elsewhere: 1}, process: map[ebpfaccel.Reason]uint64{ebpfaccel.ReasonElsewhere: 2},
		},
		{
			name: "a device", settings: defaults,
			run: func(t *testing.T, _ *accelObjects) {
				bound := func(_, _ string, c syscall.RawConn) (err error) {
					c.Control(func(fd uintptr) {
						err = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, "lo")
					})
					return err
				}
				lc := ebpfaccel.ListenConfig{ListenConfig: net.ListenConfig{Control: bound}}
				l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				client, server, err := connect(l, &ebpfaccel.Dialer{Dialer: net.Dialer{Control: bound}})
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				defer server.Close()
				write(t, client, server, 100)
			},
			host: Counters{Device: 1}, process: map[ebpfaccel.Reason]uint64{ebpfaccel.ReasonDevice: 2},
		},
		{
			name: "no room", settings: defaults,
			room: 1,
			run: func(t *testing.T, _ *accelObjects) {
				client, server := pair(t)
				write(t, client, server, 100)
			},
			host:    Counters{Refused: 1, NoPeer: 1}, // The first one has the room, and no other end there.
			process: map[ebpfaccel.Reason]uint64{ebpfaccel.ReasonRefused: 1, ebpfaccel.ReasonNoPeer: 1},
		},
		{
			name: "too late", settings: defaults,
			run: func(t *testing.T, _ *accelObjects) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				plain, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				ebpfaccel.Wrap(plain).Close()
			},
			process: map[ebpfaccel.Reason]uint64{ebpfaccel.ReasonLate: 1},
		},
	}
	for _, room := range []uint32{65536, 1} {
		t.Run(fmt.Sprintf("room for %d", room), func(t *testing.T) {
			o := load(t, defaults, func(spec *ebpf.CollectionSpec) { spec.Maps[accelMapSockets].MaxEntries = room })
			for _, test := range tests {
				if cmp.Or(test.room, 65536) != room {
					continue
				}
				t.Run(test.name, func(t *testing.T) {
					set(t, o, test.settings)
					before, host := ebpfaccel.ReadStats(), counters(t, o)
					test.run(t, o)
					if got, want := reasons(counters(t, o), host), reasons(test.host, Counters{}); !slices.Equal(got, want) {
						t.Errorf("the host has counted %v, want %v", got, want)
					}
					if got := since(before).Fallbacks; !maps.Equal(got, test.process) {
						t.Errorf("the process is told %v, want %v", got, test.process)
					}
				})
			}
		})
	}
}

// counted counts the bytes that are written.
type counted struct {
	net.Conn
	bytes *atomic.Uint64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.bytes.Add(uint64(n))
	return n, err
}

func (c counted) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// What is counted is what was sent, and what was sent arrives: all of the tests check each byte.
func TestStatsCountTheBytesThatWereSent(t *testing.T) {
	for _, with := range []struct {
		name     string
		settings accelSettings
	}{{"default settings", defaults}, {"much change", churning}} {
		t.Run(with.name, func(t *testing.T) {
			o := load(t, with.settings)
			for name, test := range map[string]func(client, server net.Conn) error{
				"calls": testCalls, "streams": testStreams, "stopped reader": testBackpressure,
				"leaving": func(client, server net.Conn) error { return testLeaving(client, server, 7) },
			} {
				t.Run(name, func(t *testing.T) {
					before, host := ebpfaccel.ReadStats(), counters(t, o)
					var sent atomic.Uint64
					if err := onPair(func(client, server net.Conn) error {
						return test(counted{client, &sent}, counted{server, &sent})
					}); err != nil {
						t.Fatal(err)
					}
					got, now := since(before), counters(t, o)
					t.Logf("%d bytes were sent: %+v", sent.Load(), got)
					if got.RedirectedBytes+got.TCPBytes != sent.Load() || got.RedirectedBytes == 0 || got.Accelerated == 0 {
						t.Errorf("%d bytes were sent, %d of them past TCP and %d over it", sent.Load(), got.RedirectedBytes, got.TCPBytes)
					}
					if n := now.RedirectedBytes - host.RedirectedBytes; n != got.RedirectedBytes {
						t.Errorf("%d bytes past TCP, want %d as the host has counted", got.RedirectedBytes, n)
					}
				})
			}
		})
	}
}

// Open connections are asked when the Stats are read, and what is closed counts once.
func TestStatsGrowWhileConnectionsAreOpen(t *testing.T) {
	load(t, defaults)
	before := ebpfaccel.ReadStats()
	client, server := pair(t)
	for n := 1; n < 4; n++ {
		write(t, client, server, 100)
		if got := since(before); got.Accelerated != 1 || got.RedirectedBytes != uint64(n)*100 || got.TCPBytes != 0 {
			t.Errorf("after %d messages of 100 bytes: %+v", n, got)
		}
	}
	client.Close()
	client.Close()
	if got := since(before); got.Accelerated != 1 || got.RedirectedBytes != 300 || got.TCPBytes != 0 {
		t.Errorf("after Close: %+v", got)
	}
}
