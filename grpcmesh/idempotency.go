package grpcmesh

import (
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// declared remembers what .proto files say of methods, up to a number that no program's own methods reach, so that
// method names from outside (in a proxy) cannot fill the memory.
var (
	declared     sync.Map // of full method to bool
	declarations atomic.Int64
)

const maxDeclarations = 10_000

// idempotent reports whether the .proto file of a full method, "/package.Service/Method", declares that it may be
// executed more than once. Methods whose descriptors are not linked into the program are not.
func idempotent(method string) bool {
	if v, ok := declared.Load(method); ok {
		return v.(bool)
	}
	v := lookUp(method)
	if declarations.Load() < maxDeclarations {
		if _, loaded := declared.LoadOrStore(method, v); !loaded {
			declarations.Add(1)
		}
	}
	return v
}

func lookUp(method string) bool {
	service, name, ok := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	if !ok {
		return false
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return false
	}
	s, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return false
	}
	m := s.Methods().ByName(protoreflect.Name(name))
	if m == nil {
		return false
	}
	o, _ := m.Options().(*descriptorpb.MethodOptions)
	return o.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}
