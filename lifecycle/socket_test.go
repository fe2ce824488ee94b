package lifecycle

import (
	"context"
	"maps"
	"testing"

	"github.com/zerohop/zerohop/discovery"
)

// telling is a listener that knows more of itself than its address.
type telling struct{ listener }

func (telling) Meta() map[string]string { return map[string]string{"unix": "/run/s", "version": "1"} }

// noting is a registrar that keeps what it registers.
type noting struct {
	*registry
	seen chan discovery.Instance
}

func (n noting) Register(ctx context.Context, inst discovery.Instance) (discovery.Registration, error) {
	n.seen <- inst
	return n.registry.Register(ctx, inst)
}

func TestRunRegistersWhatTheListenerSays(t *testing.T) {
	d := &diary{}
	given := map[string]string{"version": "2"}
	s := d.server(0, discovery.Instance{Service: "orders", Endpoint: discovery.Endpoint{Meta: given}})
	s.Listener = telling{}
	r := noting{&registry{diary: d}, make(chan discovery.Instance, 1)}
	cancel, done := start(Config{Servers: []Server{s}, Registrar: r})
	inst := <-r.seen
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run() = %v", err)
	}
	if want := map[string]string{"unix": "/run/s", "version": "2"}; !maps.Equal(inst.Endpoint.Meta, want) {
		t.Errorf("registered with %v, want %v", inst.Endpoint.Meta, want)
	}
	if len(given) != 1 {
		t.Errorf("the map of the user has become %v", given)
	}
}
