package grpcmesh

import (
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop"
)

// patienceForNode is how long an RPC waits for a connection to the endpoint of its session before it goes elsewhere: as long as
// HTTP takes to connect at most. Shorter, and sessions would move whenever a connection is lost.
const patienceForNode = time.Second

// bind returns the headers of an answer with what binds further calls of the caller to its endpoint.
func bind(md metadata.MD, a *zerohop.Attempt) metadata.MD {
	md = md.Copy()
	if md == nil {
		md = metadata.MD{}
	}
	a.Bind(false, func(name, value string) {
		name = strings.ToLower(name)
		if name != "set-cookie" {
			delete(md, name)
		}
		md.Append(name, value)
	})
	return md
}

// bindTo adds to the headers that the caller asked for.
func bindTo(opts []grpc.CallOption, a *zerohop.Attempt) {
	if !a.Binds() {
		return
	}
	for _, o := range opts {
		if o, ok := o.(grpc.HeaderCallOption); ok {
			*o.HeaderAddr = bind(*o.HeaderAddr, a)
		}
	}
}

// bound is a stream whose headers say how to reach its endpoint again.
type bound struct{ *attemptStream }

func (b bound) Header() (metadata.MD, error) { return b.bound(b.ClientStream.Header()) }

// bound completes the headers of a stream that is the answer.
func (s *attemptStream) bound(md metadata.MD, err error) (metadata.MD, error) {
	if err == nil && md != nil && s.state.attempt.Binds() {
		md = bind(md, s.state.attempt)
	}
	return md, err
}
