package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/consulapi"
	"github.com/zerohop/zerohop/internal/pace"
)

const (
	defaultTTL             = 15 * time.Second
	defaultInterval        = 10 * time.Second
	defaultTimeout         = 2 * time.Second
	defaultDeregisterAfter = 10 * time.Minute
	// minTTL leaves a second for each of three renewals, the pace of all requests. A shorter lease is lost to
	// a pause of the scheduler.
	minTTL = 3 * pace.Interval
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
	// Advertising says which address callers are told. The zero value finds it out from Endpoint.Addr of the instance,
	// and refuses loopback.
	Advertising discovery.Advertising
	// OnError is called with each failure after Register returned, by the goroutine of that registration, until
	// Close returns. It must not block and not call Close. nil means nobody.
	OnError func(error)
}

var _ discovery.Registrar = Registrar{}

// Register implements [discovery.Registrar]. Call it when the server listens, with the address of the listener as
// inst.Endpoint.Addr; [discovery.Advertise] says what callers are told then. Weights above 65535, the most that
// Consul takes, become 65535. Endpoint.Health is for Consul to find out and is not used. If ctx ends during the
// request, the agent may have registered the instance; it forgets it by inst.Check.DeregisterAfter. The error is a
// discovery.ErrInvalidInstance that names all that is wrong with inst (a lease shorter than 3 s is), or that Client is nil.
func (r Registrar) Register(ctx context.Context, inst discovery.Instance) (discovery.Registration, error) {
	if r.Client == nil {
		return nil, fmt.Errorf("%w: %w in Registrar", discovery.ErrInvalidInstance, consulapi.ErrNoClient)
	}
	service, err := definition(inst, r.Advertising)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", discovery.ErrInvalidInstance, err)
	}
	g := &registration{
		agent:   consulapi.Agent{Client: r.Client, TokenFile: r.TokenFile},
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
func definition(inst discovery.Instance, advertising discovery.Advertising) (*api.AgentServiceRegistration, error) {
	host, port, errAddr := "", 0, error(nil)
	addr, err := discovery.Advertise(inst.Endpoint.Addr, advertising)
	if err != nil {
		errAddr = fmt.Errorf("consul: Instance.Endpoint.Addr: %w", err)
	} else {
		host, port = splitAddr(addr)
	}
	id := cmp.Or(inst.ID, inst.Service+"-"+addr)
	check, errCheck := check(inst.Check)
	err = errors.Join(consulapi.CheckName("Instance.Service", inst.Service), consulapi.CheckName("Instance.ID", id), errAddr, errCheck)
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
	if inst.Endpoint.Weight > 1 { // Consul's own weight is for Consul and us, this one for Spring Cloud
		meta[weightKey] = strconv.FormatUint(uint64(inst.Endpoint.Weight), 10)
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

// splitAddr splits what discovery.Advertise returns, which always has a host and a number.
func splitAddr(addr string) (host string, port int) {
	host, text, _ := net.SplitHostPort(addr)
	port, _ = strconv.Atoi(text)
	return host, port
}

func check(c discovery.Check) (*api.AgentServiceCheck, error) {
	called := c.HTTP != "" || c.GRPC != ""
	var wrong []error
	if c.HTTP != "" && c.GRPC != "" {
		wrong = append(wrong, errors.New("consul: Instance.Check: HTTP and GRPC are both set"))
	}
	if called && c.TTL != 0 {
		wrong = append(wrong, errors.New("consul: Instance.Check: TTL is set together with HTTP or GRPC"))
	} else if c.TTL != 0 && c.TTL < minTTL {
		wrong = append(wrong, fmt.Errorf("consul: Instance.Check.TTL: %v is less than %v", c.TTL, minTTL))
	}
	if c.Interval < 0 || c.Timeout < 0 || c.DeregisterAfter < 0 {
		wrong = append(wrong, errors.New("consul: Instance.Check: Interval, Timeout or DeregisterAfter is negative"))
	}
	if wrong != nil {
		return nil, errors.Join(wrong...)
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
