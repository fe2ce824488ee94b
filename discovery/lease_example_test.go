package discovery_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/zerohop/zerohop/discovery"
)

// redis stands in for a client of Redis: SET key value EX ttl, EXPIRE key ttl and DEL key.
type redis struct {
	mu   sync.Mutex
	keys map[string]string
}

func (r *redis) Set(_ context.Context, key, value string, _ time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[key] = value
	return nil
}

func (r *redis) Expire(_ context.Context, key string, _ time.Duration) (found bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, found = r.keys[key]
	return found, nil
}

func (r *redis) Del(_ context.Context, key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.keys, key)
	return nil
}

// redisKey is a key of Redis as a discovery.Lease.
type redisKey struct {
	client     *redis
	key, value string
	ttl        time.Duration
}

func (k redisKey) Put(ctx context.Context) error {
	return k.client.Set(ctx, k.key, k.value, k.ttl)
}

func (k redisKey) Renew(ctx context.Context) error {
	found, err := k.client.Expire(ctx, k.key, k.ttl)
	if err == nil && !found {
		return discovery.ErrLeaseLost
	}
	return err
}

func (k redisKey) Remove(ctx context.Context) error {
	return k.client.Del(ctx, k.key)
}

func ExampleKeepLease() {
	ctx := context.Background()
	client := &redis{keys: make(map[string]string)}
	lease := redisKey{client: client, key: "services/orders/1", value: "192.0.2.1:8080", ttl: 15 * time.Second}
	registration, err := discovery.KeepLease(ctx, lease, discovery.LeaseOptions{TTL: lease.ttl})
	fmt.Println(err, client.keys)
	// ... serve, and take the instance out before the server stops:
	err = registration.Close(ctx)
	fmt.Println(err, client.keys)
	// Output:
	// <nil> map[services/orders/1:192.0.2.1:8080]
	// <nil> map[]
}
