package console

import (
	"testing"
	"time"

	"github.com/zerohop/zerohop"
)

func TestEndpointSaysWhetherItsSocketIsUsed(t *testing.T) {
	for _, c := range []struct {
		state zerohop.EndpointState
		want  *SocketView
	}{
		{zerohop.EndpointState{}, nil},
		{zerohop.EndpointState{Socket: "/run/s"}, &SocketView{State: "unused"}},
		{zerohop.EndpointState{Socket: "/run/s", SocketWorks: true}, &SocketView{State: "used"}},
		{zerohop.EndpointState{Socket: "/run/s", SocketError: "refused"}, &SocketView{State: "failing", Why: "refused"}},
	} {
		got := endpointView(&c.state, nil, time.Now(), 0, 0).Socket
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("socket %q works %t error %q: view %+v, want %+v", c.state.Socket, c.state.SocketWorks, c.state.SocketError, got, c.want)
		}
	}
}
