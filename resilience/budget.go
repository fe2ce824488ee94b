package resilience

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// The kinds of budgets.
const (
	// BudgetSuccess is a bucket of tokens that successes fill and that failures and backups drain. It grows with the
	// traffic, and backups are paid for by what they achieve. The default.
	BudgetSuccess = "success"
	// BudgetGRPC is the retry throttling of gRPC (gRFC A6): a bucket of fixed size, into which a success pays Ratio, and
	// which a failure worth repeating costs 1. Retries are granted while more than half of it is left. A backup, which
	// gRPC for Go does not have, costs 1, too.
	// https://github.com/grpc/proposal/blob/master/A6-client-retries.md
	BudgetGRPC = "grpc"
	// BudgetRatio grants a share of the calls of the last Window, and Floor more in each second, as the RetryBudget of
	// Finagle does, that of Linkerd and that of the Gateway API (GEP-3388). Beware: calls pay whether they succeed or not,
	// so that a service that is down gets Ratio more than its load until it is up, and the floor of every client.
	BudgetRatio = "ratio"
	// BudgetConcurrent lets a share of the attempts under way be extra ones, and Floor of them in any case, as the
	// retry_budget of Envoy does. Beware: as with BudgetRatio, a service that is down gets extra load for as long.
	BudgetConcurrent = "concurrent"
)

// BudgetConfig limits how many extra attempts all calls of a service may make together.
type BudgetConfig struct {
	// Kind is BudgetSuccess, BudgetGRPC, BudgetRatio or BudgetConcurrent. Empty means BudgetSuccess.
	Kind string
	// Tokens is the size of the bucket of BudgetSuccess and BudgetGRPC, which starts full. 0 means 10. Extra attempts are
	// granted while more than half of it is left, so Tokens/2 failures in a row stop them. That of BudgetSuccess holds
	// more where there is more traffic, but that, too, has to be paid in: Tokens/2 above its half, or a fortieth of the
	// successes of a second if that is more. With more, retries would delay the recovery of a service that is almost at
	// its limit; with less, a busy client could not leave a node that hangs.
	Tokens float64
	// Ratio is what one success pays in. 0 means 0.1: in the long run at most one extra attempt for ten
	// successful ones. For BudgetRatio it is what one call pays in, and for BudgetConcurrent the share of the attempts
	// under way. 0 means 0.2 then.
	Ratio float64
	// Floor is what is granted in any case: for BudgetRatio that many extra attempts per second, for BudgetConcurrent so
	// many at a time. 0 means 10 and 3, and less than 0 none. Other kinds have none: what a floor grants is not paid for
	// by anything that works, and multiplies with the clients.
	Floor float64
	// Window is over what time BudgetRatio counts. 0 means 10 s.
	Window time.Duration
}

const (
	defaultTokens = 10
	defaultRatio  = 0.1
	defaultShare  = 0.2
	// maxTokens bounds the burst of extra attempts after a fault. gRPC has the same limit.
	maxTokens       = 1000
	maxFloor        = 1000
	minBudgetWindow = time.Second
	maxBudgetWindow = time.Minute
)

// Validate reports every field that makes no sense, or that budgets of the kind do not have.
func (c BudgetConfig) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	tokens, floor, window := true, true, true
	switch c.Kind {
	case "":
	case BudgetSuccess, BudgetGRPC:
		floor, window = false, false
	case BudgetRatio:
		tokens = false
	case BudgetConcurrent:
		tokens, window = false, false
	default:
		check(false, "kind: must be %q, %q, %q or %q, got %q", BudgetSuccess, BudgetGRPC, BudgetRatio, BudgetConcurrent, c.Kind)
	}
	check(tokens || c.Tokens == 0, "tokens: budgets of kind %q have none, got %v", c.Kind, c.Tokens)
	check(!tokens || c.Tokens >= 0 && c.Tokens <= maxTokens, "tokens: must be between 0 and %d, got %v", maxTokens, c.Tokens)
	check(c.Ratio >= 0 && c.Ratio <= 1, "ratio: must be between 0 and 1, got %v", c.Ratio)
	check(floor || c.Floor == 0, "floor: budgets of kind %q have none, got %v", c.Kind, c.Floor)
	check(!floor || c.Floor <= maxFloor && !math.IsInf(c.Floor, -1), "floor: must be at most %d, got %v", maxFloor, c.Floor)
	check(window || c.Window == 0, "window: budgets of kind %q have none, got %v", c.Kind, c.Window)
	check(!window || c.Window == 0 || c.Window >= minBudgetWindow && c.Window <= maxBudgetWindow,
		"window: must be between %v and %v, got %v", minBudgetWindow, maxBudgetWindow, c.Window)
	return errors.Join(errs...)
}

// budgetKind is the kind of a budget as the path of a call asks for it: to compare strings costs as much as the rest.
type budgetKind uint8

const (
	kindSuccess budgetKind = iota
	kindGRPC
	kindRatio
	kindConcurrent
)

