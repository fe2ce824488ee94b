package discovery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Static is a Resolver over a fixed set of services. A service that is not a key, whatever its case, is unknown; one
// with no endpoints is known and empty. It must not be changed while it is watched.
type Static map[string][]Endpoint

// Watch calls update once, with a copy of the endpoints of the service, and blocks until ctx ends. It
// returns ctx.Err(), or an error that wraps ErrUnknownService and names the service.
func (s Static) Watch(ctx context.Context, service string, update func([]Endpoint)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	endpoints, ok := s[service]
	if !ok { // a mesh asks in lower case
		for _, name := range slices.Sorted(maps.Keys(s)) {
			if strings.EqualFold(name, service) {
				endpoints, ok = s[name], true
				break
			}
		}
	}
	if !ok {
		return fmt.Errorf("%w: %q", ErrUnknownService, service)
	}
	update(slices.Clone(endpoints))
	<-ctx.Done()
	return ctx.Err()
}
