package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/api/validation"

	"github.com/zerohop/zerohop/internal/kubeapi"
)

// zoneLabels are the labels of a node that name its zone, the present one first.
var zoneLabels = [...]string{"topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"}

// partialNode asks for the metadata of an object only: a node is large.
const partialNode = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

var errNoNode = errors.New("kubernetes: the node is not known: set Resolver.NodeName, or NODE_NAME from spec.nodeName")

// Zone implements [discovery.ZoneSource]: the zone of the node that the process runs on, by its label
// topology.kubernetes.io/zone. See Resolver.NodeName for the node, and the package for the permission it needs. It
// makes one request, which takes up to 10 s. Its errors are like those of Watch.
func (r Resolver) Zone(ctx context.Context) (string, error) {
	if r.Client == nil {
		return "", errNoClient
	}
	node := cmp.Or(r.NodeName, os.Getenv("NODE_NAME"))
	if node == "" {
		return "", errNoNode
	}
	if errs := validation.NameIsDNSSubdomain(node, false); len(errs) > 0 {
		return "", fmt.Errorf("kubernetes: name of the node %.100q: %s", node, errs[0])
	}
	bounded, cancel := context.WithTimeout(ctx, kubeapi.AnswerTime)
	defer cancel()
	what := fmt.Sprintf("labels of node %q", node)
	resp, err := r.Client.API().Get(bounded, what, []string{"api/v1/nodes", node}, nil, partialNode)
	if err != nil {
		return "", cmp.Or(ctx.Err(), err)
	}
	defer resp.Body.Close()
	var object struct {
		Metadata struct{ Labels map[string]string }
	}
	data, err := kubeapi.Read(resp.Body, kubeapi.MaxAnswer)
	if err == nil {
		err = json.Unmarshal(data, &object)
	}
	if err != nil {
		return "", cmp.Or(ctx.Err(), r.Client.API().Explain(what, err))
	}
	for _, label := range zoneLabels {
		if zone := object.Metadata.Labels[label]; zone != "" {
			return zone, nil
		}
	}
	return "", nil
}
