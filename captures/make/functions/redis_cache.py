"""A counter in Redis by redis-py, with the connection pool outside the handler."""

import json
import logging
import os
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

WORK_S = 0.06  # what the function does after the reply; longer than the kernel's delayed ACK (40 ms)

options = json.loads(os.environ.get("REDIS_OPTIONS", "{}"))
counter = redis.Redis(
    host=os.environ["SERVER_ADDRESS"], retry=Retry(NoBackoff(), options.pop("retries", 0)), protocol=2, **options
)


def handler(event: dict, context: object) -> dict:
    """event: {key, count: how often, catch: log an error and go on}."""
    began = time.monotonic()
    try:
        for _ in range(event.get("count", 1)):
            value = counter.incr(event["key"])
    except redis.RedisError as error:
        if not event.get("catch"):
            raise
        logging.error("INCR %s failed after %.0f ms: %s", event["key"], (time.monotonic() - began) * 1000, error)
        return {"value": None}
    logging.info("INCR %s -> %s in %.0f ms", event["key"], value, (time.monotonic() - began) * 1000)
    time.sleep(WORK_S)
    return {"value": value}
