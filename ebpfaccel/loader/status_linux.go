package loader

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
)

// Read returns the status of the accelerator that is pinned in the directory, DefaultPins if pins is "". The error is
// [ErrNotUp] if there is none.
func Read(pins string) (Status, error) {
	dir, err := openPins(Config{Pins: pins}.pins(), false)
	if err != nil {
		return Status{}, err
	}
	defer dir.Close()
	return dir.status()
}

func (d *pinDir) status() (Status, error) {
	s := Status{Pins: d.path}
	maps := make(map[string]*ebpf.Map)
	for _, name := range []string{accelMapSetting, accelMapCounts, accelMapSockets} {
		m, err := d.loadMap(name)
		if errors.Is(err, fs.ErrNotExist) {
			return s, fmt.Errorf("%w in %s, or only a part of it", ErrNotUp, d.path)
		} else if err != nil {
			return s, err
		}
		defer m.Close()
		maps[name] = m
	}
	l, err := d.loadLink(eventLink)
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%w in %s, or only a part of it", ErrNotUp, d.path)
	} else if err != nil {
		return s, err
	}
	defer l.Close()
	id, err := cgroupOf(l)
	if err != nil {
		return s, err
	}
	s.Cgroup = cgroupPath(id)
	var settings accelSettings
	if maps[accelMapSetting].ValueSize() != uint32(unsafe.Sizeof(settings)) || maps[accelMapCounts].ValueSize() != uint32(unsafe.Sizeof(accelCounters{})) {
		return s, fmt.Errorf("loader: %s holds another version of the accelerator: Up replaces it", d.path)
	}
	if err := maps[accelMapSetting].Lookup(uint32(0), &settings); err != nil {
		return s, fmt.Errorf("loader: settings: %w", err)
	}
	s.Draining = settings.Off != 0
	if s.Counters, err = readCounters(maps[accelMapCounts]); err != nil {
		return s, err
	}
	s.Sockets, err = countSockets(maps[accelMapSockets])
	return s, err
}

// readCounters adds up what each processor has counted.
func readCounters(m *ebpf.Map) (Counters, error) {
	var all []accelCounters
	var sum Counters
	if err := m.Lookup(uint32(0), &all); err != nil {
		return sum, fmt.Errorf("loader: counters: %w", err)
	}
	for _, c := range all {
		sum.Sockets += c.Sockets
		sum.Accelerated += c.Accelerated
		sum.RedirectedMessages += c.RedirectedMessages
		sum.RedirectedBytes += c.RedirectedBytes
		sum.TCPMessages += c.TcpMessages
		sum.TCPBytes += c.TcpBytes
		sum.NoPeer += c.NoPeer
		sum.Unread += c.Unread
		sum.Held += c.Held
		sum.Stream += c.Stream
		sum.Off += c.Off
		sum.Full += c.Full
		sum.Streams += c.Streams
		sum.Left += c.Left
		sum.Returned += c.Returned
		sum.Refused += c.Refused
		sum.Stranger += c.Stranger
		sum.Elsewhere += c.Elsewhere
		sum.Device += c.Device
		sum.OneSided += c.OneSided
	}
	return sum, nil
}

// countSockets counts the sockets in the map. While they come and go it may miss some.
func countSockets(m *ebpf.Map) (int, error) {
	var n int
	var key accelKey
	var cookie uint64
	all := m.Iterate()
	for all.Next(&key, &cookie) {
		n++
	}
	if err := all.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return n, fmt.Errorf("loader: sockets: %w", err)
	}
	return n, nil
}

// Down takes the accelerator out: no socket joins any more and nothing goes past TCP from now on. Once all that have joined are
// closed, it is gone. If ctx ends before, the rest stays for another Down, and the error tells. With now it does not wait:
// sockets keep what they need of the accelerator for as long as they are open, and nothing is lost in either case.
func Down(ctx context.Context, pins string, now bool) error {
	dir, err := openPins(Config{Pins: pins}.pins(), false)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.lock(); err != nil {
		return err
	}
	if err := dir.drain(ctx, now); err != nil {
		return err
	}
	// Links first: a socket must not join a map that is about to lose its program.
	for _, name := range []string{optInLink, eventLink, tellLink} {
		if err := dir.detach(name); err != nil {
			return err
		}
	}
	for _, name := range []string{accelMapSockets, accelMapConns, accelMapStates, accelMapMarks, accelMapCounts, accelMapSetting} {
		if err := dir.unpin(name); err != nil {
			return err
		}
	}
	if err := os.Remove(dir.path); err != nil {
		return fmt.Errorf("loader: directory for pins: %w", err)
	}
	return nil
}

// switchOff keeps to what the settings of every version have in common: they begin with the switch.
func switchOff(setting *ebpf.Map) error {
	settings, err := setting.LookupBytes(uint32(0))
	if err != nil {
		return err
	}
	if len(settings) < 4 {
		return fmt.Errorf("%d bytes: not those of an accelerator", len(settings))
	}
	binary.NativeEndian.PutUint32(settings, 1)
	return setting.Put(uint32(0), settings)
}

func (d *pinDir) drain(ctx context.Context, now bool) error {
	setting, err := d.loadMap(accelMapSetting)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // An Up that was cut short: nothing has joined.
	} else if err != nil {
		return err
	}
	defer setting.Close()
	if err := switchOff(setting); err != nil {
		return fmt.Errorf("loader: settings: %w", err)
	}
	sockets, err := d.loadMap(accelMapSockets)
	if errors.Is(err, fs.ErrNotExist) || now {
		return nil
	} else if err != nil {
		return err
	}
	defer sockets.Close()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		n, err := countSockets(sockets)
		if err != nil || n == 0 {
			tick.Stop()
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return fmt.Errorf("loader: %d sockets that joined are still open: %w", n, ctx.Err())
		}
	}
}
