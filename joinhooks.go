package zerohop

import "context"

// JoinHooks returns hooks that call those of all the given ones, in that order: those of telemetry, of a log and of a page, for
// example. A field that none of them has stays nil and costs nothing; one that a single one has is that one. The context that a
// CallStart or an AttemptStart returns is handed to the next, and what the last one returns goes to all that follows in the call or
// attempt: each finds there what it has put in, unless a later one has used the same key. Lane is that of the first that knows one.
func JoinHooks(hooks ...Hooks) Hooks {
	var j Hooks
	for i := range hooks {
		h := &hooks[i]
		j.CallStart = chain2(j.CallStart, h.CallStart)
		j.CallDone = join3(j.CallDone, h.CallDone)
		j.AttemptStart = chain3(j.AttemptStart, h.AttemptStart)
		j.AttemptDone = join4(j.AttemptDone, h.AttemptDone)
		j.Refused = join3(j.Refused, h.Refused)
		j.FellBack = join4(j.FellBack, h.FellBack)
		j.Propagate = join2(j.Propagate, h.Propagate)
		j.Lane = firstLane(j.Lane, h.Lane)
		j.Discovery = join2(j.Discovery, h.Discovery)
		j.Health = join2(j.Health, h.Health)
		j.State = join2(j.State, h.State)
		j.Connection = join2(j.Connection, h.Connection)
		j.Explained = join2(j.Explained, h.Explained)
		j.Opened = join1(j.Opened, h.Opened)
		j.Closed = join1(j.Closed, h.Closed)
		j.Update = join1(j.Update, h.Update)
	}
	return j
}

func join1[A any](f, g func(A)) func(A) {
	if f == nil || g == nil {
		return either(f, g, f == nil)
	}
	return func(a A) { f(a); g(a) }
}

func join2[A, B any](f, g func(A, B)) func(A, B) {
	if f == nil || g == nil {
		return either(f, g, f == nil)
	}
	return func(a A, b B) { f(a, b); g(a, b) }
}

func join3[A, B, C any](f, g func(A, B, C)) func(A, B, C) {
	if f == nil || g == nil {
		return either(f, g, f == nil)
	}
	return func(a A, b B, c C) { f(a, b, c); g(a, b, c) }
}

func join4[A, B, C, D any](f, g func(A, B, C, D)) func(A, B, C, D) {
	if f == nil || g == nil {
		return either(f, g, f == nil)
	}
	return func(a A, b B, c C, d D) { f(a, b, c, d); g(a, b, c, d) }
}

func chain2[A any](f, g func(context.Context, A) context.Context) func(context.Context, A) context.Context {
	if f == nil || g == nil {
		return either(f, g, f == nil)
	}
	return func(ctx context.Context, a A) context.Context { return g(f(ctx, a), a) }
}

func chain3[A, B any](f, g func(context.Context, A, B) context.Context) func(context.Context, A, B) context.Context {
	if f == nil || g == nil {
		return either(f, g, f == nil)
	}
	return func(ctx context.Context, a A, b B) context.Context { return g(f(ctx, a, b), a, b) }
}

func firstLane(f, g func(context.Context) string) func(context.Context) string {
	if f == nil || g == nil {
		return either(f, g, f == nil)
	}
	return func(ctx context.Context) string {
		if lane := f(ctx); lane != "" {
			return lane
		}
		return g(ctx)
	}
}

// either returns g if that is the one, and f else.
func either[F any](f, g F, second bool) F {
	if second {
		return g
	}
	return f
}
