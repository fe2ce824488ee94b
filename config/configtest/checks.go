package configtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zerohop/zerohop/internal/conformance"
)

// document returns the document with a number. It has what a source may be tempted to change: blanks at both ends, an empty
// line, letters beyond ASCII.
func document(n int) string {
	return fmt.Sprintf("\n# größer\ndefaults: {timeout: %ds}\n\n ", n)
}

// padded returns the document with a number, size bytes large.
func padded(n, size int) string {
	d := document(n)
	line := strings.Repeat("x", 98) + "\n#"
	return "#" + strings.Repeat(line, size/len(line)+1)[:size-len(d)-1] + d
}

// short is a document as it is shown.
func short(document string) string {
	if document == absent {
		return absent
	}
	return fmt.Sprintf("of %d bytes, %.60q", len(document), document)
}

func (c *check) set(document string) string {
	c.t.Helper()
	c.src.Set(c.t, []byte(document))
	return document
}

func (c *check) remove() {
	c.t.Helper()
	c.src.Set(c.t, nil)
}

func (c *check) first() {
	want := c.set(document(1))
	w := c.start(context.Background())
	if got := w.Next(); got != want {
		c.t.Errorf("first document is %s, want %s: complete and at once", short(got), short(want))
	}
}

func (c *check) none() {
	w := c.start(context.Background())
	if got := w.Next(); got != absent {
		c.t.Errorf("first document is %s, want nil, which says that there is none", short(got))
	}
	w.until(c.set(document(1)), absent)
}

func (c *check) changes() {
	last := c.set(document(1))
	w := c.start(context.Background())
	w.until(last)
	for n := 2; n <= 4; n++ {
		next := c.set(document(n))
		w.until(next, last)
		last = next
	}
}

func (c *check) unchanged() {
	one := c.set(document(1))
	w := c.start(context.Background())
	w.until(one)
	for range 3 {
		c.set(one)
	}
	w.until(c.set(document(2)), one)
}

func (c *check) removal() {
	one := c.set(document(1))
	w := c.start(context.Background())
	w.until(one)
	for range 2 {
		c.remove()
		w.until(absent, one)
		c.set(one)
		w.until(one, absent)
	}
}

func (c *check) large() {
	one := c.set(padded(1, c.src.Size))
	w := c.start(context.Background())
	w.until(one)
	two := c.set(padded(2, c.src.Size))
	w.until(two, one)
	w.until(c.set(document(3)), two)
}

// burst changes the document faster than anybody needs to follow. What comes must have been there, and the last of it must come.
func (c *check) burst() {
	const changes = 20
	possible := []string{c.set(document(0))}
	w := c.start(context.Background())
	w.until(possible[0])
	for n := range changes {
		possible = append(possible, c.set(padded(n+1, 1000*(1+n%3))))
	}
	w.until(possible[changes], possible...)
}

func (c *check) contextEnd() {
	one := c.set(document(1))

	w := c.start(context.Background())
	w.until(one)
	w.Cancel()
	if err := w.End(prompt); !errors.Is(err, context.Canceled) {
		c.t.Errorf("Watch = %v after cancel, want %v", err, context.Canceled)
	}
	c.set(document(2)) // which must not come, see runCheck

	const lifetime = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	defer cancel()
	if err := c.start(ctx).End(lifetime + prompt); !errors.Is(err, context.DeadlineExceeded) {
		c.t.Errorf("Watch = %v after the deadline, want %v", err, context.DeadlineExceeded)
	}

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.start(ended).End(prompt); !errors.Is(err, context.Canceled) {
		c.t.Errorf("Watch = %v with an ended context, want %v", err, context.Canceled)
	}
}

func (c *check) concurrentWatches() {
	one := c.set(document(1))
	var watches []*watch
	for range 3 {
		watches = append(watches, c.start(context.Background()))
	}
	for _, w := range watches {
		w.until(one)
	}
	// The end of one watch must not disturb another one.
	watches[0].Cancel()
	_ = watches[0].End(prompt)
	two := c.set(document(2))
	for _, w := range watches[1:] {
		w.until(two, one)
	}
}

// breakSource breaks the source until heal is called or the check ends.
func (c *check) breakSource() (heal func()) {
	c.t.Helper()
	return conformance.Outage(c.t, c.src.Break, c.src.Heal)
}

func (c *check) brokenSource() {
	one := c.set(document(1))
	running := c.start(context.Background())
	running.until(one)

	c.breakSource()
	for _, w := range []*watch{running, c.start(context.Background())} {
		if err := w.End(c.src.Timeout); errors.Is(err, context.Canceled) {
			c.t.Errorf("Watch of a broken source = %v, want the reason why it broke", err)
		}
		for len(w.News) > 0 {
			if got := <-w.News; w != running || got == absent {
				c.t.Errorf("watch of a broken source delivers the document %s, want nothing", short(got))
			}
		}
	}
}

func (c *check) recovery() {
	one := c.set(document(1))
	w := c.start(context.Background())
	w.until(one)

	heal := c.breakSource()
	_ = w.End(c.src.Timeout)
	heal()
	two := c.set(document(2))
	deadline := time.Now().Add(c.src.Timeout)
	for { // as config.Run does
		w := c.start(context.Background())
		select {
		case got := <-w.News:
			if got != two {
				c.t.Errorf("document after recovery is %s, want %s", short(got), short(two))
			}
			return
		case err := <-w.Done:
			w.Done <- err
			if time.Now().After(deadline) {
				c.t.Fatalf("Watch = %v, %v after the source is back", err, c.src.Timeout)
			}
			time.Sleep(100 * time.Millisecond) // which a source that is down asks of its callers
		case <-time.After(c.src.Timeout):
			c.t.Fatalf("no document within %v after the source is back", c.src.Timeout)
		}
	}
}
