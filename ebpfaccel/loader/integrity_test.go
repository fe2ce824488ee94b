//go:build linux

package loader

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/zerohop/zerohop/ebpfaccel"
)

// integrity are the ways by which an accelerator of this kind comes to lose, mix up or pile up bytes. Each returns an error if
// it did.
var integrity = []struct {
	name string
	run  func(rounds int) error
	// So many rounds go wrong with the naive program for certain, 0 if it takes luck.
	naive int
}{
	{"fast open", fastOpen, 20},
	{"full backlog", fullBacklog, 0},
	{"first words", firstWords, 0},
	{"namespaces", namespaces, 1},
	{"stopped reader", stoppedReader, 1},
	{"tiny messages to a stopped reader", tinyMessages, 0},
	{"streams", streams, 0},
	{"port reuse", portReuse, 0},
	{"ends", ends, 0},
}

var integrityRounds = map[string]int{
	"fast open": 200, "full backlog": 20, "first words": 300, "namespaces": 20, "stopped reader": 1,
	"tiny messages to a stopped reader": 1, "streams": 2, "port reuse": 3000, "ends": 50,
}

// churning are settings by which connections change between both ways as often as can be.
var churning = accelSettings{Limit: 4 << 10, Messages: 4, Hold: 1}

func TestBytesArriveAsSent(t *testing.T) {
	for _, with := range []struct {
		name     string
		settings accelSettings
	}{{"default settings", defaults}, {"much change", churning}} {
		t.Run(with.name, func(t *testing.T) {
			o := load(t, with.settings)
			for _, test := range integrity {
				t.Run(test.name, func(t *testing.T) {
					noStalls(t)
					before := counters(t, o)
					if err := test.run(integrityRounds[test.name]); err != nil {
						t.Fatal(err)
					}
					if c := counters(t, o); c.RedirectedBytes == before.RedirectedBytes {
						t.Errorf("nothing was redirected: %+v", c)
					}
				})
			}
		})
	}
}

// A suite that the naive program passes would not look where it hurts.
func TestNaiveProgramFails(t *testing.T) {
	loadNaive(t)
	for _, test := range integrity {
		if test.naive == 0 {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			err := test.run(test.naive)
			if err == nil {
				t.Fatal("the naive program kept all bytes in order")
			}
			t.Log(err)
		})
	}
}

func localListener() (net.Listener, error) {
	return (&ebpfaccel.ListenConfig{}).Listen(context.Background(), "tcp4", "127.0.0.1:0")
}

