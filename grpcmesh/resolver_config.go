package grpcmesh

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	_ "google.golang.org/grpc/health" // gRPC watches endpoints with it
)

// configs returns two service configs: that of connections on the mesh, and what the user said of it alone, so that
// grpc.NewClient looks at that. If the Client is not valid, gRPC will find that both are not, and say why.
func (c *Client) configs() (mesh, user string) {
	fields, err := c.fields()
	if err != nil {
		bad := string(raw(balanced(nil, balancerConfig{Invalid: "client." + err.Error()})))
		return bad, bad
	}
	user = string(raw(fields))
	return string(raw(balanced(fields, balancerConfig{}))), user
}

// balanced adds the balancer to the fields of a service config.
func balanced(fields map[string]json.RawMessage, c balancerConfig) map[string]json.RawMessage {
	all := map[string]json.RawMessage{"loadBalancingConfig": raw([]map[string]balancerConfig{{balancerName: c}})}
	maps.Copy(all, fields)
	return all
}

// fields returns the fields of the user's service config, and what else the Client says.
func (c *Client) fields() (map[string]json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	if c.Mesh == nil {
		return nil, errors.New("mesh: must be set")
	}
	if c.ServiceConfig != "" {
		var given map[string]json.RawMessage
		if err := json.Unmarshal([]byte(c.ServiceConfig), &given); err != nil {
			return nil, fmt.Errorf("serviceConfig: %w", err)
		}
		if err := allowed(given); err != nil {
			return nil, err
		}
		maps.Copy(fields, given)
	}
	if c.Health != nil {
		for name := range fields {
			if strings.EqualFold(name, "healthCheckConfig") {
				return nil, errors.New("health: serviceConfig.healthCheckConfig says something, too")
			}
		}
		fields["healthCheckConfig"] = raw(map[string]string{"serviceName": c.Health.Service})
	}
	return fields, nil
}

// reserved are the fields of a service config that are the mesh's, and what has their part. gRPC reads names without
// regard to case.
var reserved = map[string]string{
	"loadbalancingconfig": "balance of a policy",
	"loadbalancingpolicy": "balance of a policy",
	"retrythrottling":     "budget of a policy",
	"retrypolicy":         "retry of a policy",
	"hedgingpolicy":       "backup of a policy",
}

// allowed returns an error that names the first field it finds that is the mesh's.
func allowed(config map[string]json.RawMessage) error {
	for name, value := range config {
		if err := unreserved("serviceConfig."+name, name); err != nil {
			return err
		}
		if !strings.EqualFold(name, "methodConfig") {
			continue
		}
		var methods []map[string]json.RawMessage
		if err := json.Unmarshal(value, &methods); err != nil {
			return fmt.Errorf("serviceConfig.%s: %w", name, err)
		}
		for i, m := range methods {
			for field := range m {
				if err := unreserved(fmt.Sprintf("serviceConfig.%s[%d].%s", name, i, field), field); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func unreserved(path, name string) error {
	if instead, ok := reserved[strings.ToLower(name)]; ok {
		return fmt.Errorf("%s: belongs to the mesh, see %s", path, instead)
	}
	return nil
}

// raw returns the JSON of what is known to have one.
func raw(v any) json.RawMessage {
	text, _ := json.Marshal(v)
	return text
}
