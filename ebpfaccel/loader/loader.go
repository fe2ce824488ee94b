// Package loader is the privileged half of package ebpfaccel: it puts the accelerator into the kernel and takes it out. The command
// "zerohop accel" is made of it.
//
// The accelerator is programs and maps that are pinned in a directory, so no process has to stay. [Up] needs the capabilities
// CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and may write to that directory and, for its self-test, beside the cgroup.
package loader

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zerohop/zerohop/ebpfaccel"
)

// DefaultPins is where the accelerator is pinned if nothing else is said: a directory in the file system for that, mode 0700.
const DefaultPins = "/sys/fs/bpf/zerohop"

// ErrNotUp says that there is no accelerator in the directory.
var ErrNotUp = errors.New("loader: no accelerator is up")

// ErrNotSupported is that of package ebpfaccel: this host cannot have an accelerator, or this process not load it.
var ErrNotSupported = ebpfaccel.ErrNotSupported

// A Config says what to load, and where.
type Config struct {
	// Cgroup is the directory of a cgroup of version 2. Programs in it, and in those below it, may opt in. It must be given.
	Cgroup string
	// AllowRoot is needed if Cgroup is the root of the hierarchy, which is all programs of the host.
	AllowRoot bool
	// Pins is the directory that keeps the accelerator, DefaultPins if "". Up makes it, but not those above.
	Pins string
	// SelfTest are the arguments by which this program calls [SelfTest], and [MeasureGain] if it likes, and ends well if nothing is
	// wrong. Up runs it in a cgroup of its own, and loads nothing if it fails. nil: no self-test.
	SelfTest []string
}

func (c Config) pins() string {
	if c.Pins == "" {
		return DefaultPins
	}
	return c.Pins
}

// A Status is what is known of an accelerator that is up.
type Status struct {
	Cgroup   string   `json:"cgroup"`   // its directory, or "(gone)", with its id while the kernel has that
	Pins     string   `json:"pins"`     // where it is pinned
	Draining bool     `json:"draining"` // Down has begun and not ended
	Sockets  int      `json:"sockets"`  // that are connected through it now
	Counters Counters `json:"counters"`
}

// Counters count since the accelerator was loaded first. An accelerated connection has two sockets.
type Counters struct {
	Sockets     uint64 `json:"sockets"`     // that opted in, and whose other end may have done so
	Accelerated uint64 `json:"accelerated"` // of them, those with anything redirected past TCP

	RedirectedMessages uint64 `json:"redirected_messages"` // what one send(2) takes at a time
	RedirectedBytes    uint64 `json:"redirected_bytes"`
	TCPMessages        uint64 `json:"tcp_messages"` // of sockets that opted in, except those that left
	TCPBytes           uint64 `json:"tcp_bytes"`

	// Why messages went over TCP.
	NoPeer uint64 `json:"no_peer"` // the other end did not opt in, or is closing
	Unread uint64 `json:"unread"`  // the other end had not read all that was sent over TCP, or its socket is one that waits
	Held   uint64 `json:"held"`    // its queue had been full shortly before
	Stream uint64 `json:"stream"`  // the connection carries a stream
	Off    uint64 `json:"off"`     // the accelerator is draining

	// What happened to connections.
	Full     uint64 `json:"full"`     // a queue was full
	Streams  uint64 `json:"streams"`  // a connection was found to carry a stream: it takes TCP for good
	Left     uint64 `json:"left"`     // sockets of streams, or with a plain other end, that went back to the kernel's own send
	Returned uint64 `json:"returned"` // from TCP back past it
	Stranger uint64 `json:"stranger"` // the socket with the addresses of the other end was not the other end

	// Sockets that opted in and did not join.
	Refused   uint64 `json:"refused"`   // no room, or another program has them
	Elsewhere uint64 `json:"elsewhere"` // the other end is not on this host
	Device    uint64 `json:"device"`    // they are bound to a device
	OneSided  uint64 `json:"one_sided"` // they were accepted from a socket that did not opt in
}

// A Finding is one thing that [Doctor] has looked at.
type Finding struct {
	Subject string `json:"subject"`
	OK      bool   `json:"ok"`
	Unknown bool   `json:"unknown,omitempty"` // it could not be found out, which does not keep Up from loading
	Detail  string `json:"detail"`
}

// missing returns a NotSupportedError with the findings that are not OK, or nil.
func missing(findings []Finding) error {
	var reasons []string
	for _, f := range findings {
		if !f.OK && !f.Unknown {
			reasons = append(reasons, f.Subject+": "+f.Detail)
		}
	}
	if reasons == nil {
		return nil
	}
	return &ebpfaccel.NotSupportedError{Reasons: reasons}
}

// ErrNoGain says that the accelerator is of no use on this host.
var ErrNoGain = errors.New("loader: accelerated calls are no faster")

// A Gain is what the accelerator is worth: median times of a call of 1 KiB and its answer.
type Gain struct {
	Plain, Accelerated time.Duration
}

// Check returns [ErrNoGain], with the figures, if accelerated calls take as long as plain ones or longer.
func (g Gain) Check() error {
	if g.Accelerated < g.Plain {
		return nil
	}
	return fmt.Errorf("%w: %v, over TCP %v", ErrNoGain, g.Accelerated, g.Plain)
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
