package kubernetes

import (
	"context"
	"errors"
	"fmt"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/kubeapi"
)

// Resolver watches the EndpointSlices of services (discovery.k8s.io/v1). It is a [discovery.Resolver], safe for concurrent use.
//
// Each watch lists the slices of its service with a consistent read, so that a server that is behind the others cannot bring back
// what is gone, and then streams their changes. It makes at most one request a second (three in a row), whatever the server does,
// lists again when history is gone (410) and every 8 to 12 minutes, and ends as soon as something else fails. A connection
// that died without a word is noticed within 45 s.
//
// An endpoint that moves from one slice to another is in the set all the time: one that is in none stays for
// 300 ms, unless it terminated before, or left the only slice there is. Kubernetes does not tell an unknown service from one without endpoints: both are an empty set.
type Resolver struct {
	// Client reaches the API server. Required. See [NewClient].
	Client *Client
	// Namespace is that of services named without one. Empty means that of the pod or of the context of the kubeconfig,
	// else "default".
	Namespace string
	// Port is the name of a port of the Service, or the number of a port of its pods, for services named without one.
	// Empty means their only port, and of several the one named http, https or grpc, in this order.
	Port string
	// Services says what names mean, in lower case: {"orders": "orders-v2.shop:grpc"}. Names that are not
	// in it mean themselves.
	Services map[string]string
	// IncludeNotReady also lists endpoints that are not ready, as Unhealthy. The default leaves them out, as Kubernetes does.
	IncludeNotReady bool
	// PreferIPv6 takes the IPv6 address of pods that have one of each kind. The default is the IPv4 address.
	PreferIPv6 bool
	// NodeName is the node that the process runs on, for Zone. Empty means the environment variable NODE_NAME, to be set
	// from the field spec.nodeName of the pod.
	NodeName string
}

var errNoClient = errors.New("kubernetes: Resolver.Client is nil")

var (
	_ discovery.Resolver     = Resolver{}
	_ discovery.RemoteSource = Resolver{}
	_ discovery.ZoneSource   = Resolver{}
)

// Remote implements [discovery.RemoteSource]: others write to the source.
func (Resolver) Remote() bool { return true }

// Watch implements [discovery.Resolver]. Its errors name what was asked for and the address of the API server. They are a
// *discovery.RefusedError if the server answers with a status other than 200, or with endpoints without a port to
// use.
func (r Resolver) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	if r.Client == nil {
		return errNoClient
	}
	t := r.target(service)
	if err := t.check(); err != nil {
		return err
	}
	own, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	p := &publisher{update: update, merged: merged{port: t.port, notReady: r.IncludeNotReady, preferIPv6: r.PreferIPv6}}
	p.fail = func(err error) { fail(unusable(t, err)) }
	defer p.close()

	err := r.watch(own, t, p)
	if ctx.Err() == nil && own.Err() != nil {
		return context.Cause(own)
	}
	return err
}

func (r Resolver) watch(ctx context.Context, t target, p *publisher) error {
	use := func(f func(*merged) error) error {
		if err := p.change(f); err != nil {
			return unusable(t, err)
		}
		return nil
	}
	return kubeapi.Watch(ctx, r.Client.API(), t.resource(),
		func(list *discoveryv1.EndpointSliceList) error {
			return use(func(m *merged) error { return m.replace(list.Items, t) })
		},
		func(slice *discoveryv1.EndpointSlice, exists bool) error {
			return use(func(m *merged) error { return m.put(slice, exists && t.has(slice)) })
		})
}

// unusable says that the server was heard and that its answer is of no use.
func unusable(t target, err error) error {
	return &discovery.RefusedError{Err: fmt.Errorf("kubernetes: %v: %w", t, err)}
}
