"""A server of gRPC's test service on grpcio, which is gRPC's C core. Usage: server.py DESCRIPTORS [KEY CERTIFICATE]

DESCRIPTORS is a file with the serialized FileDescriptorSet of the service. The server prints its port and serves until
its standard input ends.
"""
import sys
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

with open(sys.argv[1], "rb") as f:
    files = descriptor_pb2.FileDescriptorSet.FromString(f.read())
pool = descriptor_pool.DescriptorPool()
for f in files.file:
    pool.AddSerializedFile(f.SerializeToString())


def message(name):
    descriptor = pool.FindMessageTypeByName("grpc.testing." + name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)  # before protobuf 4.22


Empty = message("Empty")
SimpleRequest, SimpleResponse = message("SimpleRequest"), message("SimpleResponse")
InputRequest, InputResponse = message("StreamingInputCallRequest"), message("StreamingInputCallResponse")
OutputRequest, OutputResponse = message("StreamingOutputCallRequest"), message("StreamingOutputCallResponse")
codes = {c.value[0]: c for c in grpc.StatusCode}


def echo(context):
    for key, value in context.invocation_metadata():
        if key == "x-grpc-test-echo-initial":
            context.send_initial_metadata([(key, value)])
        if key == "x-grpc-test-echo-trailing-bin":
            context.set_trailing_metadata([(key, value)])


def fail(request, context):
    if request.response_status.code:
        context.abort(codes[request.response_status.code], request.response_status.message)


def unary(request, context):
    echo(context)
    fail(request, context)
    reply = SimpleResponse()
    reply.payload.body = bytes(request.response_size)
    return reply


def collect(requests, context):
    return InputResponse(aggregated_payload_size=sum(len(r.payload.body) for r in requests))


def answers(request):
    for p in request.response_parameters:
        reply = OutputResponse()
        reply.payload.body = bytes(p.size)
        yield reply


def output(request, context):
    yield from answers(request)


def duplex(requests, context):
    echo(context)
    for request in requests:
        fail(request, context)
        yield from answers(request)


def handler(kind, f, request, reply):
    return kind(f, request_deserializer=request.FromString, response_serializer=reply.SerializeToString)


server = grpc.server(futures.ThreadPoolExecutor(32))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.testing.TestService", {
    "EmptyCall": handler(grpc.unary_unary_rpc_method_handler, lambda request, context: Empty(), Empty, Empty),
    "UnaryCall": handler(grpc.unary_unary_rpc_method_handler, unary, SimpleRequest, SimpleResponse),
    "StreamingInputCall": handler(grpc.stream_unary_rpc_method_handler, collect, InputRequest, InputResponse),
    "StreamingOutputCall": handler(grpc.unary_stream_rpc_method_handler, output, OutputRequest, OutputResponse),
    "FullDuplexCall": handler(grpc.stream_stream_rpc_method_handler, duplex, OutputRequest, OutputResponse),
})])
if len(sys.argv) > 2:
    pair = [open(path, "rb").read() for path in sys.argv[2:]]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(None)