// Budget limits the extra attempts of all calls that share it: retries, backups, and what a transport sends again by
// itself. A rejection by one's own breaker or limit costs nothing.
//
// By default successes pay. A budget filled by requests would go on granting retries while everything fails and so hold an
// overloaded service down; one filled by successes gets no income then, and dries out after a bounded burst. A backup
// that wins gets its token back, as it did the work of an attempt that hangs: however many calls one hung node has caught,
// all of them get away, some after others. One that loses to the attempt it was to rescue costs another token, since
// it was only load: if everything is slow, few calls are sent twice. If everything stops for a moment, though, and all
// backups lose at once, most of them cost one token only, so that there are some again soon after.
//
// Attempts that were provably not sent are repeated without a token, but not without end: a service that refuses all of
// them would get its load times the attempts of a call. They draw on a bucket of their own, of 100 or the successes of a
// second, into which a success pays for as many as a call can have.
//
// It is used by Call. A nil *Budget grants everything. Its methods are safe for concurrent use.
type Budget struct {
	kind  budgetKind
	ratio int64 // in thousandths, as are all tokens
	half  int64 // extra attempts are granted above it
	spare int64 // what the bucket holds above that at least
	floor int64

	calls  *tally // of BudgetRatio: what calls paid in, less what was drawn
	active atomic.Int64
	extra  atomic.Int64

	limit       atomic.Int64 // what the bucket can hold
	resendLimit atomic.Int64
	_           [64]byte
	tokens      atomic.Int64 // seldom written while all is well, as are resends
	resends     atomic.Int64
	_           [48]byte
	successes   tally
}

const (
	milli = 1000
	// minResends is how many attempts can be sent again at once by a process that has just started.
	minResends = 100 * milli
	// A success pays for as many as a call can have, so that only calls that fail in the end use the bucket up.
	resendRatio = (MaxAttempts - 1) * milli
)

// WithDefaults returns the configuration as a budget takes it: with the defaults in place of fields that are 0, and those
// out of range brought into it. No floor is less than 0.
func (c BudgetConfig) WithDefaults() BudgetConfig {
	d := BudgetConfig{Kind: c.Kind, Tokens: defaultTokens, Ratio: defaultRatio}
	switch c.Kind {
	case BudgetRatio:
		d.Ratio, d.Floor, d.Window = defaultShare, 10, 10*time.Second
		if c.Window > 0 {
			d.Window = min(max(c.Window, minBudgetWindow), maxBudgetWindow)
		}
	case BudgetConcurrent:
		d.Ratio, d.Floor = defaultShare, 3
	case BudgetGRPC:
	default:
		d.Kind = BudgetSuccess
	}
	if c.Floor > 0 {
		d.Floor = math.Min(c.Floor, maxFloor)
	} else if c.Floor < 0 {
		d.Floor = 0
	}
	if c.Ratio > 0 {
		d.Ratio = math.Min(c.Ratio, 1)
	}
	if c.Tokens > 0 {
		d.Tokens = math.Min(c.Tokens, maxTokens)
	}
	return d
}

// NewBudget returns a full budget. Fields out of range are brought into it; see Validate.
func NewBudget(c BudgetConfig) *Budget {
	b := &Budget{}
	c = c.WithDefaults()
	floor := c.Floor
	switch c.Kind {
	case BudgetRatio:
		b.kind = kindRatio
		b.calls = &tally{slot: c.Window / tallySlots}
	case BudgetConcurrent:
		b.kind = kindConcurrent
	case BudgetGRPC:
		b.kind = kindGRPC
	}
	if b.calls != nil { // it is there for the whole window, as in Finagle
		floor *= (b.calls.slot * tallySlots).Seconds()
	}
	size := max(1, int64(c.Tokens*milli))
	b.ratio, b.floor = max(1, int64(c.Ratio*milli)), int64(floor*milli)
	b.half = size / 2
	b.spare = size - b.half
	b.successes.slot = time.Second
	b.tokens.Store(size)
	b.limit.Store(size)
	b.resends.Store(minResends)
	b.resendLimit.Store(minResends)
	return b
}

// Successor returns a budget with another config that is as full as b: what was used up is not there again.
func (b *Budget) Successor(c BudgetConfig) *Budget {
	next := NewBudget(c)
	level := b.Level()
	switch next.kind {
	case kindRatio:
		next.calls.cells[0].n.Add(-int64((1 - level) * float64(next.floor)))
	case kindConcurrent: // what is under way ends soon
	default:
		next.tokens.Store(int64(level * float64(next.limit.Load())))
		if b != nil {
			next.resends.Store(min(b.resends.Load(), minResends))
		}
	}
	return next
}

// Level returns the share of the bucket that is filled, from 0 to 1. For BudgetRatio that is what is left of the floor,
// for BudgetConcurrent how many of the extra attempts that may be under way are not.
func (b *Budget) Level() float64 {
	if b == nil {
		return 1
	}
	left, size := b.tokens.Load(), b.limit.Load()
	switch b.kind {
	case kindRatio:
		left, size = b.calls.sum()+b.floor, max(b.floor, milli)
	case kindConcurrent:
		size = b.concurrency()
		left = size - b.extra.Load()*milli
	}
	return min(max(float64(left)/float64(max(size, 1)), 0), 1)
}

// funded reports whether successes pay.
func (b *Budget) funded() bool { return b.kind <= kindGRPC }

// concurrency is how many extra attempts may be under way.
func (b *Budget) concurrency() int64 { return max(b.floor, b.ratio*b.active.Load()) }

// Spare returns how much of the extra attempts that a full budget grants at once it would grant at the time, from 0 to 1. In contrast
// to Level that is 0 when it refuses them.
func (b *Budget) Spare(now time.Duration) float64 {
	switch {
	case b == nil:
		return 1
	case b.kind == kindRatio:
		b.calls.turn(now)
		return b.Level()
	case b.kind == kindConcurrent:
		return b.Level()
	}
	b.settle(now)
	size := b.limit.Load() - b.half
	return min(max(float64(b.tokens.Load()-b.half)/float64(max(size, 1)), 0), 1)
}
