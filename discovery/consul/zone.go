package consul

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/internal/consulapi"
)

// Zone implements [discovery.ZoneSource]: it is Meta["zone"] or else the locality of the agent of Client, which should be the
// one on the same host. A datacenter is not a zone.
func (r Resolver) Zone(ctx context.Context) (string, error) {
	if r.Client == nil {
		return "", fmt.Errorf("%w in Resolver", consulapi.ErrNoClient)
	}
	var self struct {
		Meta        map[string]string
		DebugConfig struct{ Locality *api.Locality }
	}
	_, err := r.agent().Call(ctx, "zone", consulapi.AnswerTime, func(q *api.QueryOptions) error {
		_, err := r.Client.Raw().Query("/v1/agent/self", &self, q)
		return err
	})
	if err != nil {
		return "", err
	}
	return firstOf(self.Meta[zoneKey], zone(self.DebugConfig.Locality)), nil
}
