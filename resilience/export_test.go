package resilience

// Now is the clock of Do.
var Now = sinceBase

// UnderWay returns how many attempts owe Done.
func (t *Throttle) UnderWay() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.underWay
}

// UnderWay returns what BudgetConcurrent counts.
func (b *Budget) UnderWay() (active, extra int64) { return b.active.Load(), b.extra.Load() }

// Leases returns how many permits of the present probation are out.
func (b *Breaker) Leases() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.era.Load().leases)
}
