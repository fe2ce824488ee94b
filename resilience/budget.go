package resilience

import (
	"fmt"
	"math"
	"sync/atomic"
)

// BudgetConfig limits how many extra attempts all calls of a service may make together.
type BudgetConfig struct {
	// Tokens is the size of the bucket, which starts full. 0 means 10. Extra attempts are granted while
	// more than half of it is left, so Tokens/2 failures in a row stop them.
	Tokens float64
	// Ratio is what one success pays in. 0 means 0.1: in the long run at most one extra attempt for ten
	// successful ones.
	Ratio float64
}

const (
	defaultTokens = 10
	defaultRatio  = 0.1
	// maxTokens bounds the burst of extra attempts after a fault. gRPC has the same limit.
	maxTokens = 1000
)

// Validate reports the first field that makes no sense.
func (c BudgetConfig) Validate() error {
	if !(c.Tokens >= 0 && c.Tokens <= maxTokens) {
		return fmt.Errorf("tokens: must be between 0 and %d, got %v", maxTokens, c.Tokens)
	}
	if !(c.Ratio >= 0 && c.Ratio <= 1) {
		return fmt.Errorf("ratio: must be between 0 and 1, got %v", c.Ratio)
	}
	return nil
}

// Budget is a bucket of tokens filled by successes and drained by failures and backups, as in gRPC's retry
// throttling (gRFC A6). A bucket filled by requests would go on granting retries while everything fails and
// so hold an overloaded service down; this one gets no income then, and dries out after a bounded burst.
//
// A nil *Budget grants everything. Its methods are safe for concurrent use.
type Budget struct {
	tokens atomic.Int64 // in thousandths
	size   int64
	ratio  int64
}

const milli = 1000

// NewBudget returns a full bucket. Fields out of range are brought into it; see Validate.
func NewBudget(c BudgetConfig) *Budget {
	if !(c.Tokens > 0) {
		c.Tokens = defaultTokens
	}
	if !(c.Ratio > 0) {
		c.Ratio = defaultRatio
	}
	b := &Budget{
		size:  max(1, int64(math.Min(c.Tokens, maxTokens)*milli)),
		ratio: max(1, int64(math.Min(c.Ratio, 1)*milli)),
	}
	b.tokens.Store(b.size)
	return b
}

// Success pays in for a successful attempt.
func (b *Budget) Success() {
	if b != nil {
		b.pay(b.ratio)
	}
}

func (b *Budget) pay(amount int64) {
	// A full bucket, the usual state, is only read: no cache line is fought over.
	for t := b.tokens.Load(); t < b.size; t = b.tokens.Load() {
		if b.tokens.CompareAndSwap(t, min(b.size, t+amount)) {
			return
		}
	}
}

// Failure pays out for an attempt that failed in a way worth repeating.
func (b *Budget) Failure() {
	if b == nil {
		return
	}
	for t := b.tokens.Load(); t > 0; t = b.tokens.Load() {
		if b.tokens.CompareAndSwap(t, max(0, t-milli)) {
			return
		}
	}
}

// Allow reports whether a failed attempt, already paid for by Failure, may be repeated.
func (b *Budget) Allow() bool {
	return b == nil || b.tokens.Load() > b.size/2
}

// Take pays for a backup and reports whether it is granted.
func (b *Budget) Take() bool {
	if b == nil {
		return true
	}
	for t := b.tokens.Load(); t > b.size/2; t = b.tokens.Load() {
		if b.tokens.CompareAndSwap(t, max(0, t-milli)) {
			return true
		}
	}
	return false
}

// refund takes back a Take for a backup that could not be made.
func (b *Budget) refund() {
	if b != nil {
		b.pay(milli)
	}
}

// Level returns the share of the bucket that is filled, from 0 to 1.
func (b *Budget) Level() float64 {
	if b == nil {
		return 1
	}
	return float64(b.tokens.Load()) / float64(b.size)
}
