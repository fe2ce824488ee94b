package zerohop

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
)

// recordingHooks returns hooks all fields of which note their name and number in log; those that return a context derive it.
func recordingHooks(number int, log *[]string) (h Hooks) {
	v := reflect.ValueOf(&h).Elem()
	for i := range v.NumField() {
		name, typ := v.Type().Field(i).Name, v.Field(i).Type()
		v.Field(i).Set(reflect.MakeFunc(typ, func(args []reflect.Value) []reflect.Value {
			*log = append(*log, fmt.Sprintf("%s %d", name, number))
			if typ.NumOut() == 0 {
				return nil
			}
			if typ.Out(0).Kind() == reflect.String {
				return []reflect.Value{reflect.ValueOf("")}
			}
			ctx := context.WithValue(args[0].Interface().(context.Context), hookKey(number), name)
			return []reflect.Value{reflect.ValueOf(&ctx).Elem()}
		}))
	}
	return h
}

type hookKey int

// callHook calls a hook with zero values and a context, and returns the one that it returns, if any.
func callHook(f reflect.Value, ctx context.Context) context.Context {
	args := make([]reflect.Value, f.Type().NumIn())
	for i := range args {
		args[i] = reflect.Zero(f.Type().In(i))
	}
	if f.Type().NumIn() > 0 && f.Type().In(0) == reflect.TypeFor[context.Context]() {
		args[0] = reflect.ValueOf(&ctx).Elem()
	}
	out := f.Call(args)
	if len(out) == 0 || out[0].Kind() == reflect.String {
		return nil
	}
	return out[0].Interface().(context.Context)
}

func TestJoinHooksCallsEachFieldInOrder(t *testing.T) {
	var log []string
	joined := JoinHooks(recordingHooks(1, &log), Hooks{}, recordingHooks(2, &log), recordingHooks(3, &log))
	v := reflect.ValueOf(joined)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Field(i).IsNil() {
			t.Errorf("%s is forgotten", name)
			continue
		}
		log = nil
		ctx := callHook(v.Field(i), t.Context())
		if want := []string{name + " 1", name + " 2", name + " 3"}; !slices.Equal(log, want) {
			t.Errorf("calls = %q, want %q", log, want)
		}
		for n := 1; ctx != nil && n <= 3; n++ {
			if ctx.Value(hookKey(n)) != name {
				t.Errorf("%s: the context lacks what hook %d put in", name, n)
			}
		}
	}
}

func TestJoinHooksAddsNothingToASingleOne(t *testing.T) {
	var log []string
	for _, tt := range []struct {
		name  string
		hooks []Hooks
		want  []string
	}{
		{"none", nil, nil},
		{"empty ones", []Hooks{{}, {}}, nil},
		{"one", []Hooks{recordingHooks(1, &log)}, []string{"all"}},
		{"one among empty ones", []Hooks{{}, recordingHooks(1, &log), {}}, []string{"all"}},
	} {
		v := reflect.ValueOf(JoinHooks(tt.hooks...))
		for i := range v.NumField() {
			if got := !v.Field(i).IsNil(); got != (tt.want != nil) {
				t.Errorf("%s: %s is set = %v", tt.name, v.Type().Field(i).Name, got)
			}
			if tt.want == nil || v.Field(i).IsNil() {
				continue
			}
			for _, h := range tt.hooks {
				if f := reflect.ValueOf(h).Field(i); !f.IsNil() && f.Pointer() != v.Field(i).Pointer() {
					t.Errorf("%s: %s is not the one that was given", tt.name, v.Type().Field(i).Name)
				}
			}
		}
	}
}

func TestJoinHooksTakesTheFirstLane(t *testing.T) {
	lane := func(name string, asked *int) Hooks {
		return Hooks{Lane: func(context.Context) string { *asked++; return name }}
	}
	var a, b, c int
	h := JoinHooks(lane("", &a), lane("blue", &b), lane("green", &c))
	if got := h.Lane(t.Context()); got != "blue" || a != 1 || b != 1 || c != 0 {
		t.Errorf("Lane() = %q after asking %d, %d, %d times, want blue after 1, 1, 0", got, a, b, c)
	}
}

func TestJoinHooksSurroundCalls(t *testing.T) {
	var log []string
	layer := func(n int) Hooks {
		return Hooks{
			CallStart: func(ctx context.Context, _ CallInfo) context.Context {
				return context.WithValue(ctx, hookKey(n), "call")
			},
			AttemptStart: func(ctx context.Context, _ CallInfo, _ AttemptInfo) context.Context {
				return context.WithValue(ctx, hookKey(10+n), "attempt")
			},
			AttemptDone: func(ctx context.Context, _ CallInfo, _ AttemptInfo, _ AttemptResult) {
				log = append(log, fmt.Sprintf("%d %v %v", n, ctx.Value(hookKey(n)), ctx.Value(hookKey(10+n))))
			},
			CallDone: func(ctx context.Context, _ CallInfo, _ CallResult) {
				log = append(log, fmt.Sprintf("%d %v", n, ctx.Value(hookKey(n))))
			},
		}
	}
	m := open(t, Config{Resolver: orders(1), Hooks: JoinHooks(layer(1), layer(2))})
	if err := ping(t.Context(), m, "orders"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"1 call attempt", "2 call attempt", "1 call", "2 call"}; !slices.Equal(log, want) {
		t.Errorf("hooks found %q, want %q", log, want)
	}
}

func TestHooksAreToldWhenAMeshOpensAndCloses(t *testing.T) {
	var opened, closed *Mesh
	times := 0
	m, err := New(Config{Resolver: orders(1), Hooks: Hooks{
		Opened: func(m *Mesh) { opened = m; m.State() },
		Closed: func(m *Mesh) { closed = m; times++; m.State() },
	}})
	if err != nil {
		t.Fatal(err)
	}
	if opened != m || closed != nil {
		t.Errorf("after New: Opened got %p, Closed %p, want %p and nothing", opened, closed, m)
	}
	m.Close()
	m.Close()
	if closed != m || times != 1 {
		t.Errorf("after Close: Closed got %p %d times, want %p once", closed, times, m)
	}
}
