package grpcmesh

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxReplay bounds what is kept of a stream to be sent again. It is what gRPC takes of a stream before it waits for the
// server, so that sending it again does not wait, either.
const maxReplay = 64 << 10

// messageCost is what a message costs beyond its encoding: the frame and the header of compression on the wire, and
// its place in the log.
const messageCost = 64

// replayLog is what the caller of a stream has sent so far. He may change a message once it was sent, so the log
// keeps the encoding of protobuf, whatever the codec of the stream is. Interceptors and codecs see a message again that
// is sent again, not its encoding.
type replayLog struct {
	messages []sentMessage
	size     int
	closed   bool // CloseSend was called
}

type sentMessage struct {
	kind protoreflect.MessageType
	data []byte
}

// add adds a message, and reports whether it could: the log is bounded and is for messages of protobuf only.
func (l *replayLog) add(m any) bool {
	p, ok := m.(proto.Message)
	if !ok {
		return false
	}
	r := p.ProtoReflect()
	if !r.IsValid() || r.Interface() != p { // nil, or more than a message
		return false
	}
	l.size += proto.Size(p) + messageCost
	if l.size > maxReplay {
		return false
	}
	data, err := proto.MarshalOptions{AllowPartial: true, UseCachedSize: true}.Marshal(p)
	l.messages = append(l.messages, sentMessage{r.Type(), data})
	return err == nil
}

// sendTo sends everything again. That the stream ends meanwhile is no error: who uses it next finds out.
func (l *replayLog) sendTo(s grpc.ClientStream) error {
	for _, sent := range l.messages {
		m := sent.kind.New().Interface()
		if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(sent.data, m); err != nil {
			return fmt.Errorf("grpcmesh: message to be sent again: %w", err)
		}
		switch err := s.SendMsg(m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
	if l.closed {
		return s.CloseSend()
	}
	return nil
}
