"""Errors of AMQP 0-9-1 clients (RabbitMQ): pika, aio-pika with aiormq, amqplib of Node.js, each in its own words.

Heartbeats are timers of the client's, which count every silence of the socket: pika/heartbeat.py, aiormq/connection.py, amqplib's
lib/connection.js. 320 is the broker's connection-forced, by an operator or a restart (AMQP 0-9-1 §1.2, reply codes).
"""

from __future__ import annotations

import re

from analyzer.logs.recognisers._errors import ESTABLISHED, SERVER, Family, needles, row
from analyzer.logs.records import Recognised

RANK = 48
_PACKAGE = re.compile(r"/(?:site|dist)-packages/(pika|aiormq|aio_pika)/")
_LIBRARIES = {"pika": "pika", "aiormq": "aio-pika", "aio_pika": "aio-pika"}

ROWS = (
    row("ConnectionClosedByBroker", "pika"),
    row("amqplib/lib/", "amqplib"),
    row("CONNECTION_FORCED", "", "CLOSED", ESTABLISHED, by=SERVER, own="320"),
    row("missed heartbeats", "pika", "TIMEOUT", ESTABLISHED, "heartbeat", pattern=r"too many missed heartbeats in the last (?P<s>[0-9]{1,6}) seconds"),
    row("Transport indicated EOF", "pika", "CLOSED", ESTABLISHED),
    row("WrongStateError", "pika", "NOT_CONNECTED", pattern=r"\b(?:Connection|Channel)WrongStateError: "),
    row("No frames were received in", "aio-pika", "TIMEOUT", ESTABLISHED, "heartbeat", pattern=r"was stuck\. No frames were received in [0-9]{1,6} seconds"),
    row("Server connection unexpectedly closed", "aio-pika", "CLOSED", ESTABLISHED),
    row("ChannelInvalidStateError", "aio-pika", "NOT_CONNECTED", pattern=r"\bChannelInvalidStateError: "),
    row("<aio_pika.", "aio-pika", "NOT_CONNECTED", pattern=r"<aio_pika\.[\w.]{1,60} object at 0x[0-9a-f]{1,16}> closed"),
    row("Heartbeat timeout", "amqplib", "TIMEOUT", ESTABLISHED, "heartbeat", pattern=r"(?:^|\n|Error: |\")Heartbeat timeout(?:$|\n|\")"),
    row("Unexpected close", "amqplib", "CLOSED", ESTABLISHED, pattern=r"(?:^|\n|Error: |\")Unexpected close(?:$|\n|\")"),
    row("Channel ended, no reply", "amqplib", "CLOSED", ESTABLISHED),
    row("hannel closed", "amqplib", "NOT_CONNECTED", pattern=r"\b[Cc]hannel closed(?:\n|\").{0,240}?(?:amqplib/|Channel\.)"),
)  # fmt: skip

NEEDLES = needles(ROWS)
FAMILY = Family(ROWS, lambda _: None, _PACKAGE, _LIBRARIES)


def recognise(body: str) -> Recognised | None:
    """Kind `error`, as `_errors` documents."""
    return FAMILY.read(body)