// fastOpen sends data with the SYN, so that the first byte is sent before there is a connection, and reads late.
func fastOpen(rounds int) error {
	return inNamespace(func() error {
		const fastOpen, fastOpenConnect = 23, 30
		option := func(option, value int) func(string, string, syscall.RawConn) error {
			return func(_, _ string, c syscall.RawConn) (err error) {
				c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, option, value) })
				return err
			}
		}
		lc := ebpfaccel.ListenConfig{ListenConfig: net.ListenConfig{Control: option(fastOpen, 64)}}
		l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		d := ebpfaccel.Dialer{Dialer: net.Dialer{Control: option(fastOpenConnect, 1)}}
		for range rounds {
			client, err := d.Dial("tcp4", l.Addr().String())
			if err != nil {
				return err
			}
			client.SetDeadline(time.Now().Add(patience))
			err = writeThenRead(client, func() (net.Conn, error) { return l.Accept() })
			client.Close()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// writeThenRead writes some messages, has the connection accepted, writes more, and only then reads.
func writeThenRead(client net.Conn, accept func() (net.Conn, error)) error {
	var m measuring
	client = m.client(client)
	out, in := stream{seed: 7}, stream{seed: 7}
	b := make([]byte, 1000)
	write := func(n int) error {
		for range n {
			if _, err := client.Write(out.fill(b)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := write(3); err != nil {
		return err
	}
	server, err := accept()
	if err != nil {
		return err
	}
	server = m.server(server)
	defer server.Close()
	server.SetDeadline(time.Now().Add(patience))
	if err := write(3); err != nil {
		return err
	}
	all := make([]byte, out.at)
	if _, err := io.ReadFull(server, all); err != nil {
		return err
	}
	if err := in.check(all); err != nil {
		return err
	}
	// Both ways, when all is read.
	for range 3 {
		if err := write(1); err != nil {
			return err
		}
		if _, err := io.ReadFull(server, b); err != nil {
			return err
		}
		if err := in.check(b); err != nil {
			return err
		}
		if _, err := server.Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(client, b); err != nil {
			return err
		}
	}
	return nil
}

// fullBacklog makes clients that are connected, and write, while the server has no room for their connections.
func fullBacklog(rounds int) error {
	errs := make(chan error, rounds) // A round waits a second for the kernel, so they do it side by side.
	for range rounds {
		go func() { errs <- backlogRound() }()
	}
	var all error
	for range rounds {
		all = errors.Join(all, <-errs)
	}
	return all
}

func backlogRound() error {
	l, err := localListener()
	if err != nil {
		return err
	}
	defer l.Close()
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 1) })
	if err != nil {
		return err
	}
	const clients = 4
	var all [clients]measuring
	errs := make(chan error, 2*clients)
	for i := range clients {
		go func() {
			errs <- func() error {
				client, err := new(ebpfaccel.Dialer).Dial("tcp4", l.Addr().String())
				if err != nil {
					return err
				}
				defer client.Close()
				client.SetDeadline(time.Now().Add(patience))
				client = all[i].client(client)
				s := stream{seed: uint64(i)}
				b := make([]byte, 1000)
				binary.LittleEndian.PutUint64(b, uint64(i))
				if _, err := client.Write(b[:8]); err != nil {
					return err
				}
				for range 40 {
					if _, err := client.Write(s.fill(b)); err != nil {
						return err
					}
					time.Sleep(time.Millisecond) // for the kernel to repeat what it could not accept
				}
				_, err = client.Read(b) // until the server is done
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}()
		}()
	}
	time.Sleep(5 * time.Millisecond) // so that there are too many; right without, too, but then nothing is tested
	for range clients {
		server, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			errs <- func() error {
				defer server.Close()
				server.SetDeadline(time.Now().Add(patience))
				b := make([]byte, 40*1000)
				from := time.Now()
				if _, err := io.ReadFull(server, b[:8]); err != nil {
					return err
				}
				s := stream{seed: binary.LittleEndian.Uint64(b)}
				m := &all[s.seed]
				m.there.read(8, from)
				if _, err := io.ReadFull(m.server(server), b); err != nil {
					return fmt.Errorf("stream %d: %w", s.seed, err)
				}
				return s.check(b)
			}()
		}()
	}
	var joined error
	for range cap(errs) {
		joined = errors.Join(joined, <-errs)
	}
	return joined
}

// firstWords lets the server speak first, the client, and both at a time.
func firstWords(rounds int) error {
	l, err := localListener()
	if err != nil {
		return err
	}
	defer l.Close()
	for i := range rounds {
		client, server, err := connect(l, new(ebpfaccel.Dialer))
		if err != nil {
			return err
		}
		const total = 20_000
		var wg sync.WaitGroup
		errs := make(chan error, 4)
		speak := func(c net.Conn, seed uint64) {
			errs <- sendStream(c, seed, total)
		}
		switch i % 3 {
		case 0:
			speak(server, 1)
			wg.Go(func() { errs <- readStream(client, 1, total, 0) })
			wg.Wait()
			speak(client, 2)
			errs <- readStream(server, 2, total, 0)
		case 1:
			speak(client, 2)
			errs <- readStream(server, 2, total, 0)
			speak(server, 1)
			errs <- readStream(client, 1, total, 0)
		case 2:
			wg.Go(func() { speak(client, 2) })
			wg.Go(func() { speak(server, 1) })
			wg.Wait()
			errs <- readStream(server, 2, total, 0)
			errs <- readStream(client, 1, total, 0)
		}
		client.Close()
		server.Close()
		for range cap(errs) {
			if err := <-errs; err != nil {
				return err
			}
		}
	}
	return nil
}

