package loadbalance

import (
	"fmt"
	"math"
	"time"
)

// SlowStart lets a new endpoint, and one that returns after an ejection, come up to its share of the calls over a while,
// so that caches, pools and compilers get warm. After the time t it gets its share times (t/Window)^(1/Aggression), but at
// least times Min: Envoy's slow start. What it does not get goes to the others, whatever the algorithm; those that hash calls
// to one endpoint are not slowed. The zero value is the default.
type SlowStart struct {
	// Window is how long it takes. 0 means 10 s; the most is an hour.
	Window time.Duration
	// Min is the least part of a share. 0 means 0.1; the most is 1.
	Min float64
	// Aggression shapes the curve: 1 is a straight line, more begins steeper. 0 means 1.
	Aggression float64
}

const maxSlowStart = time.Hour

func (c SlowStart) withDefaults() SlowStart {
	if c.Window <= 0 {
		c.Window = 10 * time.Second
	}
	c.Window = min(c.Window, maxSlowStart)
	if !(c.Min > 0) {
		c.Min = 0.1
	}
	if !(c.Aggression > 0) {
		c.Aggression = 1
	}
	return c
}

// Validate names the first field that makes no sense. A Balancer takes such a field for 0 or for its bound.
func (c SlowStart) Validate() error {
	switch {
	case c.Window < 0 || c.Window > maxSlowStart:
		return fmt.Errorf("window: must be between 0 and %v, got %v", maxSlowStart, c.Window)
	case !(c.Min >= 0 && c.Min <= 1):
		return fmt.Errorf("min: must be between 0 and 1, got %v", c.Min)
	case !(c.Aggression >= 0 && c.Aggression <= 100):
		return fmt.Errorf("aggression: must be between 0 and 100, got %v", c.Aggression)
	}
	return nil
}

// part returns what part of its share an endpoint of the given age gets.
func (c *SlowStart) part(age time.Duration) float64 {
	if age >= c.Window {
		return 1
	}
	x := float64(max(age, 0)) / float64(c.Window)
	if c.Aggression != 1 {
		x = math.Pow(x, 1/c.Aggression)
	}
	return max(x, c.Min)
}

// grow begins a slow start.
func (n *Node) grow(now time.Duration) { n.young.Store(ticks(now) | 1) }

// part returns what part of its share the node gets, and ends its slow start if that is all.
func (n *Node) part(now time.Duration) float64 {
	began := n.young.Load()
	if began == 0 {
		return 1
	}
	is := n.owner.setup.Load()
	if is.slowStart == nil { // any more
		n.young.CompareAndSwap(began, 0)
		return 1
	}
	age := time.Duration(max(int32(ticks(now)-began), 0)) << tickShift
	part := is.slowStart.part(age)
	if part >= 1 {
		n.young.CompareAndSwap(began, 0)
	}
	return part
}
