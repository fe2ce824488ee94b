package discovery

import (
	"reflect"
	"testing"
)

func TestEqualComparesEachField(t *testing.T) {
	base := Endpoint{Addr: "a:1", Weight: 1, Meta: map[string]string{"k": "v"}}
	if !base.Equal(Endpoint{Addr: "a:1", Weight: 1, Meta: map[string]string{"k": "v"}}) {
		t.Error("Equal() = false for equal endpoints")
	}
	changes := []func(*Endpoint){
		func(e *Endpoint) { e.Addr = "b:1" },
		func(e *Endpoint) { e.Weight = 2 },
		func(e *Endpoint) { e.Zone = "z" },
		func(e *Endpoint) { e.Priority = 1 },
		func(e *Endpoint) { e.Health = Draining },
		func(e *Endpoint) { e.Meta = map[string]string{"k": "w"} },
	}
	for i, change := range changes {
		other := base
		change(&other)
		if base.Equal(other) {
			t.Errorf("Equal() = true after change %d", i)
		}
	}
	if got, want := len(changes), reflect.TypeFor[Endpoint]().NumField(); got != want {
		t.Errorf("%d fields were changed, want all %d", got, want)
	}
}
