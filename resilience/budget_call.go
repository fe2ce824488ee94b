package resilience

import (
	"sync/atomic"
	"time"
)

// burstShare is for how many successes of a second the bucket holds one token above its half.
const burstShare = 40

// request is told of every call.
func (b *Budget) request(now time.Duration) {
	if b != nil && b.calls != nil {
		b.calls.add(now, b.ratio)
	}
}

// success pays in for a successful attempt.
func (b *Budget) success(now time.Duration) {
	if b == nil {
		return
	}
	if b.successes.add(now, 1) {
		b.scale()
	}
	if b.funded() {
		pay(&b.tokens, b.limit.Load(), b.ratio)
	}
	pay(&b.resends, b.resendLimit.Load(), resendRatio)
}

// failure pays out for an attempt that failed in a way worth repeating.
func (b *Budget) failure(now time.Duration) {
	if b != nil && b.funded() {
		b.settle(now)
		charge(&b.tokens, 0)
	}
}

// repeat asks for a retry of an attempt that failure was told of. Where it is charges, giveBack may follow.
func (b *Budget) repeat(now time.Duration) bool {
	if b != nil && b.funded() { // failure has paid
		return b.tokens.Load() > b.half
	}
	return b.take(now)
}

// charges reports whether repeat takes something.
func (b *Budget) charges() bool { return b != nil && !b.funded() }

// take asks for a backup, and pays for it.
func (b *Budget) take(now time.Duration) bool {
	switch {
	case b == nil:
		return true
	case b.kind == kindRatio:
		return b.calls.draw(now, milli, b.floor)
	case b.kind == kindConcurrent:
		for n := b.extra.Load(); (n+1)*milli <= b.concurrency(); n = b.extra.Load() {
			if b.extra.CompareAndSwap(n, n+1) {
				return true
			}
		}
		return false
	}
	b.settle(now)
	return spend(&b.tokens, b.half)
}

// giveBack takes back a grant that no attempt was made of.
func (b *Budget) giveBack() {
	switch {
	case b == nil:
	case b.kind == kindRatio:
		b.calls.cells[0].n.Add(milli)
	case b.kind == kindConcurrent:
		b.extra.Add(-1)
	default:
		pay(&b.tokens, b.limit.Load(), milli)
	}
}

// won says that a backup got the answer of its call, lost that it ran when another attempt did.
func (b *Budget) won() {
	if b != nil && b.kind == kindSuccess {
		pay(&b.tokens, b.limit.Load(), milli)
	}
}

func (b *Budget) lost() {
	if b != nil && b.kind == kindSuccess {
		debt := max((b.limit.Load()-b.half)/debtShare, 2*milli)
		charge(&b.tokens, max(b.half-debt, 0))
	}
}

// debtShare is how many times the debt for backups that lost the bucket must hold above its half. A service that stops as a
// whole for a tenth of a second makes all of them lose that there were tokens for. Were all these to be paid for twice, calls
// would be left alone with hung nodes for seconds after that. The debt may always be 2: what one that loses costs.
const debtShare = 8

// started and ended are told of all attempts, and of whether a grant was needed for them.
func (b *Budget) started() {
	if b != nil && b.kind == kindConcurrent {
		b.active.Add(1)
	}
}

func (b *Budget) ended(granted bool) {
	if b == nil || b.kind != kindConcurrent {
		return
	}
	b.active.Add(-1)
	if granted {
		b.extra.Add(-1)
	}
}

// resend asks for a repetition of an attempt that was not sent.
func (b *Budget) resend(now time.Duration) bool {
	if b == nil {
		return true
	}
	b.settle(now)
	return spend(&b.resends, 0)
}

// Resent pays for n times that an attempt was sent again without asking, as net/http does when a connection breaks. For
// BudgetConcurrent that is still the same attempt.
func (b *Budget) Resent(now time.Duration, n int) {
	if b != nil && b.kind == kindRatio {
		b.calls.add(now, -int64(n)*milli)
		return
	}
	for range n {
		b.failure(now)
	}
}

// settle gives up what the bucket holds since there was more traffic.
func (b *Budget) settle(now time.Duration) {
	if b.successes.turn(now) {
		b.scale()
	}
}

// scale makes the buckets as large as the traffic of late demands.
func (b *Budget) scale() {
	n := b.successes.sum() / (tallySlots - 1) // of a second: the present one has just begun
	if b.kind == kindSuccess {
		spare := max(b.spare, min(n*milli/burstShare, maxTokens*milli))
		resize(&b.limit, &b.tokens, b.half+spare)
	}
	resize(&b.resendLimit, &b.resends, max(minResends, n*milli))
}

// resize sets the size of a bucket, which may not hold what it did any more.
func resize(limit, tokens *atomic.Int64, to int64) {
	limit.Store(to)
	for t := tokens.Load(); t > to; t = tokens.Load() {
		if tokens.CompareAndSwap(t, to) {
			return
		}
	}
}

// pay pays into a bucket.
func pay(tokens *atomic.Int64, limit, amount int64) {
	// A full bucket, the usual state, is only read: no cache line is fought over.
	for t := tokens.Load(); t < limit; t = tokens.Load() {
		if tokens.CompareAndSwap(t, min(limit, t+amount)) {
			return
		}
	}
}

// charge takes a token, or what there is above the least.
func charge(tokens *atomic.Int64, least int64) {
	for t := tokens.Load(); t > least; t = tokens.Load() {
		if tokens.CompareAndSwap(t, max(least, t-milli)) {
			return
		}
	}
}

// spend takes a token if there is more than the least.
func spend(tokens *atomic.Int64, least int64) bool {
	for t := tokens.Load(); t > least; t = tokens.Load() {
		if tokens.CompareAndSwap(t, max(0, t-milli)) {
			return true
		}
	}
	return false
}
