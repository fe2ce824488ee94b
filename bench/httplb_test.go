package bench

import (
	"context"
	"net/http"

	"github.com/bufbuild/httplb/attribute"
	"github.com/bufbuild/httplb/conn"
	"github.com/bufbuild/httplb/picker"
	"github.com/bufbuild/httplb/resolver"
)

func httplbRoundRobin(list []string) subject { return httplb(picker.NewRoundRobin, list) }

func httplbPowerOfTwo(list []string) subject { return httplb(picker.NewPowerOfTwo, list) }

func httplbLeastLoaded(list []string) subject { return httplb(picker.NewLeastLoadedRoundRobin, list) }

// httplb drives a picker as its client does: a picker is made from the one before at each change.
func httplb(build func(picker.Picker, conn.Conns) picker.Picker, list []string) subject {
	known := map[string]conn.Conn{}
	var p picker.Picker
	update := func(list []string) func() {
		conns := make(connList, len(list))
		for i, addr := range list {
			if known[addr] == nil {
				known[addr] = &httplbConn{addr: addr}
			}
			conns[i] = known[addr]
		}
		return func() { p = build(p, conns) }
	}
	update(list)()
	return subject{
		caller: func() func() {
			return func() {
				_, done, err := p.Pick(nil)
				if err != nil {
					panic(err)
				}
				if done != nil {
					done()
				}
			}
		},
		update: update,
	}
}

type connList []conn.Conn

func (l connList) Len() int            { return len(l) }
func (l connList) Get(i int) conn.Conn { return l[i] }

// httplbConn is a connection that is never used.
type httplbConn struct{ addr string }

func (c *httplbConn) RoundTrip(*http.Request, func()) (*http.Response, error) { panic("not called") }
func (c *httplbConn) Scheme() string                                          { return "http" }
func (c *httplbConn) Address() resolver.Address                               { return resolver.Address{HostPort: c.addr} }
func (c *httplbConn) UpdateAttributes(attribute.Values)                       {}
func (c *httplbConn) Prewarm(context.Context) error                           { return nil }
