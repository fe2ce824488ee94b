// Package ebpfaccel lets connections between two programs on one host pass by the TCP stack of Linux, where the host has an
// accelerator, and leaves them as they are where it has none.
//
// The accelerator is loaded once by an administrator, for one cgroup:
//
//	zerohop accel up --cgroup /sys/fs/cgroup/mesh.slice
//
// Programs in that cgroup need no privileges. Both ends of a connection have to opt in, the one that listens and the one that
// dials:
//
//	l, err := (&ebpfaccel.ListenConfig{}).Listen(ctx, "tcp", ":8080")
//	transport := &http.Transport{DialContext: ebpfaccel.DialContext}
//
// Without the accelerator, on another kernel or another system, and between hosts these are plain connections, and one line in the
// log says why: that of [Probe].
//
// An accelerated connection keeps the order of bytes, backpressure, deadlines, and the ends of streams. What it loses is listed
// in docs/accelerator.md: packets that nobody sent are seen by no packet filter, and TCP_INFO counts nothing. It is of no use
// to streams of many bytes in one direction, which are told from calls and go on over TCP. Do not use it where traffic within a
// host is filtered or accounted for, and prefer Unix sockets where both programs can use them.
//
// The half of the administrator is package loader.
package ebpfaccel
