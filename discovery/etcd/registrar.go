package etcd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/etcdapi"
)

// defaultTTL is that of discovery.Check.
const defaultTTL = 15 * time.Second

// Registrar registers instances under a lease. It is a [discovery.Registrar], safe for concurrent use.
//
// It renews the lease and looks for its key every third of the lease, and at once when the connection to etcd changes its
// state. It puts the key again under a new lease when it is gone, whatever the reason, within 2 s after etcd is reachable; see
// [discovery.KeepLease]. If another registration takes over the key later, it is left to that one until the key is gone.
type Registrar struct {
	// Client reaches etcd. Required. Best made by [NewClient]. See Resolver.Client.
	Client *clientv3.Client
	// Prefix stands before the name of the service as in Resolver.Prefix.
	Prefix string
	// Encode makes the value of the key. inst has its ID, and the address that callers are told. It must be safe
	// for concurrent use. nil means the form of zerohop, which the package comment shows.
	Encode func(inst discovery.Instance) ([]byte, error)
	// Advertising says which address callers are told where that of the instance is not one that they can reach.
	Advertising discovery.Advertising
	// OnError is told each failed attempt after the first registration. It must not block and not call Close. nil
	// means nobody.
	OnError func(error)
}

var _ discovery.Registrar = Registrar{}

// Register implements [discovery.Registrar]. The key is the Prefix, the service and the ID of inst, joined by slashes.
// discovery.Advertise says what callers are told as address. If ctx ends during the request, etcd may have the instance
// until its lease runs out. Instance.Check can only be a lease, of at least 3 s: etcd calls nobody. The error is a
// discovery.ErrInvalidInstance that names all that is wrong with inst, or what Encode says, or that Client is nil.
func (r Registrar) Register(ctx context.Context, inst discovery.Instance) (discovery.Registration, error) {
	t, err := etcdapi.TargetOf(r.Client, "Registrar")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", discovery.ErrInvalidInstance, err)
	}
	entry, err := r.entry(t, inst)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", discovery.ErrInvalidInstance, err)
	}
	// The life of the registration is up to Close.
	watching, stop := context.WithCancel(context.Background())
	wake := make(chan struct{}, 1)
	kept, err := discovery.KeepLease(ctx, entry, discovery.LeaseOptions{TTL: entry.ttl, Wake: wake, OnError: r.OnError})
	if err != nil {
		stop()
		return nil, err
	}
	g := &registration{Registration: kept, stop: stop, done: make(chan struct{})}
	go func() { // ended and awaited by Close
		defer close(g.done)
		for state := t.Conn.GetState(); t.Conn.WaitForStateChange(watching, state); state = t.Conn.GetState() {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}()
	return g, nil
}

// registration also knows who watches the connection.
type registration struct {
	discovery.Registration
	stop context.CancelFunc
	done chan struct{}
}

// Close implements [discovery.Registration]. After an error the instance may still be registered, and another Close
// tries again.
func (g *registration) Close(ctx context.Context) error {
	g.stop()
	<-g.done
	return g.Registration.Close(ctx)
}

// entry returns the key and value of inst.
func (r Registrar) entry(t etcdapi.Target, inst discovery.Instance) (*entryLease, error) {
	var wrong []error
	addr, err := discovery.Advertise(inst.Endpoint.Addr, r.Advertising)
	if err != nil {
		wrong = append(wrong, fmt.Errorf("etcd: Instance.Endpoint.Addr: %w", err))
	}
	inst.Endpoint.Addr = addr
	inst.ID = cmp.Or(inst.ID, strings.ReplaceAll(inst.Service, "/", "-")+"-"+addr)
	if inst.Service == "" {
		wrong = append(wrong, errors.New("etcd: Instance.Service is empty"))
	}
	if strings.Contains(inst.ID, "/") {
		wrong = append(wrong, fmt.Errorf("etcd: Instance.ID %q: a slash would hide it from resolvers", inst.ID))
	}
	if inst.Check.HTTP != "" || inst.Check.GRPC != "" {
		wrong = append(wrong, errors.New("etcd: Instance.Check: HTTP and GRPC must be empty, etcd calls nobody"))
	}
	ttl := cmp.Or(inst.Check.TTL, defaultTTL)
	if ttl < 3*time.Second {
		wrong = append(wrong, fmt.Errorf("etcd: Instance.Check.TTL: %v is less than 3s", ttl))
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	encode := r.Encode
	if encode == nil {
		encode = defaultEncode
	}
	value, err := encode(inst)
	if err != nil {
		return nil, fmt.Errorf("etcd: value of %q: %w", inst.ID, err)
	}
	return &entryLease{target: t, key: prefixOf(r.Prefix, inst.Service) + inst.ID, value: value, ttl: ttl}, nil
}

// defaultEncode makes a value that decode reads, and clients of etcd's gRPC naming, too.
func defaultEncode(inst discovery.Instance) ([]byte, error) {
	ep := inst.Endpoint
	out := struct {
		Op       int
		Addr     string
		Metadata map[string]string
		Weight   uint32   `json:",omitempty"`
		Zone     string   `json:",omitempty"`
		Priority uint8    `json:",omitempty"`
		Health   string   `json:",omitempty"`
		Tags     []string `json:",omitempty"`
	}{Addr: ep.Addr, Metadata: ep.Meta, Weight: ep.Weight, Zone: ep.Zone, Priority: ep.Priority, Tags: inst.Tags}
	if ep.Health != discovery.Healthy {
		out.Health = ep.Health.String()
	}
	return json.Marshal(out)
}
