package grpcmesh

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// declared remembers what .proto files say of the methods that were called. Only methods whose descriptors are linked
// into the program get in, so method names from outside (in a proxy) cannot fill the memory.
var (
	declared      atomic.Pointer[map[string]bool] // of full method; immutable
	declaredWrite sync.Mutex                      // serialises changes
)

// idempotent reports whether the .proto file of a full method, "/package.Service/Method", declares that it may be
// executed more than once. Methods whose descriptors are not linked into the program are not, nor is what only looks
// like a method: a server, or a proxy before it, might take that for another one. proper is whether it does not.
func idempotent(method string) (v, proper bool) {
	if known := declared.Load(); known != nil {
		if v, ok := (*known)[method]; ok {
			return v, true
		}
	}
	service, name, proper := split(method)
	if !proper {
		return false, false
	}
	v, ok := lookUp(service, name)
	if ok {
		remember(method, v)
	}
	return v, true
}

func remember(method string, v bool) {
	declaredWrite.Lock()
	defer declaredWrite.Unlock()
	next := map[string]bool{}
	if known := declared.Load(); known != nil {
		next = maps.Clone(*known)
	}
	next[strings.Clone(method)] = v
	declared.Store(&next)
}

// lookUp is false if the method is not known here.
func lookUp(service, name string) (idempotent, ok bool) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return false, false
	}
	s, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return false, false
	}
	m := s.Methods().ByName(protoreflect.Name(name))
	if m == nil {
		return false, false
	}
	o, _ := m.Options().(*descriptorpb.MethodOptions)
	return o.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN, true
}

// split returns the parts of a full method, and false if it is not in its one proper form. Percent-encodings have no
// meaning in gRPC, but have one for some that stand in between.
func split(method string) (service, name string, ok bool) {
	rest, ok := strings.CutPrefix(method, "/")
	if !ok || strings.Contains(rest, "%") {
		return "", "", false
	}
	service, name, ok = strings.Cut(rest, "/")
	return service, name, ok && service != "" && name != "" && !strings.Contains(name, "/")
}
