"""A gRPC server on C-core: answers every key with the same bytes, `sleep N` after N milliseconds."""

import json
import os
import time
from concurrent import futures

import grpc


def get(request: bytes, context: grpc.ServicerContext) -> bytes:
    """The one method."""
    word, _, ms = request.decode().partition(" ")
    if word == "sleep":
        time.sleep(int(ms) / 1000)
    return b"hello"


options = list(json.loads(os.environ.get("SERVER_OPTIONS", "{}")).items())
server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=options)
method = grpc.unary_unary_rpc_method_handler(get)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("cache.Cache", {"Get": method}),))
server.add_insecure_port(f"{os.environ['SERVER_ADDRESS']}:50051")
server.start()
print("ready")
server.wait_for_termination()
