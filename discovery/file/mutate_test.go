package file

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// mutate returns data with a few random changes.
func mutate(rng *rand.Rand, data []byte) []byte {
	spice := []string{
		"null", "~", "-1", "0", "99999999999999999999", "NaN", "[", "]", "{", "}", "- ", ": ", "&a ", "*a", "!!binary ", "---\n", "\x00", "\xff",
		"'", "\"", "169.254.169.254:80", "[::ffff:127.0.0.1]:1", "\n", "\t", "  ", "|\n", "#", ",", "services:", strings.Repeat("[", 70),
	}
	out := append([]byte(nil), data...)
	for range 1 + rng.IntN(4) {
		at := rng.IntN(len(out) + 1)
		switch rng.IntN(5) {
		case 0: // a flipped bit
			if at < len(out) {
				out[at] ^= 1 << rng.IntN(8)
			}
		case 1: // a part is missing
			end := min(at+rng.IntN(40), len(out))
			out = append(out[:at:at], out[end:]...)
		case 2: // the end is missing
			out = out[:at]
		case 3: // a part is there twice
			end := min(at+rng.IntN(80), len(out))
			out = append(out[:end:end], out[at:]...)
		case 4: // something else is in between
			out = append(out[:at:at], append([]byte(spice[rng.IntN(len(spice))]), out[at:]...)...)
		}
	}
	return out
}

// Ten thousand files that are nearly right go through the parser and Run: whatever they hold, there are endpoints, and
// the right file counts again afterwards.
func TestMutatedFilesDoNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rounds = 10_000
		rng := rand.New(rand.NewPCG(21, 7))
		round, rejected, empty := 0, 0, 0
		source := watchFunc(func(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
			for ; round < rounds; round++ {
				name, data := "f.yaml", exampleYAML
				if round%2 == 1 {
					name, data = "f.json", exampleJSON
				}
				services, err := parse(name, mutate(rng, []byte(data)))
				if err != nil {
					round++
					rejected++
					return err
				}
				update(services[service])
			}
			update(example[service])
			<-ctx.Done()
			return ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		var last []discovery.Endpoint
		done := make(chan error)
		go func() {
			done <- discovery.Run(ctx, source, "orders", discovery.RunOptions{}, func(set []discovery.Endpoint) {
				if last = set; len(set) == 0 {
					empty++
				}
			})
		}()
		time.Sleep(10 * rounds * time.Second) // of the clock of the bubble
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v, want %v", err, context.Canceled)
		}
		if len(last) != 3 || round != rounds {
			t.Errorf("after %d files the set is %v, want the 3 endpoints of the right one", round, last)
		}
		if rejected < rounds/3 || rejected > rounds*99/100 {
			t.Errorf("%d of %d files were rejected: they are no test", rejected, rounds)
		}
		t.Logf("%d of %d files rejected, empty %d times", rejected, rounds, empty)
	})
}

type watchFunc func(ctx context.Context, service string, update func([]discovery.Endpoint)) error

func (f watchFunc) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	return f(ctx, service, update)
}
