package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
)

const (
	defaultTTL             = 15 * time.Second
	defaultInterval        = 10 * time.Second
	defaultTimeout         = 2 * time.Second
	defaultDeregisterAfter = 10 * time.Minute
	// minTTL leaves a second for each of three renewals, the pace of all requests. A shorter lease is lost to
	// a pause of the scheduler.
	minTTL = 3 * paceInterval
)

// Registrar registers instances with the agent of Client, which should be the one on the same host: Consul ties
// instances to agents. It is a [discovery.Registrar], safe for concurrent use.
//
// Between two renewals it keeps a request open at the agent, so it notices at once when the agent dies or loses
// the instance, and registers it again at most 1 s after the agent answers again, for ever.
//
// An instance with a lease passes from the start; one that Consul calls passes after the first call, and when
// it was lost and registered again until that call says otherwise. A warning instance gets weight 1.
type Registrar struct {
	// Client reaches the agent. Required. See [NewClient].
	Client *api.Client
	// TokenFile holds the ACL token, read before each request. Empty means the token of Client.
	TokenFile string
	// OnError is called with each failure after Register returned, by the goroutine of that registration, until
	// Close returns. It must not block and not call Close. nil means nobody.
	OnError func(error)
}

var _ discovery.Registrar = Registrar{}

// Register implements [discovery.Registrar]. The host of inst.Endpoint.Addr must be one that callers can reach: an
// empty or unspecified one (0.0.0.0, ::) is an error. Weights above 65535, the most that Consul takes, become
// 65535. Endpoint.Health is for Consul to find out and is not used. If ctx ends during the request, the
// agent may have registered the instance; it forgets it by inst.Check.DeregisterAfter. A lease shorter than 3 s is
// an error.
func (r Registrar) Register(ctx context.Context, inst discovery.Instance) (discovery.Registration, error) {
	if r.Client == nil {
		return nil, fmt.Errorf("%w in Registrar", errNoClient)
	}
	service, err := definition(inst)
	if err != nil {
		return nil, err
	}
	g := &registration{
		agent:   agent{client: r.Client, tokenFile: r.TokenFile},
		service: service,
		onError: r.OnError,
		done:    make(chan struct{}),
		turn:    make(chan struct{}, 1),
	}
	if service.Check.TTL != "" {
		g.lease = cmp.Or(inst.Check.TTL, defaultTTL)
	}
	if err := g.register(ctx); err != nil {
		return nil, err
	}
	g.service.Check.Status = api.HealthPassing
	// The life of the registration is up to Close, not to the ctx of its first request.
	keep, stop := context.WithCancel(context.Background())
	g.stop = stop
	go g.keep(keep) // ended and awaited by Close
	return g, nil
}

// definition says in Consul's words what inst is.
func definition(inst discovery.Instance) (*api.AgentServiceRegistration, error) {
	if err := checkName("Instance.Service", inst.Service); err != nil {
		return nil, err
	}
	id := cmp.Or(inst.ID, inst.Service+"-"+inst.Endpoint.Addr)
	if err := checkName("Instance.ID", id); err != nil {
		return nil, err
	}
	host, port, err := splitAddr(inst.Endpoint.Addr)
	if err != nil {
		return nil, err
	}
	check, err := check(inst.Check)
	if err != nil {
		return nil, err
	}
	check.CheckID = "service:" + id
	meta := maps.Clone(inst.Endpoint.Meta)
	if meta == nil {
		meta = make(map[string]string)
	}
	if inst.Endpoint.Zone != "" {
		meta[zoneKey] = inst.Endpoint.Zone
	}
	if inst.Endpoint.Priority > 0 {
		meta[priorityKey] = strconv.Itoa(int(inst.Endpoint.Priority))
	}
	return &api.AgentServiceRegistration{
		ID:      id,
		Name:    inst.Service,
		Address: host,
		Port:    port,
		Tags:    inst.Tags,
		Meta:    meta,
		Weights: &api.AgentWeights{Passing: int(min(max(inst.Endpoint.Weight, 1), maxWeight)), Warning: 1},
		Check:   check,
	}, nil
}

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("consul: Instance.Endpoint.Addr: %w", err)
	}
	ip, _ := netip.ParseAddr(host) // of a name: invalid, which is not unspecified
	if host == "" || ip.Unmap().IsUnspecified() {
		return "", 0, fmt.Errorf("consul: Instance.Endpoint.Addr %q: callers cannot reach that host", addr)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("consul: Instance.Endpoint.Addr %q: port is not in 1..65535", addr)
	}
	return host, int(n), nil
}

func check(c discovery.Check) (*api.AgentServiceCheck, error) {
	called := c.HTTP != "" || c.GRPC != ""
	switch {
	case c.HTTP != "" && c.GRPC != "":
		return nil, errors.New("consul: Instance.Check: HTTP and GRPC are both set")
	case called && c.TTL != 0:
		return nil, errors.New("consul: Instance.Check: TTL is set together with HTTP or GRPC")
	case c.TTL != 0 && c.TTL < minTTL:
		return nil, fmt.Errorf("consul: Instance.Check.TTL: %v is less than %v", c.TTL, minTTL)
	case c.Interval < 0 || c.Timeout < 0 || c.DeregisterAfter < 0:
		return nil, errors.New("consul: Instance.Check: Interval, Timeout or DeregisterAfter is negative")
	}
	out := &api.AgentServiceCheck{
		DeregisterCriticalServiceAfter: cmp.Or(c.DeregisterAfter, defaultDeregisterAfter).String(),
	}
	if !called {
		out.TTL = cmp.Or(c.TTL, defaultTTL).String()
		out.Status = api.HealthPassing
		return out, nil
	}
	out.HTTP, out.GRPC = c.HTTP, c.GRPC
	out.Interval = cmp.Or(c.Interval, defaultInterval).String()
	out.Timeout = cmp.Or(c.Timeout, defaultTimeout).String()
	return out, nil
}

// maxWeight is the highest weight that Consul takes.
const maxWeight = 65535