// namespaces makes the same connection, by its addresses, in two network namespaces. The second one begins at a socket for both
// families, which the naive program does not take, so that it confuses the server's sockets.
func namespaces(rounds int) error {
	for range rounds {
		var conns [2][2]net.Conn // by namespace: client, server
		for i := range conns {
			if err := inNamespace(func() error {
				l, err := (&ebpfaccel.ListenConfig{}).Listen(context.Background(), "tcp4", "127.0.0.1:7001")
				if err != nil {
					return err
				}
				defer l.Close()
				if i == 0 {
					d := &ebpfaccel.Dialer{Dialer: net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7002}}}
					conns[i][0], conns[i][1], err = connect(l, d)
					return err
				}
				if conns[i][0], err = dialMapped(7002, 7001); err != nil {
					return err
				}
				if conns[i][1], err = l.Accept(); err != nil {
					return err
				}
				conns[i][0], conns[i][1] = measured(conns[i][0], conns[i][1])
				return nil
			}); err != nil {
				return err
			}
			for _, c := range conns[i] {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
			}
		}
		errs := make(chan error, 8)
		for i, ends := range conns {
			for side, c := range ends {
				seed := uint64(2*i + side)
				go func() { errs <- sendStream(c, seed, 100_000) }()
				go func() { errs <- readStream(c, seed^1, 100_000, 0) }()
			}
		}
		var all error
		for range cap(errs) {
			err := <-errs
			if err != nil && all == nil { // The others wait for bytes that went elsewhere.
				for _, ends := range conns {
					ends[0].Close()
					ends[1].Close()
				}
			}
			all = errors.Join(all, err)
		}
		if all != nil {
			return all
		}
	}
	return nil
}

// dialMapped connects two ports of 127.0.0.1, by a socket of IPv6.
func dialMapped(from, to int) (net.Conn, error) {
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := ebpfaccel.Control("tcp", "", raw); err != nil {
		return nil, err
	}
	mapped := [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}
	if err := syscall.Bind(fd, &syscall.SockaddrInet6{Addr: mapped, Port: from}); err != nil {
		return nil, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet6{Addr: mapped, Port: to}); err != nil {
		return nil, err
	}
	c, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return ebpfaccel.Wrap(c), nil
}

func onPair(f func(client, server net.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return withPair(ctx, func(client, server net.Conn) error { return f(measured(client, server)) })
}

// stoppedReader writes to a reader that has stopped.
func stoppedReader(rounds int) error {
	for range rounds {
		if err := onPair(testBackpressure); err != nil {
			return err
		}
	}
	return nil
}

// tinyMessages writes bytes one by one, whose cost to the kernel is in their number.
func tinyMessages(int) error {
	return onPair(func(client, server net.Conn) error {
		var s stream
		b := make([]byte, 1)
		for range 20_000 {
			if _, err := client.Write(s.fill(b)); err != nil {
				return err
			}
		}
		if err := client.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			return err
		}
		return readStream(server, 0, 20_000, 0)
	})
}

// streams sends much both ways.
func streams(rounds int) error {
	for range rounds {
		if err := onPair(testStreams); err != nil {
			return err
		}
	}
	return nil
}

// portReuse connects again and again from the same port.
func portReuse(rounds int) error {
	return inNamespace(func() error {
		l, err := localListener()
		if err != nil {
			return err
		}
		defer l.Close()
		d := &ebpfaccel.Dialer{Dialer: net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7003}}}
		b, got := make([]byte, 64), make([]byte, 64)
		for i := range rounds {
			client, server, err := connect(l, d)
			if err != nil {
				return fmt.Errorf("round %d: %w", i, err)
			}
			s := stream{seed: uint64(i)}
			s.fill(b)
			for range 2 {
				for _, c := range [][2]net.Conn{{client, server}, {server, client}} {
					if _, err := c[0].Write(b); err != nil {
						return err
					}
					if _, err := io.ReadFull(c[1], got); err != nil {
						return err
					}
					if string(got) != string(b) {
						return fmt.Errorf("round %d: bytes of another connection", i)
					}
				}
			}
			if i%2 == 0 { // Something is left unread now and then.
				if _, err := server.Write(b); err != nil {
					return err
				}
			}
			// No TIME_WAIT, which would keep the port.
			client.(interface{ SetLinger(int) error }).SetLinger(0)
			client.Close()
			server.Close()
		}
		return nil
	})
}

