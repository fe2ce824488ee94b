package xds

import (
	"fmt"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// maxAnswer bounds an answer of the control plane, decompressed. 100,000 endpoints fit.
	maxAnswer = 16 << 20
	// maxResources bounds how many resources an answer has: 16 MiB of empty ones would take a gigabyte.
	maxResources = 100_000
	// maxEndpoints bounds the endpoints of one resource, for the same reason. discovery.Run takes no more.
	maxEndpoints = 10_000
	// maxDepth bounds how deep messages lie in each other. Those of the resources that we read have 12 levels.
	maxDepth = 64
)

// codec is the codec of gRPC for protocol buffers, for one stream. It refuses answers with too many resources before they take
// memory.
type codec struct {
	// garbled is set when an answer was no message: gRPC reports that with a status as if the control plane had sent it.
	// It belongs to who receives.
	garbled error
}

func (*codec) Name() string { return "proto" }

func (*codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("xds: cannot marshal %T", v)
	}
	data, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(data)}, nil
}

func (c *codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("xds: cannot unmarshal %T", v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	if _, ok := m.(*discoveryv3.DiscoveryResponse); ok {
		const resources = 2
		n := 0
		if err := fields(buf.ReadOnlyData(), func(number protowire.Number, _ []byte) {
			if number == resources {
				n++
			}
		}); err != nil {
			return c.garble(err)
		}
		if n > maxResources {
			return fmt.Errorf("xds: %d resources in one answer are more than %d", n, maxResources)
		}
	}
	if err := unmarshal(buf.ReadOnlyData(), m); err != nil {
		return c.garble(err)
	}
	return nil
}

// garble notes that an answer cannot be decoded, and returns that as an error.
func (c *codec) garble(err error) error {
	c.garbled = fmt.Errorf("%w: %s", errGarbled, cut(err.Error()))
	return c.garbled
}

// unmarshal is proto.Unmarshal for what comes from outside.
func unmarshal(data []byte, m proto.Message) error {
	return proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: maxDepth}.Unmarshal(data, m)
}

// fields calls visit with the number and the content of each field of a message that has a length: strings, bytes and messages.
func fields(data []byte, visit func(number protowire.Number, content []byte)) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if kind == protowire.BytesType {
			content, n := protowire.ConsumeBytes(data)
			if n < 0 {
				return protowire.ParseError(n)
			}
			visit(number, content)
			data = data[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
	}
	return nil
}
