// Package resilience decides what happens to one logical call: whether a failed attempt is repeated,
// whether a slow one is joined by a backup, when to stop, and which answer is the caller's.
//
// Its types are pure state machines over (now, event). They start no goroutine, never sleep and do no
// input or output: a driver (zerohop.Call) feeds them events and carries out the actions they return. That is
// what makes them testable to the bottom.
//
//	var call resilience.Call
//	act := call.Step(now, &resilience.Event{Kind: resilience.Begin})
//	// act.Kind == resilience.Launch: start attempt act.Attempt, and report how it went with a Done event.
//
// Use package zerohop instead if you want calls made rather than decided.
package resilience