// ends closes connections in all ways.
func ends(rounds int) error {
	l, err := localListener()
	if err != nil {
		return err
	}
	defer l.Close()
	for i := range rounds {
		client, server, err := connect(l, new(ebpfaccel.Dialer))
		if err != nil {
			return err
		}
		err = func() error {
			defer client.Close()
			defer server.Close()
			switch total := 200_000; i % 4 {
			case 0: // The other direction goes on after a half is closed.
				errs := make(chan error, 1)
				go func() { errs <- errors.Join(sendStream(client, 1, total), readStream(client, 2, total, 0)) }()
				return errors.Join(readStream(server, 1, total, 0), sendStream(server, 2, total), <-errs)
			case 1: // What was written before Close arrives.
				errs := make(chan error, 1)
				go func() { errs <- errors.Join(sendStream(client, 1, total), client.Close()) }()
				return errors.Join(readStream(server, 1, total, 0), <-errs)
			case 2: // A reset ends the other end, at once or after what came before.
				var s stream
				b := make([]byte, 100_000)
				if _, err := client.Write(s.fill(b[:1000])); err != nil {
					return err
				}
				client.(interface{ SetLinger(int) error }).SetLinger(0)
				client.Close()
				n, err := io.ReadFull(server, b)
				if err == nil || isTimeout(err) {
					return fmt.Errorf("read after a reset: %w", err)
				}
				s.at = 0
				return s.check(b[:n])
			default: // Close with unread bytes.
				if _, err := client.Write(make([]byte, 1000)); err != nil {
					return err
				}
				server.Close()
				if _, err := io.Copy(io.Discard, client); isTimeout(err) {
					return err
				}
			}
			return nil
		}()
		if err != nil {
			return fmt.Errorf("way %d: %w", i%4, err)
		}
	}
	return nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Connections keep both ways apart however often they change, with much under way on all of them.
func TestBytesArriveThroughTenThousandChanges(t *testing.T) {
	noStalls(t)
	o := load(t, churning)
	deadline := time.Now().Add(patience)
	for counters(t, o).Returned < 10_000 {
		if time.Now().After(deadline) {
			t.Fatalf("too few changes: %+v", counters(t, o))
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := onPair(testChanges); err != nil {
					t.Error(err)
				}
			})
		}
		if wg.Wait(); t.Failed() {
			return
		}
	}
	t.Logf("%+v", counters(t, o))
}

// testChanges sends bursts that are more than the queue of churning holds, and waits for the answer.
func testChanges(client, server net.Conn) error {
	defer echo(client, server)()
	out, in := stream{seed: 1}, stream{seed: 1}
	b := make([]byte, 6000)
	for range 2000 {
		for at := 0; at < len(b); at += 1000 {
			if _, err := client.Write(out.fill(b[at : at+1000])); err != nil {
				return err
			}
		}
		if _, err := io.ReadFull(client, b); err != nil {
			return err
		}
		if err := in.check(b); err != nil {
			return err
		}
	}
	return nil
}

func TestFullMapLeavesConnectionsPlain(t *testing.T) {
	noStalls(t)
	o := load(t, defaults, func(spec *ebpf.CollectionSpec) {
		spec.Maps[accelMapSockets].MaxEntries = 64
		spec.Maps[accelMapConns].MaxEntries = 64
	})
	l := listen(t, "127.0.0.1:0")
	type ends struct{ client, server net.Conn }
	var all []ends
	defer func() {
		for _, e := range all {
			e.client.Close()
			e.server.Close()
		}
	}()
	for range 1000 {
		client, server, err := connect(l, new(ebpfaccel.Dialer))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ends{client, server})
	}
	for range 3 {
		for i, e := range all {
			s, got := stream{seed: uint64(i)}, make([]byte, 100)
			for _, c := range []ends{e, {e.server, e.client}} {
				if _, err := c.client.Write(s.fill(make([]byte, 100))); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c.server, got); err != nil {
					t.Fatal(err)
				}
				s.at = 0
				if err := s.check(got); err != nil {
					t.Fatal(err)
				}
				s.at = 0
			}
		}
	}
	if c := counters(t, o); c.Refused < 900 || c.RedirectedBytes == 0 {
		t.Errorf("with room for 64 sockets of 2000, whose servers' do not ask if their clients' got none: %+v", c)
	}
}

