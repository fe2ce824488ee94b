package loader

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/zerohop/zerohop/ebpfaccel"
)

const (
	gainRounds = 16  // by turns, so that what else the host does hits both
	gainCalls  = 128 // in each
	gainSize   = 1 << 10
)

// MeasureGain makes calls of 1 KiB over plain and accelerated connections of this process, by turns, for less than a second on most
// hosts. The error is a [*ebpfaccel.NotSupportedError] if connections of this process cannot be accelerated.
func MeasureGain(ctx context.Context) (Gain, error) {
	if err := ebpfaccel.Probe(); err != nil {
		return Gain{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, selfTestTimeout)
	defer cancel()
	plain, accelerated := callTimes{dial: new(net.Dialer).DialContext}, callTimes{dial: ebpfaccel.DialContext}
	for _, c := range []*callTimes{&plain, &accelerated} {
		if err := c.open(ctx); err != nil {
			return Gain{}, err
		}
		defer c.close()
	}
	for round := range gainRounds {
		order := []*callTimes{&plain, &accelerated}
		if round%2 == 1 {
			order[0], order[1] = order[1], order[0]
		}
		for _, c := range order {
			if err := c.round(); err != nil {
				return Gain{}, fmt.Errorf("loader: call: %w", err)
			}
		}
	}
	return Gain{Plain: median(plain.times), Accelerated: median(accelerated.times)}, nil
}

// callTimes are the times of calls over one connection.
type callTimes struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	client net.Conn
	close  func()
	times  []time.Duration
}

func (c *callTimes) open(ctx context.Context) error {
	l, err := (&ebpfaccel.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	if c.client, err = c.dial(ctx, "tcp", l.Addr().String()); err != nil {
		return err
	}
	server, err := l.Accept()
	if err != nil {
		c.client.Close()
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		c.client.SetDeadline(deadline)
		server.SetDeadline(deadline)
	}
	stop := echo(c.client, server)
	c.close = func() {
		stop()
		server.Close()
	}
	return nil
}

func (c *callTimes) round() error {
	b := make([]byte, gainSize)
	for range gainCalls {
		begin := time.Now()
		if _, err := c.client.Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(c.client, b); err != nil {
			return err
		}
		c.times = append(c.times, time.Since(begin))
	}
	return nil
}
