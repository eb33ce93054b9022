"""Orders in PostgreSQL by psycopg, with the connection outside the handler."""

import logging
import os
import time

import psycopg

WORK_S = 0.06  # what the function does after the reply; longer than the kernel's delayed ACK (40 ms)

logger = logging.getLogger("orders")
connection: psycopg.Connection | None = None


def connect() -> psycopg.Connection:
    """A connection; new if there is none or the last one broke."""
    global connection  # noqa: PLW0603 - this is how functions keep a connection
    if connection is None or connection.broken:
        began = time.monotonic()
        host = os.environ["SERVER_ADDRESS"]
        parameters = os.environ.get("CONNECTION_PARAMETERS", "")
        connection = psycopg.connect(f"host={host} user=app dbname=postgres {parameters}", autocommit=True)
        logger.info("connected in %.0f ms", (time.monotonic() - began) * 1000)
    return connection


def handler(event: dict, context: object) -> dict:
    """event: {sql}."""
    began = time.monotonic()
    (value,) = connect().execute(event.get("sql", "select count(*) from pg_class")).fetchone()
    logger.info("query ok in %.0f ms", (time.monotonic() - began) * 1000)
    time.sleep(WORK_S)
    return {"value": str(value)}
