package etcd

import (
	"context"
	"errors"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/etcdapi"
)

// Resolver watches services in etcd. It is a [discovery.Resolver], safe for concurrent use. The instances of a service are
// the keys directly below its own:
//
//	<Prefix>/<service>/<anything without a slash>
//
// so a service "a" has nothing of "a-b" and "a/b". Each watch lists the keys once and then follows their changes. All
// watches through one Client share one stream of one connection. etcd does not tell an unknown service from one without
// instances: both are an empty set.
type Resolver struct {
	// Client reaches etcd. Required. Best made by [NewClient]. Its connection is used, and not its fields KV, Lease and
	// Watcher, so what package namespace puts there has no effect: say it in Prefix.
	Client *clientv3.Client
	// Prefix stands before the name of the service, with a slash between the two. Empty means that keys begin with the
	// name. [KratosPrefix] and [KitexPrefix] are those of other libraries.
	Prefix string
	// Scheme chooses among the URLs of a value of Kratos: "grpc" takes grpc:// and grpcs://, "http" takes http:// and
	// https://. Empty means the only one; a value with several cannot be read then.
	Scheme string
	// Decode reads a value. Its key is the whole one. Instances whose value cannot be read are left out and counted in
	// discovery.Dropped.Addr, with an event that names the key and the error; if no other is left, the last set
	// stays. It must be safe for concurrent use and must not keep value. nil means to recognize the
	// forms that the package comment lists.
	Decode func(key string, value []byte) (discovery.Endpoint, error)
}

// Prefixes of the keys of other libraries, as they are by default.
const (
	KratosPrefix = "/microservices"
	KitexPrefix  = "kitex/registry-etcd"
)

var _ interface {
	discovery.Resolver
	discovery.RemoteSource
} = Resolver{}

// Remote implements [discovery.RemoteSource].
func (Resolver) Remote() bool { return true }

// Watch implements [discovery.Resolver]. Its errors name the addresses of the servers; they are a
// *discovery.RefusedError if etcd does not let us in or limits us.
func (r Resolver) Watch(ctx context.Context, service string, update func([]discovery.Endpoint)) error {
	t, err := etcdapi.TargetOf(r.Client, "Resolver")
	if err != nil {
		return err
	}
	if service == "" {
		return errors.New("etcd: the name of the service is empty")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s := &set{prefix: prefixOf(r.Prefix, service), decode: r.Decode, update: update}
	if s.decode == nil {
		s.decode = func(_ string, value []byte) (discovery.Endpoint, error) { return decode(value, r.Scheme) }
	}
	return t.Watch(ctx, keysOf(s.prefix, service), s)
}

// prefixOf returns what all keys of the instances of service begin with.
func prefixOf(prefix, service string) string {
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	return prefix + service + "/"
}

// keysOf returns the range of keys that begin with prefix, which ends in a slash.
func keysOf(prefix, service string) etcdapi.Range {
	key := []byte(prefix)
	return etcdapi.Range{Key: key, End: append(key[:len(key)-1:len(key)-1], '/'+1), Name: service}
}
