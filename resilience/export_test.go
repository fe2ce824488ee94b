package resilience

// Now is the clock of Do.
var Now = sinceBase
