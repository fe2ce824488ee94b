package grpcmesh

import "google.golang.org/grpc"

// finishers are what a caller wants called at the end of his call (grpc.OnFinish). Attempts, which gRPC would call them
// for, end more often than calls do, and there are calls without any.
type finishers []func(error)

// take takes the finishers out of the options of a call and returns those for each attempt.
func (f *finishers) take(opts []grpc.CallOption) []grpc.CallOption {
	var rest []grpc.CallOption
	for i, o := range opts {
		if last, ok := o.(grpc.OnFinishCallOption); ok {
			if *f == nil {
				rest = append(rest, opts[:i]...)
			}
			*f = append(*f, last.OnFinish)
		} else if *f != nil {
			rest = append(rest, o)
		}
	}
	if *f == nil {
		return opts
	}
	return rest
}

// call tells the caller how the call ended.
func (f finishers) call(err error) {
	for _, finish := range f {
		finish(err)
	}
}