// To be in the map makes sends slower: who cannot gain anything must not be in it.
func TestSocketsWhoseOtherEndDidNotOptInStayOut(t *testing.T) {
	o := load(t, defaults)
	plain := new(net.Dialer).DialContext
	plainListener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plainListener.Close()
	for _, test := range []struct {
		name string
		l    net.Listener
		dial func(ctx context.Context, network, address string) (net.Conn, error)
		left uint64
	}{
		{"plain client", listen(t, "127.0.0.1:0"), plain, 0},
		{"plain server", plainListener, ebpfaccel.DialContext, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := counters(t, o)
			client, err := test.dial(t.Context(), "tcp", test.l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := test.l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			for n := range 100 {
				if err := call(client, server, 100+n); err != nil {
					t.Fatal(err)
				}
			}
			n, err := countSockets(o.Sockets)
			if c := counters(t, o); err != nil || n != 0 || c.Left-before.Left != test.left || c.RedirectedBytes != 0 {
				t.Errorf("%d sockets are in the map, %v; %+v", n, err, c)
			}
		})
	}
}

// An address of the host is as good as that of loopback.
func TestAllAddressesOfAHostAreWithinIt(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "127.0.0.2:0", "[::1]:0", ":0"} {
		t.Run(address, func(t *testing.T) {
			o := load(t, defaults)
			l, err := (&ebpfaccel.ListenConfig{}).Listen(t.Context(), "tcp", address)
			if err != nil {
				t.Skip(err) // no IPv6
			}
			defer l.Close()
			client, server, err := connect(l, new(ebpfaccel.Dialer))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			defer server.Close()
			if err := call(client, server, 1000); err != nil {
				t.Fatal(err)
			}
			if c := counters(t, o); c.RedirectedBytes != 2000 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// Sockets leave the map while both ends send: what is under way to them at that moment must not be lost.
func TestSocketsOfStreamsLeaveWithoutLoss(t *testing.T) {
	noStalls(t)
	o := load(t, accelSettings{Limit: 1 << 20, Messages: 4096, Hold: 256, StreamBytes: 32 << 10, StreamMessages: 32})
	const connections = 400
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range connections / 4 {
				if err := onPair(func(client, server net.Conn) error { return testLeaving(client, server, i) }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	c := counters(t, o)
	if t.Logf("%+v", c); c.Left < connections/2 || c.RedirectedBytes == 0 {
		t.Errorf("too few have left: %+v", c)
	}
}

// testLeaving streams one way, with messages the other way in between, and then calls both ways.
func testLeaving(client, server net.Conn, round int) error {
	if err := call(client, server, 1+round); err != nil {
		return err
	}
	const total, back = 300_000, 400
	errs := make(chan error, 4)
	send := func(c net.Conn, seed uint64, size, total int) error {
		s := stream{seed: seed}
		b := make([]byte, size)
		for s.at < uint64(total) {
			if _, err := c.Write(s.fill(b[:min(size, total-int(s.at))])); err != nil {
				return err
			}
		}
		return nil
	}
	receive := func(c net.Conn, seed uint64, total int) error {
		b := make([]byte, total)
		if _, err := io.ReadFull(c, b); err != nil {
			return fmt.Errorf("stream %d: %w", seed, err)
		}
		return (&stream{seed: seed}).check(b)
	}
	go func() { errs <- send(client, 1, 3000+round, total) }()
	go func() { errs <- receive(server, 1, total) }()
	go func() { errs <- send(server, 2, 1+round%7, back) }()
	go func() { errs <- receive(client, 2, back) }()
	var all error
	for range cap(errs) {
		all = errors.Join(all, <-errs)
	}
	for n := 1; n < 20_000 && all == nil; n = n*3 + round {
		all = call(client, server, n)
	}
	return all
}

// Connections of different devices may have the same addresses, so that their sockets cannot be told apart in the map.
func TestSocketsBoundToADeviceStayOut(t *testing.T) {
	o := load(t, defaults)
	bound := func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) {
			err = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, "lo")
		})
		return err
	}
	l, err := (&ebpfaccel.ListenConfig{ListenConfig: net.ListenConfig{Control: bound}}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, d := range []*ebpfaccel.Dialer{{}, {Dialer: net.Dialer{Control: bound}}} {
		client, server, err := connect(l, d)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		defer server.Close()
		if err := call(client, server, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if c := counters(t, o); c.RedirectedBytes != 0 {
		t.Errorf("%+v", c)
	}
}
