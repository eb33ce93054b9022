"""A cache behind gRPC by C-core, with the channel outside the handler. Messages are raw bytes: no .proto file needed."""

import json
import logging
import os
import time

import grpc

WORK_S = 0.06  # what the function does after the last packet; longer than the kernel's delayed ACK (40 ms)

options = list(json.loads(os.environ.get("CHANNEL_OPTIONS", "{}")).items())
channel = grpc.insecure_channel(f"{os.environ['SERVER_ADDRESS']}:50051", options=options)
get = channel.unary_unary("/cache.Cache/Get")


def handler(event: dict, context: object) -> dict:
    """event: {deadlines: [s of each call], key, work_s: then work so long}."""
    key = event.get("key", "greeting")
    for deadline_s in event["deadlines"]:
        began = time.monotonic()
        try:
            get(key.encode(), timeout=deadline_s)
            logging.info("cache get %s ok in %.0f ms", key, (time.monotonic() - began) * 1000)
        except grpc.RpcError as error:
            passed_ms = (time.monotonic() - began) * 1000
            logging.error("cache get %s failed after %.0f ms: %s %s", key, passed_ms, error.code(), error.details())
    time.sleep(event.get("work_s", WORK_S))
    return {}
