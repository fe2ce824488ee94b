package grpcmesh

import (
	"encoding/json"
	"strings"
)

// patience is what a service config says of waitForReady, for calls that find a service without endpoints: those do not
// get as far as gRPC, which reads its configs by itself.
type patience map[string]bool // by full method, "/service/", or "" for all

// patience is empty if no method waits.
func (c *Client) patience() patience {
	var config struct {
		MethodConfig []struct {
			Name         []struct{ Service, Method string }
			WaitForReady bool
		}
	}
	if json.Unmarshal([]byte(c.ServiceConfig), &config) != nil {
		return nil // grpc.NewClient fails
	}
	p, waits := patience{}, false
	for _, m := range config.MethodConfig {
		waits = waits || m.WaitForReady
		for _, n := range m.Name {
			key := ""
			if n.Service != "" {
				key = "/" + n.Service + "/" + n.Method
			}
			p[key] = m.WaitForReady
		}
	}
	if !waits {
		return nil
	}
	return p
}

// of returns what is said of a full method, where gRPC looks for it, too.
func (p patience) of(method string) bool {
	if len(p) == 0 {
		return false
	}
	for _, key := range []string{method, method[:strings.LastIndexByte(method, '/')+1], ""} {
		if waits, ok := p[key]; ok {
			return waits
		}
	}
	return false
}
