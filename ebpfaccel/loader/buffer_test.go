//go:build linux

package loader

import (
	"io"
	"testing"
	"time"
)

// A reader with a receive buffer of its own size goes on, as over TCP, as soon as it reads again. What has filled its buffer past
// TCP must not have made the kernel drop what came over TCP then: the sender would repeat that up to as long later as the pause was.
func TestReaderWithABufferOfItsOwnGoesOnAtOnce(t *testing.T) {
	load(t, defaults)
	const pause = 2 * time.Second // just after the sender would have repeated something
	shortest := time.Hour         // of several: machines stall, too
	for range 3 {
		client, server := pair(t)
		if err := server.(interface{ SetReadBuffer(int) error }).SetReadBuffer(128 << 10); err != nil {
			t.Fatal(err)
		}
		const n = 8 << 20
		written := make(chan error, 1)
		go func() {
			for b := make([]byte, 64<<10); ; {
				if _, err := client.Write(b); err != nil {
					written <- err
					return
				}
			}
		}()
		time.Sleep(pause)
		begin := time.Now()
		if _, err := io.CopyN(io.Discard, server, n); err != nil {
			t.Fatal(err)
		}
		shortest = min(shortest, time.Since(begin))
		client.Close()
		<-written
		if shortest < pause/2 {
			return
		}
	}
	t.Errorf("after a pause of %v it took %v to read what was written, in the best of three runs", pause, shortest)
}
