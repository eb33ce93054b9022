"""Connection errors in application text: what each library prints, and what must be read out of it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.discovery import modules
from analyzer.logs import recognisers, runtimes
from analyzer.logs.reader import pick, read_log
from analyzer.logs.recognisers import recognise
from analyzer.logs.recognisers._errors import compiled
from analyzer.logs.records import INSPECT

KERNEL, LIBRARY, FUNCTION, SERVER = "kernel", "library", "function", "server"


def inspected(head: str, **details: object) -> str:
    """An error as `util.inspect` prints it."""
    rows = ",\n".join(f"  {k}: {v!r}" if isinstance(v, str) else f"  {k}: {v}" for k, v in details.items())
    return f"{head}\n    at somewhere (node:net:1:1) {{\n{rows}\n}}"


def said(code: str, by: str | None = None, library: str | None = None, **more: object) -> dict[str, object]:
    """What is expected: None is not looked at."""
    return {k: v for k, v in {"code": code, "raised_by": by, "library": library, **more}.items() if v is not None}


NODE = [
    ("amqp connection error Error: Unexpected close\n    at succeed (/var/task/node_modules/amqplib/lib/connection.js:235:59)", said("CLOSED", LIBRARY, "amqplib", stage="established")),
    ("Error: Heartbeat timeout\n    at Heart.<anonymous> (/var/task/node_modules/amqplib/lib/connection.js:392:21)", said("TIMEOUT", LIBRARY, "amqplib", setting="heartbeat")),
    ('Invoke Error \t{"errorType":"IllegalOperationError","errorMessage":"Channel closed","stack":["IllegalOperationError: Channel closed","    at ConfirmChannel.<anonymous> (/var/task/node_modules/amqplib/lib/channel.js:364:11)"]}',
     said("NOT_CONNECTED", LIBRARY, "amqplib")),
    ('Connection closed: 320 (CONNECTION-FORCED) with message "CONNECTION_FORCED - maintenance"', said("CLOSED", SERVER, library_code="320")),
    (inspected("Error: connect ETIMEDOUT 10.0.0.77:6379", errno=-110, code="ETIMEDOUT", syscall="connect", address="10.0.0.77", port=6379),
     said("ETIMEDOUT", KERNEL, errno=-110, syscall="connect", peer="10.0.0.77:6379", stage="connect", kernel=True, told_by="errno -110")),
    ('Invoke Error \t{"errorType":"Error","errorMessage":"read ETIMEDOUT","code":"ETIMEDOUT","errno":-110,"syscall":"read"}',
     said("ETIMEDOUT", KERNEL, errno=-110, syscall="read", stage="established")),
    ('{"errno":-110,"code":"ETIMEDOUT","syscall":"read"}', said("ETIMEDOUT", KERNEL, errno=-110)),
    ('{"errorMessage":"failed","code":"ECONNREFUSED","errno":-111,"syscall":"connect","address":"10.0.0.1","port":7999}', said("ECONNREFUSED", KERNEL, errno=-111)),
    ("read ECONNRESET", said("ECONNRESET", KERNEL, syscall="read", told_by="syscall read")),
    ("connect ETIMEDOUT 10.0.0.77:6379", said("ETIMEDOUT", KERNEL, told_by="address", peer="10.0.0.77:6379")),
    ("Error: connect ECONNREFUSED ::1:6379", said("ECONNREFUSED", KERNEL, peer="[::1]:6379")),
    ("Error: connect ENETUNREACH 2600:1f18::5:443 - Local (:::0)", said("ENETUNREACH", KERNEL, peer="[2600:1f18::5]:443", local="[::]:0")),
    ("Error: connect EHOSTUNREACH 10.0.0.9:5432 - Local (10.0.3.17:40312)", said("EHOSTUNREACH", KERNEL, local="10.0.3.17:40312")),
    (inspected("Error: getaddrinfo ENOTFOUND cache.internal", errno=-3008, code="ENOTFOUND", syscall="getaddrinfo", hostname="cache.internal"),
     said("ENOTFOUND", KERNEL, peer="cache.internal", stage="resolve")),
    ("Error: getaddrinfo EAI_AGAIN db.example.test", said("EAI_AGAIN", KERNEL, peer="db.example.test", stage="resolve")),
    ("Error: queryA ETIMEOUT db.example.test", said("TIMEOUT", LIBRARY, "c-ares", peer="db.example.test", stage="resolve")),
    (inspected("Error: write EPIPE", errno=-32, code="EPIPE", syscall="write"), said("EPIPE", KERNEL, errno=-32, syscall="write")),
    (inspected("Error: This socket has been ended by the other party", code="EPIPE"), said("EPIPE", LIBRARY, "node")),
    (inspected("Error: socket hang up", code="ECONNRESET"), said("CLOSED", LIBRARY, "node", library_code="ECONNRESET")),
    (inspected("Error: Client network socket disconnected before secure TLS connection was established", code="ECONNRESET", path="null", host="api.example.test", port=443),
     said("ECONNRESET", LIBRARY, stage="tls")),
    ("AggregateError [ETIMEDOUT]: \n    at internalConnectMultiple (node:net:1122:18)\n    at Timeout.internalConnectMultipleTimeout (node:net:1687:5) {\n  code: 'ETIMEDOUT',\n"
     "  [errors]: [\n    Error: connect ETIMEDOUT 10.0.0.1:443\n      errno: -110,\n      code: 'ETIMEDOUT',\n      syscall: 'connect',\n      address: '10.0.0.1',\n      port: 443\n    },\n"
     "    Error: connect ENETUNREACH 2600:1f18::5:443 - Local (:::0)\n  ]\n}",
     said("ETIMEDOUT", LIBRARY, setting="autoSelectFamilyAttemptTimeout", default_ms=250, peers=["10.0.0.1:443", "2600:1f18::5:443"], kernel=False)),
    ("AggregateError [ECONNREFUSED]: \n    at internalConnectMultiple (node:net:1122:18) {\n  code: 'ECONNREFUSED',\n  [errors]: [\n    Error: connect ECONNREFUSED ::1:6379\n      errno: -111,\n"
     "    Error: connect ECONNREFUSED 127.0.0.1:6379\n  ]\n}", said("ECONNREFUSED", KERNEL, peers=["::1:6379", "127.0.0.1:6379"])),
    ('{"errno":"ETIMEDOUT","code":"ETIMEDOUT","syscall":"connect","address":"10.0.0.77","port":6379,"message":"connect ETIMEDOUT 10.0.0.77:6379"}', said("ETIMEDOUT", KERNEL)),
    ("redis failed: ECONNRESET", said("ECONNRESET")),
    ("ETIMEDOUT", said("ETIMEDOUT")),
]  # fmt: skip
REDIS = [
    (inspected("[ioredis] Unhandled error event: Error: connect ETIMEDOUT", errorno="ETIMEDOUT", code="ETIMEDOUT", syscall="connect"),
     said("ETIMEDOUT", LIBRARY, "ioredis", setting="connectTimeout", default_ms=10_000, told_by="errorno without errno", kernel=False)),
    ('{"msg":"connect ETIMEDOUT","errorno":"ETIMEDOUT","code":"ETIMEDOUT","syscall":"connect"}', said("ETIMEDOUT", LIBRARY, "ioredis", setting="connectTimeout")),
    ("Error: connect ETIMEDOUT", said("ETIMEDOUT", LIBRARY, told_by="no address", setting="connectTimeout")),
    ("[ioredis] Unhandled error event: Error: read ETIMEDOUT\n    at TCP.onStreamRead (internal/stream_base_commons.js:209:20)", said("ETIMEDOUT", KERNEL, "ioredis", syscall="read")),
    ("Error: Command timed out\n    at Timeout._onTimeout (/var/task/node_modules/ioredis/built/Command.js:192:33)", said("TIMEOUT", LIBRARY, "ioredis", setting="commandTimeout")),
    ("Error: Socket timeout. Expecting data, but didn't receive any in 5000ms.", said("TIMEOUT", LIBRARY, "ioredis", setting="socketTimeout", timeout_ms=5000)),
    ("Error: Connection is closed.\n    at close (/var/task/node_modules/ioredis/built/redis/event_handler.js:353:25)", said("NOT_CONNECTED", LIBRARY, "ioredis")),
    ("MaxRetriesPerRequestError: Reached the max retries per request limit (which is 20). Refer to \"maxRetriesPerRequest\" option for details.",
     said("NOT_CONNECTED", LIBRARY, "ioredis", setting="maxRetriesPerRequest")),
    ("Redis Client Error ConnectionTimeoutError: Connection timeout\n    at Socket.onTimeout (/x/node_modules/@redis/client/dist/lib/client/socket.js:292:46)",
     said("TIMEOUT", LIBRARY, "node-redis", setting="socket.connectTimeout", default_ms=5000)),
    ("orders failed after 1 ms: The client is closed", said("NOT_CONNECTED", LIBRARY, "node-redis")),
    ("SocketClosedUnexpectedlyError: Socket closed unexpectedly", said("CLOSED", LIBRARY, "node-redis")),
    ("Error: The client is closed\n    at Commander._RedisClient_sendCommand", said("NOT_CONNECTED", LIBRARY, "node-redis")),
    ("Invoke Error \t{\"errorType\":\"Error\",\"errorMessage\":\"The client is offline\",\"stack\":[]}", said("NOT_CONNECTED", LIBRARY, "node-redis")),
    ("ReplyError: ERR max number of clients reached", said("TOO_MANY_CONNECTIONS", SERVER)),
]  # fmt: skip
SQL = [
    (inspected("LIB failed: Error: connect ETIMEDOUT", errorno="ETIMEDOUT", code="ETIMEDOUT", syscall="connect", fatal="true"), said("ETIMEDOUT", LIBRARY, "mysql2", setting="connectTimeout", default_ms=10_000)),
    ("Error: connect ETIMEDOUT\n    at Connection._handleTimeoutError (/var/task/node_modules/mysql2/lib/connection.js:189:13)", said("ETIMEDOUT", LIBRARY, "mysql2", setting="connectTimeout")),
    ("Error: connect ETIMEDOUT\n    at Connection._handleConnectTimeout (/var/task/node_modules/mysql/lib/Connection.js:409:13)", said("ETIMEDOUT", LIBRARY, "mysql", setting="connectTimeout")),
    (inspected("Error: Connection lost: The server closed the connection.", fatal="true", code="PROTOCOL_CONNECTION_LOST"), said("CLOSED", LIBRARY, "mysql or mysql2", library_code="PROTOCOL_CONNECTION_LOST")),
    ("Error: Connection lost: The server closed the connection.\n    at Socket.<anonymous> (/var/task/node_modules/mysql2/lib/connection.js:117:31)", said("CLOSED", LIBRARY, "mysql2")),
    (inspected("Error: Quit inactivity timeout", code="PROTOCOL_SEQUENCE_TIMEOUT", fatal="true", timeout=30000), said("TIMEOUT", LIBRARY, library_code="PROTOCOL_SEQUENCE_TIMEOUT", setting="timeout")),
    ("Error: Can't add new command when connection is in closed state", said("NOT_CONNECTED", LIBRARY, "mysql2")),
    (inspected("Error: Too many connections", code="ER_CON_COUNT_ERROR", errno=1040, sqlState="08004"), said("TOO_MANY_CONNECTIONS", SERVER, library_code="ER_CON_COUNT_ERROR")),
    ("Error: Connection terminated unexpectedly\n    at Connection.<anonymous> (/var/task/node_modules/pg/lib/client.js:132:73)", said("CLOSED", LIBRARY, "pg")),
    ("Error: Connection terminated due to connection timeout", said("TIMEOUT", LIBRARY, "pg", setting="connectionTimeoutMillis")),
    ("Error: timeout expired\n    at Timeout._onTimeout (/x/node_modules/pg/lib/client.js:170:28)", said("TIMEOUT", LIBRARY, "pg", setting="connectionTimeoutMillis")),
    ("Error: timeout exceeded when trying to connect\n    at /var/task/node_modules/pg-pool/index.js:45:11", said("TIMEOUT", LIBRARY, "pg", stage="pool")),
    ("Error: Query read timeout", said("TIMEOUT", LIBRARY, "pg", setting="query_timeout")),
    ("error: sorry, too many clients already\n    at Parser.parseErrorMessage (/x/node_modules/pg-protocol/dist/parser.js:287:98) {\n  code: '53300'\n}", said("TOO_MANY_CONNECTIONS", SERVER, library_code="53300")),
    ("error: terminating connection due to administrator command\n  code: '57P01',", said("CLOSED", SERVER, library_code="57P01")),
    ("FATAL:  terminating connection due to idle-session timeout", said("CLOSED", SERVER, setting="idle_session_timeout")),
    ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", said("TOO_MANY_CONNECTIONS", SERVER)),
    ("The client was disconnected by the server because of inactivity. See wait_timeout and interactive_timeout for configuring this behavior.",
     said("CLOSED", SERVER, library_code="4031", setting="wait_timeout")),
    ("OperationalError: (2006, \"MySQL server has gone away (ConnectionResetError(104, 'Connection reset by peer'))\")", said("ECONNRESET", KERNEL, "pymysql or mysqlclient", errno=104)),
    ("OperationalError: MySQL Connection not available", said("NOT_CONNECTED", LIBRARY, "mysql-connector")),
    ("InterfaceError: (0, '')\nTraceback (most recent call last):", said("NOT_CONNECTED", LIBRARY, "pymysql")),
    ("KnexTimeoutError: Knex: Timeout acquiring a connection. The pool is probably full.", said("TIMEOUT", LIBRARY, "knex", stage="pool", default_ms=60_000)),
    ("PrismaClientInitializationError: Can't reach database server at `db.example.test`:`5432`", said("CONNECT_FAILED", LIBRARY, "prisma", peer="db.example.test:5432", library_code="P1001")),
    ("Timed out fetching a new connection from the connection pool. More info: http://pris.ly/d/connection-pool (Current connection pool timeout: 10, connection limit: 5)",
     said("TIMEOUT", LIBRARY, "prisma", stage="pool", timeout_ms=10_000)),
]  # fmt: skip
MONGODB = [
    ("MongoServerSelectionError: Socket 'connect' timed out after 400ms (connectTimeoutMS: 400)", said("TIMEOUT", LIBRARY, "mongodb", setting="connectTimeoutMS", timeout_ms=400)),
    ("MongoServerSelectionError: Server selection timed out after 30000 ms", said("TIMEOUT", LIBRARY, "mongodb", setting="serverSelectionTimeoutMS", timeout_ms=30_000)),
    ("MongoServerSelectionError: connect ECONNREFUSED 127.0.0.1:27017", said("ECONNREFUSED", KERNEL, "mongodb", peer="127.0.0.1:27017")),
    ("MongoNetworkTimeoutError: connection 3 to 10.0.0.77:27017 timed out", said("TIMEOUT", LIBRARY, "mongodb", setting="socketTimeoutMS", peer="10.0.0.77:27017")),
    ("MongoNetworkError: connection 4 to 10.0.0.77:27017 closed", said("CLOSED", LIBRARY, "mongodb", peer="10.0.0.77:27017")),
    ("PoolClearedError: Connection pool for cluster0.example.test:27017 was cleared because another operation failed with: \"connection timed out\"", said("NOT_CONNECTED", LIBRARY, "mongodb", peer="cluster0.example.test:27017")),
    ("MongooseError: Operation `users.findOne()` buffering timed out after 10000ms", said("TIMEOUT", LIBRARY, "mongodb", setting="bufferTimeoutMS", timeout_ms=10_000)),
]  # fmt: skip
HTTP = [
    ("TypeError: fetch failed\n    at node:internal/deps/undici/undici:15270:13 {\n  [cause]: ConnectTimeoutError: Connect Timeout Error (attempted address: 10.0.0.77:443, timeout: 10000ms)\n"
     "      at onConnectTimeout (node:internal/deps/undici/undici:1:1) {\n    code: 'UND_ERR_CONNECT_TIMEOUT'\n  }\n}",
     said("TIMEOUT", LIBRARY, "undici", setting="connect.timeout", timeout_ms=10_000, default_ms=10_000, peer="10.0.0.77:443")),
    ("TypeError: fetch failed {\n  [cause]: HeadersTimeoutError: Headers Timeout Error {\n    code: 'UND_ERR_HEADERS_TIMEOUT'\n", said("TIMEOUT", LIBRARY, "undici", setting="headersTimeout", default_ms=300_000)),
    ("orders failed after 3522 ms: Headers Timeout Error", said("TIMEOUT", LIBRARY, "undici", setting="headersTimeout", default_ms=300_000)),
    ("TypeError: terminated {\n  [cause]: BodyTimeoutError: Body Timeout Error {\n    code: 'UND_ERR_BODY_TIMEOUT'\n", said("TIMEOUT", LIBRARY, "undici", setting="bodyTimeout")),
    ("TypeError: fetch failed {\n  [cause]: SocketError: other side closed\n    code: 'UND_ERR_SOCKET',\n    socket: {\n      localAddress: '10.0.3.17',\n      localPort: 40312,\n      remoteAddress: '10.0.0.77',\n"
     "      remotePort: 443,\n      remoteFamily: 'IPv4'\n", said("CLOSED", LIBRARY, "undici", library_code="UND_ERR_SOCKET", peer="10.0.0.77:443", local="10.0.3.17:40312")),
    ("TypeError: fetch failed {\n  [cause]: Error: read ECONNRESET {\n    errno: -104,\n    code: 'ECONNRESET',\n    syscall: 'read'\n", said("ECONNRESET", KERNEL, "undici", errno=-104)),
    ("DOMException [TimeoutError]: The operation was aborted due to timeout", said("TIMEOUT", FUNCTION, setting="AbortSignal.timeout")),
    ("AxiosError: timeout of 5000ms exceeded\n  code: 'ECONNABORTED',", said("TIMEOUT", LIBRARY, "axios", setting="timeout", timeout_ms=5000, library_code="ECONNABORTED")),
    ("AxiosError: read ECONNRESET\n    errno: -104,", said("ECONNRESET", KERNEL, "axios")),
    ("StripeConnectionError: An error occurred with our connection to Stripe. Request was retried 2 times. [cause]: Error: write EPIPE\n errno: -32,", said("EPIPE", KERNEL, "stripe")),
    ("Error [TimeoutError]: @smithy/node-http-handler - the request socket did not establish a connection with the server within the configured timeout of 400 ms.",
     said("TIMEOUT", LIBRARY, "aws-sdk-js-v3", setting="connectionTimeout", timeout_ms=400)),
    ("@smithy/node-http-handler - [WARN] a request has exceeded the configured 3000 ms requestTimeout. Init client requestHandler with throwOnRequestTimeout=true to turn this into an error.",
     said("TIMEOUT", LIBRARY, "aws-sdk-js-v3", setting="requestTimeout", timeout_ms=3000)),
    ("TimeoutError: Connection timed out after 1000 ms\n    at node_modules/@smithy/node-http-handler/dist-cjs/index.js:1:1", said("TIMEOUT", LIBRARY, "aws-sdk-js-v3", timeout_ms=1000)),
    ("@smithy/node-http-handler:WARN - socket usage at capacity=50 and 123 additional requests are enqueued.", said("POOL_EXHAUSTED", LIBRARY, "aws-sdk-js-v3", setting="maxSockets")),
    ("TimeoutError: Connection timed out after 120000ms\n    at ClientRequest.<anonymous> (/var/runtime/node_modules/aws-sdk/lib/http/node.js:91:34)", said("TIMEOUT", LIBRARY, "aws-sdk-js-v2", timeout_ms=120_000, default_ms=120_000)),
    ("TimeoutError: Socket timed out without establishing a connection", said("TIMEOUT", LIBRARY, "aws-sdk", stage="connect")),
    ("NetworkingError: write EPIPE\n    at afterWriteDispatched\n  errno: -32, code: 'NetworkingError', syscall: 'write'", said("EPIPE", KERNEL, "aws-sdk-js-v2")),
]  # fmt: skip
GRPC = [
    ("Error: 4 DEADLINE_EXCEEDED: Deadline exceeded after 0.500s,name resolution: 0.011s,metadata filters: 0.002s,Waiting for LB pick", said("DEADLINE_EXCEEDED", FUNCTION, "grpc-js", after_s=0.5, setting="deadline")),
    ("4 DEADLINE_EXCEEDED: Deadline exceeded after 1.101s,LB pick: 0.001s,remote_addr=10.121.2.2:50051", said("DEADLINE_EXCEEDED", FUNCTION, peer="10.121.2.2:50051")),
    ("14 UNAVAILABLE: read ECONNRESET", said("ECONNRESET", KERNEL, status="UNAVAILABLE", syscall="read", stage="established")),
    ("13 INTERNAL: Received RST_STREAM with code 2 triggered by internal client error: read ECONNRESET", said("ECONNRESET", KERNEL, status="INTERNAL")),
    ("Error: 13 INTERNAL: Received RST_STREAM with code 2 (Internal server error)", said("RST_STREAM", SERVER, h2_code=2)),
    ("Error: 13 INTERNAL: division by zero near RST_STREAM", None),
    ("rpc error: code = Unavailable desc = keepalive ping failed to receive ACK within timeout", said("PING_TIMEOUT", LIBRARY, "grpc-go")),
    ("io.grpc.StatusRuntimeException: UNAVAILABLE: Keepalive failed. The connection is likely gone", said("PING_TIMEOUT", LIBRARY, "grpc-java")),
    ("<_InactiveRpcError of RPC that terminated with:\n\tstatus = StatusCode.UNAVAILABLE\n\tdetails = \"keepalive watchdog timeout\"", said("PING_TIMEOUT", LIBRARY, "grpcio")),
    ("Error: 14 UNAVAILABLE: TCP Read failed", said("CLOSED", LIBRARY, status="UNAVAILABLE")),
    ("Error: 14 UNAVAILABLE: No connection established. Last error: connect ECONNREFUSED 10.0.0.9:443 (2026-11-20T10:00:00.000Z)", said("ECONNREFUSED", KERNEL, stage="connect", peer="10.0.0.9:443")),
    ("Error: 14 UNAVAILABLE: Name resolution failed for target dns:svc.example.test:443", said("UNAVAILABLE", LIBRARY, stage="resolve", peer="svc.example.test")),
    ("rpc error: code = Unavailable desc = error reading from server: read tcp 10.0.0.1:5000->10.0.0.9:443: read: connection timed out", said("ETIMEDOUT", KERNEL, "grpc-go", stage="established", peer="10.0.0.9:443", local="10.0.0.1:5000")),
    ("rpc error: code = Unavailable desc = closing transport due to: connection error: desc = \"error reading from server: EOF\", received prior goaway: code: ENHANCE_YOUR_CALM, debug data: \"too_many_pings\"",
     said("ENHANCE_YOUR_CALM", SERVER, "grpc-go")),
    ("google.api_core.exceptions.ServiceUnavailable: 503 Socket closed", said("CLOSED", LIBRARY, "google-api-core")),
    ("google.api_core.exceptions.ServiceUnavailable: 503 recvmsg:Connection reset by peer", said("ECONNRESET", KERNEL, "google-api-core", stage="established")),
    ("google.api_core.exceptions.DeadlineExceeded: 504 Deadline Exceeded", said("DEADLINE_EXCEEDED", FUNCTION, "google-api-core")),
    ("<_InactiveRpcError of RPC that terminated with:\n\tstatus = StatusCode.UNAVAILABLE\n\tdetails = \"failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.9:50051: connect: Connection refused (111)\"",
     said("ECONNREFUSED", KERNEL, "grpcio", stage="connect", peer="10.0.0.9:50051")),
    ("io.grpc.StatusRuntimeException: DEADLINE_EXCEEDED: deadline exceeded after 0.499s. [remote_addr=svc.example.test/10.0.0.9:50051]", said("DEADLINE_EXCEEDED", FUNCTION, "grpc-java", after_s=0.499, peer="10.0.0.9:50051")),
    ("rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial tcp 10.0.0.9:50051: connect: connection refused\"", said("ECONNREFUSED", KERNEL, "grpc-go", stage="connect", peer="10.0.0.9:50051")),
    ("rpc error: code = DeadlineExceeded desc = context deadline exceeded", said("DEADLINE_EXCEEDED", FUNCTION, "grpc-go")),
    ("rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial tcp 10.0.0.2:443: i/o timeout\"", said("TIMEOUT", LIBRARY, "grpc-go", stage="connect", peer="10.0.0.2:443")),
]  # fmt: skip
PYTHON = [
    ("StreamLostError: Stream connection lost: ConnectionResetError(104, 'Connection reset by peer')", said("ECONNRESET", KERNEL, "pika", errno=104)),
    ('Unexpected connection close detected: StreamLostError: ("Stream connection lost: ConnectionResetError(104, \'Connection reset by peer\')",)', said("ECONNRESET", KERNEL, "pika")),
    ("StreamLostError: ('Transport indicated EOF',)", said("CLOSED", LIBRARY, "pika", stage="established")),
    ("AMQPHeartbeatTimeout: No activity or too many missed heartbeats in the last 60 seconds", said("TIMEOUT", LIBRARY, "pika", setting="heartbeat", timeout_ms=60_000)),
    ("ChannelWrongStateError: Channel is closed.", said("NOT_CONNECTED", LIBRARY, "pika")),
    ("ConnectionClosedByBroker: (320, \"CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'\")", said("CLOSED", SERVER, library_code="320", stage="established")),
    ("ConnectionClosed: [Errno 320] CONNECTION_FORCED - maintenance", said("CLOSED", SERVER, library_code="320")),
    ("AMQPConnectionError: Server connection reset: ConnectionResetError(104, 'Connection reset by peer')", said("ECONNRESET", KERNEL, "aio-pika")),
    ("AMQPConnectionError: Server connection unexpectedly closed. Read 0 bytes but 1 bytes expected", said("CLOSED", LIBRARY, "aio-pika")),
    ('Server connection <Connection: "amqp://guest:******@10.0.2.20:5672/?heartbeat=5" at 0x7fda> was stuck. No frames were received in 18 seconds.', said("TIMEOUT", LIBRARY, "aio-pika", setting="heartbeat")),
    ("ChannelInvalidStateError: <aio_pika.channel.Channel object at 0x7fa6aeb74710> closed", said("NOT_CONNECTED", LIBRARY, "aio-pika")),
    ("publish failed: <aio_pika.robust_channel.RobustChannel object at 0x7fa6aeb74710> closed", said("NOT_CONNECTED", LIBRARY, "aio-pika")),
    ("TimeoutError: [Errno 110] Connection timed out\nTraceback (most recent call last):\n  File \"/var/task/fn.py\", line 14, in handler\n    s=socket.socket(); s.connect(('10.0.0.77',6379))", said("ETIMEDOUT", KERNEL, errno=110, syscall="connect")),
    ("ConnectionResetError: [Errno 104] Connection reset by peer", said("ECONNRESET", KERNEL, errno=104)),
    ("ConnectionResetError: [Errno 104] Connection reset by peer\nTraceback (most recent call last):\n    s=socket.create_connection(('10.0.0.1',7001),2); s.sendall(b'x'); s.recv(10)", said("ECONNRESET", KERNEL, syscall="write", stage="established")),
    ("BrokenPipeError: [Errno 32] Broken pipe", said("EPIPE", KERNEL, errno=32)),
    ("ConnectionRefusedError: [Errno 111] Connection refused", said("ECONNREFUSED", KERNEL, stage="connect")),
    ("OSError: [WinError 10054] An existing connection was forcibly closed by the remote host", said("ECONNRESET", KERNEL, errno=10054)),
    ("socket.gaierror: [Errno -2] Name or service not known", said("ENOTFOUND", KERNEL, stage="resolve")),
    ("socket.gaierror: [Errno -3] Temporary failure in name resolution", said("EAI_AGAIN", KERNEL, stage="resolve")),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/tmp/x'", None),
    ("TimeoutError: timed out", said("TIMEOUT", LIBRARY, "python", setting="socket timeout")),
    ("socket.timeout: The read operation timed out", said("TIMEOUT", LIBRARY, "python")),
    ("URLError: <urlopen error timed out>", said("TIMEOUT", LIBRARY, "python")),
    ("asyncio.exceptions.TimeoutError", said("TIMEOUT", FUNCTION, "asyncio", setting="asyncio.wait_for")),
    ("redis.exceptions.TimeoutError: Timeout connecting to server", said("TIMEOUT", LIBRARY, "redis-py", setting="socket_connect_timeout")),
    ("redis.exceptions.TimeoutError: Timeout reading from socket", said("TIMEOUT", LIBRARY, "redis-py", setting="socket_timeout")),
    ("redis.exceptions.ConnectionError: Error while reading from 10.0.0.1:6379 : (104, 'Connection reset by peer')", said("ECONNRESET", KERNEL, "redis-py", errno=104, peer="10.0.0.1:6379", syscall="read")),
    ("redis.exceptions.ConnectionError: Error 110 connecting to 10.0.0.77:6379. Connection timed out.", said("ETIMEDOUT", KERNEL, "redis-py", syscall="connect", peer="10.0.0.77:6379")),
    ("redis.exceptions.ConnectionError: Error 32 while writing to socket. Broken pipe.", said("EPIPE", KERNEL, "redis-py")),
    ("redis.exceptions.ConnectionError: Connection closed by server.", said("CLOSED", LIBRARY, "redis-py")),
    ("OperationalError: connection to server at \"10.0.0.77\", port 5432 failed: timeout expired", said("TIMEOUT", LIBRARY, "psycopg", setting="connect_timeout", peer="10.0.0.77:5432")),
    ("psycopg2.OperationalError: connection to server at \"db.example.test\" (10.0.0.77), port 5432 failed: Connection timed out\n\tIs the server running on that host and accepting TCP/IP connections?",
     said("ETIMEDOUT", KERNEL, "psycopg", syscall="connect", peer="10.0.0.77:5432")),
    ("psycopg2.OperationalError: could not connect to server: Connection refused\n\tIs the server running on host \"db.example.test\" (10.0.0.77) and accepting\n\tTCP/IP connections on port 5432?", said("ECONNREFUSED", KERNEL, "psycopg", peer="10.0.0.77:5432")),
    ("psycopg2.OperationalError: could not translate host name \"db.example.test\" to address: Name or service not known", said("ENOTFOUND", KERNEL, "psycopg", peer="db.example.test", stage="resolve")),
    ("OperationalError: server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n\tbefore or while processing the request.", said("CLOSED", LIBRARY, "psycopg")),
    ("psycopg2.OperationalError: SSL SYSCALL error: EOF detected", said("CLOSED", LIBRARY, "psycopg")),
    ("psycopg2.OperationalError: SSL SYSCALL error: Connection timed out", said("ETIMEDOUT", KERNEL, "psycopg")),
    ("sqlalchemy.exc.TimeoutError: QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00", said("TIMEOUT", LIBRARY, "sqlalchemy", stage="pool", timeout_ms=30_000)),
    ("(2003, \"Can't connect to MySQL server on '10.0.0.77' (timed out)\")", said("TIMEOUT", LIBRARY, "pymysql or mysqlclient", setting="connect_timeout", peer="10.0.0.77")),
    ("pymysql.err.OperationalError: (2003, \"Can't connect to MySQL server on '10.0.0.77' ([Errno 111] Connection refused)\")", said("ECONNREFUSED", KERNEL, "pymysql or mysqlclient", peer="10.0.0.77")),
    ("pymysql.err.OperationalError: (2006, \"MySQL server has gone away (BrokenPipeError(32, 'Broken pipe'))\")", said("EPIPE", KERNEL, "pymysql or mysqlclient", errno=32)),
    ("pymysql.err.OperationalError: (2013, 'Lost connection to MySQL server during query')", said("CLOSED", LIBRARY, "pymysql or mysqlclient", library_code="2013")),
    ("pymysql.err.OperationalError: (2013, 'Lost connection to MySQL server during query (timed out)')", said("TIMEOUT", LIBRARY, "pymysql or mysqlclient", setting="read_timeout")),
    ("pymysql.err.OperationalError: (1040, 'Too many connections')", said("TOO_MANY_CONNECTIONS", SERVER)),
    ("pymongo.errors.ServerSelectionTimeoutError: 10.0.0.77:27017: timed out (configured timeouts: socketTimeoutMS: 400.0ms, connectTimeoutMS: 400.0ms), Timeout: 0.8s, Topology Description: <T>",
     said("TIMEOUT", LIBRARY, "pymongo", setting="serverSelectionTimeoutMS", timeout_ms=800, peer="10.0.0.77:27017")),
    ("pymongo.errors.AutoReconnect: 10.0.0.77:27017: [Errno 104] Connection reset by peer", said("ECONNRESET", KERNEL, "pymongo", peer="10.0.0.77:27017")),
    ("pymongo.errors.AutoReconnect: 10.0.0.77:27017: connection closed", said("CLOSED", LIBRARY, "pymongo")),
    ("pymongo.errors.NetworkTimeout: 10.0.0.77:27017: timed out", said("TIMEOUT", LIBRARY, "pymongo", setting="socketTimeoutMS")),
    ("botocore.exceptions.ConnectTimeoutError: Connect timeout on endpoint URL: \"https://dynamodb.us-east-1.amazonaws.com/\"", said("TIMEOUT", LIBRARY, "botocore", setting="connect_timeout", default_ms=60_000, peer="dynamodb.us-east-1.amazonaws.com")),
    ("urllib3.exceptions.ReadTimeoutError: AWSHTTPSConnectionPool(host='lambda.example.test', port=443): Read timed out. (read timeout=60)\n\nDuring handling of the above exception, another exception occurred:\n\n"
     "botocore.exceptions.ReadTimeoutError: Read timeout on endpoint URL: \"https://lambda.example.test/\"", said("TIMEOUT", LIBRARY, "botocore", setting="read_timeout", timeout_ms=60_000, peer="lambda.example.test:443")),
    ("botocore.exceptions.EndpointConnectionError: Could not connect to the endpoint URL: \"https://sqs.example.test/\"", said("CONNECT_FAILED", LIBRARY, "botocore")),
    ("ConnectionClosedError: Connection was closed before we received a valid response from endpoint URL: \"http://10.0.0.1:7001/\".", said("CLOSED", LIBRARY, "botocore", peer="10.0.0.1:7001")),
    ("requests.exceptions.ConnectionError: ('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))", said("ECONNRESET", KERNEL, "requests", errno=104)),
    ("requests.exceptions.ConnectionError: ('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))", said("CLOSED", LIBRARY, "requests")),
    ("requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='api.example.test', port=443): Read timed out. (read timeout=5)", said("TIMEOUT", LIBRARY, "requests", setting="read_timeout", timeout_ms=5000, peer="api.example.test:443")),
    ("urllib3.exceptions.MaxRetryError: HTTPSConnectionPool(host='api.example.test', port=443): Max retries exceeded with url: / (Caused by NewConnectionError('<x>: Failed to establish a new connection: [Errno 110] Connection timed out'))",
     said("ETIMEDOUT", KERNEL, "urllib3", syscall="connect", peer="api.example.test:443")),
    ("requests.exceptions.ConnectTimeout: HTTPSConnectionPool(host='api.example.test', port=443): Max retries exceeded with url: / (Caused by ConnectTimeoutError(<x>, 'Connection to api.example.test timed out. (connect timeout=3.5)'))",
     said("TIMEOUT", LIBRARY, "requests", setting="connect_timeout", timeout_ms=3500)),
    ("(Caused by NameResolutionError(\"<x>: Failed to resolve 'api.example.test' ([Errno -2] Name or service not known)\"))", said("ENOTFOUND", KERNEL, "urllib3", stage="resolve", peer="api.example.test")),
    ("httpx.ConnectTimeout: timed out", said("TIMEOUT", LIBRARY, "httpx", setting="timeout.connect", default_ms=5000)),
    ("ReadTimeout: timed out\nTraceback (most recent call last):\n", said("TIMEOUT", LIBRARY, "httpx", setting="timeout.read", default_ms=5000)),
    ("ReadTimeout: HTTPConnectionPool(host='10.0.2.20', port=8080): Read timed out. (read timeout=3.0)", said("TIMEOUT", LIBRARY, "urllib3", timeout_ms=3000, peer="10.0.2.20:8080")),
    ("ConnectionError: Error UNKNOWN while writing to socket. Connection lost.", said("CLOSED", LIBRARY, "redis-py")),
    ("TimeoutError: \nTraceback (most recent call last):\n  File \"/var/lang/lib/python3.13/asyncio/timeouts.py\", line 116, in __aexit__\n    raise TimeoutError from exc_val",
     said("TIMEOUT", FUNCTION, "asyncio", setting="asyncio.wait_for")),
    ("TimeoutError: \nTraceback (most recent call last):\n  File \"/var/task/aiohttp/helpers.py\", line 686, in __exit__\n    raise asyncio.TimeoutError from exc_val",
     said("TIMEOUT", LIBRARY, "aiohttp", setting="timeout.total", default_ms=300_000)),
    ("httpx.ReadTimeout", said("TIMEOUT", LIBRARY, "httpx", setting="timeout.read")),
    ("[ERROR] MemcacheUnexpectedCloseError: \nTraceback (most recent call last):", said("CLOSED", LIBRARY, "pymemcache")),
    ("[ERROR] ConnectTimeout: _ssl.c:989: The handshake operation timed out", said("TIMEOUT", LIBRARY, "httpx", stage="tls", setting="timeout.connect")),
    ("httpx.RemoteProtocolError: Server disconnected without sending a response.", said("CLOSED", LIBRARY, "httpx")),
    ("aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected", said("CLOSED", LIBRARY, "aiohttp")),
    ('Invoke Error \t{"errorType":"TypeError","errorMessage":"fetch failed","stack":["TypeError: fetch failed"]}', said("BROKEN", LIBRARY, "undici")),
    ("nats closed NatsError: 'Stale Connection'", said("CLOSED", SERVER, setting="ping_interval")),
    ("Caused by: java.nio.channels.UnresolvedAddressException", said("ENOTFOUND", LIBRARY, stage="resolve")),
    ("[ERROR] ClientOSError: [Errno None] Can not write request body for http://10.0.2.20:8080/", said("CLOSED", LIBRARY, "aiohttp", peer="10.0.2.20:8080")),
    ("aiohttp.client_exceptions.ClientConnectionResetError: Cannot write to closing transport", said("CLOSED", LIBRARY, "aiohttp")),
    ("aiohttp.client_exceptions.ClientConnectorError: Cannot connect to host api.example.test:443 ssl:default [Connect call failed ('10.0.0.77', 443)]", said("CONNECT_FAILED", LIBRARY, "aiohttp", peer="10.0.0.77:443")),
    ("aiohttp.client_exceptions.ClientOSError: [Errno 104] Connection reset by peer", said("ECONNRESET", KERNEL, errno=104)),
    ("TimeoutError\nTraceback (most recent call last):\n  File \"/var/task/app.py\", line 9, in handler\n  File \"asyncpg/protocol/protocol.pyx\", line 207, in bind_execute", said("TIMEOUT", LIBRARY, "asyncpg", setting="command_timeout")),
    ("TimeoutError: \nTraceback (most recent call last):\n  File \"/var/task/asyncpg/connection.py\", line 1\n  File \"/var/task/asyncpg/connect_utils.py\", line 802, in __connect_addr", said("TIMEOUT", LIBRARY, "asyncpg", stage="connect", default_ms=60_000)),
    ("UniqueViolationError: duplicate key\n  File \"asyncpg/protocol/protocol.pyx\", line 207, in bind_execute", None),
    ("asyncpg.exceptions.InterfaceError: cannot call Connection.fetchrow(): connection is closed", said("NOT_CONNECTED", LIBRARY, "asyncpg")),
    ("sqlalchemy.exc.InterfaceError: (pymysql.err.InterfaceError) (0, '')", said("NOT_CONNECTED", LIBRARY, "pymysql")),
    ("mysql.connector.errors.OperationalError: 2055: Lost connection to MySQL server at 'db.example:3306', system error: 32 Broken pipe", said("EPIPE", KERNEL, "mysql-connector")),
    ("aiohttp.client_exceptions.ClientOSError: [Errno 104] Connection reset by peer", said("ECONNRESET", KERNEL, "aiohttp")),
    ("ReadError: \nTraceback (most recent call last):", said("BROKEN", LIBRARY, "httpx")),
]  # fmt: skip
JAVA = [
    ("java.net.SocketTimeoutException: connect timed out\n\tat java.base/java.net.PlainSocketImpl.socketConnect(Native Method)", said("TIMEOUT", LIBRARY, setting="connectTimeout", stage="connect")),
    ("java.net.SocketTimeoutException: Read timed out", said("TIMEOUT", LIBRARY, setting="soTimeout", stage="established")),
    ("java.net.SocketException: Connection reset", said("ECONNRESET", KERNEL)),
    ("java.net.SocketException: Broken pipe (Write failed)", said("EPIPE", KERNEL)),
    ("java.net.ConnectException: Connection timed out (Connection timed out)", said("ETIMEDOUT", KERNEL, syscall="connect")),
    ("java.net.ConnectException: Connection refused", said("ECONNREFUSED", KERNEL, syscall="connect")),
    ("java.net.UnknownHostException: db.example.test: Name or service not known", said("ENOTFOUND", KERNEL, peer="db.example.test", stage="resolve")),
    ("org.apache.http.NoHttpResponseException: api.example.test:443 failed to respond", said("CLOSED", LIBRARY, "apache-httpclient", peer="api.example.test:443")),
    ("orders failed: java.sql.SQLNonTransientConnectionException: (conn=6) Connection reset by peer", said("ECONNRESET", KERNEL)),
    ("orders failed: java.sql.SQLNonTransientConnectionException: (conn=6) Connection reset", said("ECONNRESET", KERNEL)),
    ("orders failed: java.sql.SQLNonTransientConnectionException: (conn=6) Connection timed out", None),  # the kernel's, or soTimeout's
    ("java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available, request timed out after 30000ms.", said("TIMEOUT", LIBRARY, "hikaricp", stage="pool", timeout_ms=30_000)),
    ("io.lettuce.core.RedisCommandTimeoutException: Command timed out after 60 second(s)", said("TIMEOUT", LIBRARY, "lettuce", timeout_ms=60_000)),
    ("io.lettuce.core.RedisConnectionException: Unable to connect to 10.0.0.77:6379\nCaused by: io.netty.channel.ConnectTimeoutException: connection timed out: /10.0.0.77:6379", said("CONNECT_FAILED", LIBRARY, "lettuce", peer="10.0.0.77:6379")),
    ("redis.clients.jedis.exceptions.JedisConnectionException: java.net.SocketTimeoutException: Read timed out", said("TIMEOUT", LIBRARY, "jedis", setting="soTimeout", default_ms=2000)),
    ("redis.clients.jedis.exceptions.JedisConnectionException: Unexpected end of stream.", said("CLOSED", LIBRARY, "jedis")),
    ("com.mysql.cj.jdbc.exceptions.CommunicationsException: Communications link failure\n\nThe last packet successfully received from the server was 912,345 milliseconds ago.\nCaused by: java.net.SocketException: Connection reset",
     said("ECONNRESET", KERNEL, "mysql-connector-j", idle_ms=912_345)),
    ("com.mysql.cj.jdbc.exceptions.CommunicationsException: Communications link failure\n\nThe last packet successfully received from the server was 400,123 milliseconds ago.\n"
     "Caused by: java.io.EOFException: Can not read response from server. Expected to read 4 bytes, read 0 bytes before connection was unexpectedly lost.", said("CLOSED", LIBRARY, "mysql-connector-j", idle_ms=400_123)),
    ("orders failed: org.postgresql.util.PSQLException: An I/O error occurred while sending to the backend.", None),  # a time-out, a reset or an end
    ("org.postgresql.util.PSQLException: This connection has been closed.", said("NOT_CONNECTED", LIBRARY, "pgjdbc")),
    ("org.postgresql.util.PSQLException: An I/O error occurred while sending to the backend.\nCaused by: java.io.EOFException: null", said("CLOSED", LIBRARY, "pgjdbc")),
    ("org.postgresql.util.PSQLException: An I/O error occurred while sending to the backend.\n\tat org.postgresql.core.v3.QueryExecutorImpl.execute(QueryExecutorImpl.java:382)\n"
     "Caused by: java.net.SocketTimeoutException: Read timed out", said("TIMEOUT", LIBRARY, "pgjdbc", setting="soTimeout", stage="established")),
    ("java.sql.SQLNonTransientConnectionException: (conn=6) Connection timed out\n\tat org.mariadb.jdbc.MariaDbStatement.execute(MariaDbStatement.java:362)\n"
     "Caused by: java.net.SocketTimeoutException: Read timed out", said("TIMEOUT", LIBRARY, "mariadb-connector-j", setting="soTimeout")),
    ("software.amazon.awssdk.core.exception.SdkClientException: Unable to execute HTTP request: Read timed out", said("TIMEOUT", LIBRARY, "aws-sdk-java-v2", default_ms=30_000)),
    ("com.amazonaws.SdkClientException: Unable to execute HTTP request: Connect to sqs.example.test:443 [sqs.example.test/10.0.0.77] failed: connect timed out", said("TIMEOUT", LIBRARY, "aws-sdk-java-v1", stage="connect")),
    ("software.amazon.awssdk.core.exception.SdkClientException: Unable to execute HTTP request: The target server failed to respond", said("CLOSED", LIBRARY, "aws-sdk-java-v2")),
    ("software.amazon.awssdk.core.exception.ApiCallTimeoutException: Client execution did not complete before the specified timeout configuration: 5000 millis", said("TIMEOUT", LIBRARY, "aws-sdk-java-v2", setting="apiCallTimeout", timeout_ms=5000)),
    ("com.mongodb.MongoSocketReadTimeoutException: Timeout while receiving message", said("TIMEOUT", LIBRARY, "mongodb-java")),
    ("io.netty.channel.unix.Errors$NativeIoException: recvAddress(..) failed: Connection reset by peer", said("ECONNRESET", KERNEL)),
    ("java.net.http.HttpConnectTimeoutException: HTTP connect timed out", said("TIMEOUT", LIBRARY, "java.net.http", stage="connect")),
]  # fmt: skip
DOTNET = [
    ("System.Net.Sockets.SocketException (110): Connection timed out", said("ETIMEDOUT", KERNEL, errno=110)),
    ("System.Net.Http.HttpRequestException: Connection refused (api.example.test:443)\n ---> System.Net.Sockets.SocketException (111): Connection refused\n   at ConnectAsync", said("ECONNREFUSED", KERNEL, "HttpClient", syscall="connect", peer="api.example.test:443")),
    ("System.IO.IOException: Unable to read data from the transport connection: Connection reset by peer.\n ---> System.Net.Sockets.SocketException (104): Connection reset by peer", said("ECONNRESET", KERNEL, syscall="read")),
    ("StackExchange.Redis.RedisTimeoutException: Timeout performing GET k (5000ms)", said("TIMEOUT", LIBRARY, "StackExchange.Redis", setting="SyncTimeout", timeout_ms=5000)),
    ("StackExchange.Redis.RedisTimeoutException: Timeout awaiting response (outbound=0KiB, inbound=0KiB, 5047ms elapsed, timeout is 5000ms), command=GET, next: GET k, clientName: fn, serverEndpoint: 10.0.0.77:6379, v: 2.2.4.27433",
     said("TIMEOUT", LIBRARY, "StackExchange.Redis", timeout_ms=5000, elapsed_ms=5047, peer="10.0.0.77:6379")),
    ("StackExchange.Redis.RedisConnectionException: SocketClosed (WriteSocketError/ConnectionReset, last-recv: 0) on cache.example.test:6380/Interactive, Idle/Faulted, last: GET", said("ECONNRESET", KERNEL, "StackExchange.Redis", peer="cache.example.test:6380", syscall="write")),
    ("System.Threading.Tasks.TaskCanceledException: The request was canceled due to the configured HttpClient.Timeout of 100 seconds elapsing.", said("TIMEOUT", LIBRARY, "HttpClient", timeout_ms=100_000)),
    ("Microsoft.Data.SqlClient.SqlException: Connection Timeout Expired.  The timeout period elapsed while attempting to consume the pre-login handshake acknowledgement.", said("TIMEOUT", LIBRARY, "SqlClient", stage="connect")),
    ("System.Net.Http.HttpRequestException: An error occurred while sending the request.\n ---> System.Net.Http.HttpIOException: The response ended prematurely. (ResponseEnded)", said("CLOSED", LIBRARY, "HttpClient")),
    ("System.Net.Http.HttpRequestException: The SSL connection could not be established, see inner exception.", said("TLS", LIBRARY, "HttpClient", stage="tls")),
    ("System.Net.Http.HttpRequestException: The SSL connection could not be established, see inner exception.\n ---> System.IO.IOException: Received an unexpected EOF or 0 bytes from the transport stream.",
     said("CLOSED", LIBRARY, "HttpClient", stage="tls")),
    ("Npgsql.NpgsqlException (0x80004005): Exception while reading from stream", said("BROKEN", LIBRARY, "npgsql")),
    ("Npgsql.NpgsqlException (0x80004005): Failed to connect to 10.0.0.2:5432\n ---> System.Net.Sockets.SocketException (110): Connection timed out", said("ETIMEDOUT", KERNEL, "npgsql", stage="connect")),
    ("MongoDB.Driver.MongoConnectionException: An exception occurred while receiving a message from the server.\n ---> System.IO.EndOfStreamException: Attempted to read past the end of the stream.",
     said("CLOSED", LIBRARY, "mongodb-csharp")),
    ("MySqlConnector.MySqlException (0x80004005): Failed to read the result set.\n ---> System.IO.EndOfStreamException: Expected to read 4 header bytes but only received 0.", said("CLOSED", LIBRARY, "MySqlConnector")),
    ("Microsoft.Data.SqlClient.SqlException (0x80131904): A transport-level error has occurred when sending the request to the server. (provider: TCP Provider, error: 35)", said("BROKEN", LIBRARY, "SqlClient")),
    ("Grpc.Core.RpcException: Status(StatusCode=\"Unavailable\", Detail=\"Error reading next message. HttpIOException: The response ended prematurely. (ResponseEnded)\")", said("CLOSED", LIBRARY, "grpc-dotnet")),
]  # fmt: skip
GO = [
    ("read tcp 10.0.3.17:40312->10.0.0.1:6379: read: connection reset by peer", said("ECONNRESET", KERNEL, syscall="read", peer="10.0.0.1:6379", local="10.0.3.17:40312")),
    ('{"errorMessage":"read tcp 169.254.100.6:40312-\\u003e10.0.0.1:6379: read: connection reset by peer","errorType":"OpError"}', said("ECONNRESET", KERNEL, peer="10.0.0.1:6379", local="169.254.100.6:40312")),
    ("write tcp 10.0.3.17:40312->10.0.0.1:5432: write: broken pipe", said("EPIPE", KERNEL, syscall="write")),
    ("dial tcp 10.0.0.1:6379: connect: connection refused", said("ECONNREFUSED", KERNEL, syscall="connect", peer="10.0.0.1:6379")),
    ("dial tcp 10.0.0.1:6379: connect: connection timed out", said("ETIMEDOUT", KERNEL, syscall="connect")),
    ("dial tcp 10.0.0.1:6379: i/o timeout", said("TIMEOUT", LIBRARY, setting="net.Dialer.Timeout", peer="10.0.0.1:6379")),
    ("read tcp [fd00::2]:40312->[fd00::1]:443: i/o timeout", said("TIMEOUT", LIBRARY, peer="[fd00::1]:443")),
    ("dial tcp: lookup db.example.test on 10.0.0.2:53: no such host", said("ENOTFOUND", LIBRARY, peer="db.example.test", stage="resolve")),
    ("dial tcp: lookup db.example.test on 10.0.0.2:53: read udp 10.0.3.17:55555->10.0.0.2:53: i/o timeout", said("TIMEOUT", LIBRARY, peer="db.example.test", stage="resolve")),
    ("Post \"https://api.example.test/v1\": EOF", said("CLOSED", LIBRARY, peer="api.example.test")),
    ("Get \"https://api.example.test/v1\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)", said("TIMEOUT", LIBRARY, "net/http", setting="Client.Timeout")),
    ("Get \"https://api.example.test/v1\": context deadline exceeded", said("TIMEOUT", FUNCTION, setting="context deadline")),
    ("Get \"https://api.example.test/v1\": net/http: TLS handshake timeout", said("TIMEOUT", LIBRARY, stage="tls", default_ms=10_000)),
    ("write tcp 10.0.3.17:40312->10.0.0.1:5432: use of closed network connection", said("NOT_CONNECTED", LIBRARY)),
    ("[mysql] 2026/11/20 12:00:00 packets.go:37: unexpected EOF", said("CLOSED", LIBRARY, "go-sql-driver")),
    ("orders failed\ninvalid connection", said("CLOSED", LIBRARY, "go-sql-driver")),
    ("driver: bad connection", said("CLOSED", LIBRARY, "database/sql")),
    ("error reading from server: EOF", said("CLOSED", LIBRARY, "grpc-go")),
    ("Post \"https://api.example.test/v1\": http2: server sent GOAWAY and closed the connection; LastStreamID=1999, ErrCode=NO_ERROR, debug=\"\"", said("CLOSED", SERVER, "net/http")),
    ("stream error: stream ID 3; REFUSED_STREAM; received from peer", said("RST_STREAM", SERVER, library_code="REFUSED_STREAM")),
    ("connection(db.example.test:27017[-5]) incomplete read of message header: EOF", said("CLOSED", LIBRARY, "mongo-driver", peer="db.example.test:27017")),
    ("failed to connect to `user=app database=app`: 10.0.0.2:5432 (db): dial error: timeout: context deadline exceeded", said("TIMEOUT", FUNCTION, "pgx", stage="connect")),
    ("pq: canceling statement due to statement timeout", said("QUERY_TIMEOUT", SERVER, "PostgreSQL", setting="statement_timeout", library_code="57014", kernel=None)),
    ("remote error: tls: handshake failure", said("TLS", LIBRARY, stage="tls")),
    ("redis: connection pool timeout", said("TIMEOUT", LIBRARY, "go-redis", stage="pool")),
]  # fmt: skip
OTHERS = [
    ("Errno::ETIMEDOUT: Connection timed out - connect(2) for \"10.0.0.77\" port 6379", said("ETIMEDOUT", KERNEL, syscall="connect", peer="10.0.0.77:6379")),
    ("Errno::ECONNRESET: Connection reset by peer", said("ECONNRESET", KERNEL)),
    ("Redis::CannotConnectError: Connection timed out - user specified timeout (redis://10.0.0.1:6379)", said("TIMEOUT", LIBRARY, "redis-rb", peer="10.0.0.1:6379")),
    ("Net::ReadTimeout with #<TCPSocket:(closed)>", said("TIMEOUT", LIBRARY, "net/http", default_ms=60_000)),
    ("error sending request for url (http://127.0.0.1:8080/): client error (SendRequest): connection error: Connection reset by peer (os error 104)", said("ECONNRESET", KERNEL, "hyper", errno=104)),
    ("hyper_util::client::legacy::Error(SendRequest, hyper::Error(Io, Os { code: 104, kind: ConnectionReset, message: \"Connection reset by peer\" }))", said("ECONNRESET", KERNEL, "hyper")),
    ("tcp connect error: Connection refused (os error 111)", said("ECONNREFUSED", KERNEL, syscall="connect")),
    ("fwrite(): send of 31 bytes failed with errno=32 Broken pipe", said("EPIPE", KERNEL, "php")),
    ("cURL error 28: Operation timed out after 5001 milliseconds with 0 bytes received", said("TIMEOUT", LIBRARY, "curl", timeout_ms=5001)),
    ("SQLSTATE[HY000] [2002] Connection timed out", said("TIMEOUT", LIBRARY, "pdo", stage="connect", default_ms=30_000)),
    ("Faraday::ConnectionFailed: Connection reset by peer", said("ECONNRESET", KERNEL, "faraday")),
    ("Redis::ConnectionError: Connection lost (ECONNRESET)", said("ECONNRESET", KERNEL, "redis-rb")),
    ("RedisClient::ConnectionError: EOFError (redis://redis.example:6379)", said("CLOSED", LIBRARY, "redis-rb", peer="redis.example:6379")),
    ("EOFError (end of file reached)", said("CLOSED", LIBRARY)),
    ("OpenSSL::SSL::SSLError: SSL_connect SYSCALL returned=5 errno=0 peeraddr=10.0.0.1:443 state=SSLv3/TLS write client hello", said("CLOSED", LIBRARY, stage="tls", peer="10.0.0.1:443")),
    ("ActiveRecord::ConnectionNotEstablished: connection to server at \"10.0.0.2\", port 5432 failed: Connection timed out", said("ETIMEDOUT", KERNEL, "activerecord", peer="10.0.0.2:5432", stage="connect")),
    ('{"errorMessage":"PQconsumeInput() server closed the connection unexpectedly\\n\\tThis probably means","errorType":"Function<PG::ConnectionBad>","stackTrace":[]}',
     said("CLOSED", LIBRARY, "ruby-pg", stage="established")),
    ('{\n  "errorMessage": "end of file reached",\n  "errorType": "Function<EOFError>",\n  "stackTrace": []\n}', said("CLOSED", LIBRARY)),
    ("GRPC::Unavailable: 14:Socket closed", said("CLOSED", LIBRARY, "grpc-ruby", status="UNAVAILABLE")),
    ("getaddrinfo: Name or service not known (SocketError)", said("ENOTFOUND", KERNEL, stage="resolve")),
    ("error sending request for url (https://api.example.test/v1): connection closed before message completed", said("CLOSED", LIBRARY, "hyper", peer="api.example.test")),
    ("error sending request for url (https://api.example.test/v1): connection error: Connection reset by peer (os error 104)", said("ECONNRESET", KERNEL, "reqwest", peer="api.example.test")),
    ("error sending request for url (https://api.example.test/v1): error trying to connect: dns error: failed to lookup address information: Name or service not known",
     said("ENOTFOUND", KERNEL, "reqwest", stage="resolve")),
    ("error sending request for url (https://api.example.test/v1): client error (Connect): tcp connect error: deadline has elapsed", said("TIMEOUT", LIBRARY, stage="connect")),
    ("reqwest::Error { kind: Request, url: \"https://api.example.test/\", source: TimedOut }", said("TIMEOUT", LIBRARY, "reqwest")),
    ("hyper_util::client::legacy::Error(SendRequest, hyper::Error(IncompleteMessage))", said("CLOSED", LIBRARY, "hyper", stage="established")),
    ("http2 error: keep-alive timed out: operation timed out", said("PING_TIMEOUT", LIBRARY, "hyper")),
    ("error communicating with the server: Connection reset by peer (os error 104)", said("ECONNRESET", KERNEL, "tokio-postgres", stage="established")),
    ("error connecting to server: Connection timed out (os error 110)", said("ETIMEDOUT", KERNEL, "tokio-postgres", stage="connect")),
    ("Error { kind: Closed, cause: None }", said("CLOSED", LIBRARY, "tokio-postgres")),
    ("error communicating with database: expected to read 5 bytes, got 0 bytes at EOF", said("CLOSED", LIBRARY, "sqlx")),
    ("pool timed out while waiting for an open connection", said("TIMEOUT", LIBRARY, "sqlx", stage="pool", default_ms=30_000)),
    ("RedisException: read error on connection to redis.example:6379", said("BROKEN", LIBRARY, "phpredis", peer="redis.example:6379")),
    ("RedisException: Redis server redis.example:6379 went away", said("CLOSED", LIBRARY, "phpredis", peer="redis.example:6379")),
    ("RedisException: Connection refused", said("ECONNREFUSED", KERNEL, "phpredis")),
    ("Predis\\Connection\\ConnectionException: Connection timed out [tcp://redis.example:6379]", said("TIMEOUT", LIBRARY, "predis", stage="connect", peer="redis.example:6379")),
    ("GuzzleHttp\\Exception\\ConnectException: cURL error 28: Operation timed out after 5001 milliseconds with 0 bytes received", said("TIMEOUT", LIBRARY, "curl", stage="established", timeout_ms=5001)),
    ("cURL error 56: Recv failure: Connection reset by peer", said("ECONNRESET", KERNEL, "curl")),
    ("cURL error 35: OpenSSL SSL_connect: Connection reset by peer in connection to api.example.test:443", said("ECONNRESET", KERNEL, "curl", stage="tls", peer="api.example.test:443")),
    ("PDOException: SQLSTATE[HY000]: General error: 2006 MySQL server has gone away", said("CLOSED", LIBRARY, "pdo")),
    ("PDOException: SQLSTATE[HY000]: General error: 7 server closed the connection unexpectedly", said("CLOSED", LIBRARY, "pdo")),
    ("request failed: 599 Could not read from socket: 'Connection reset by peer'", said("ECONNRESET", KERNEL, stage="established")),
    ("500 Can't connect to 10.0.2.20:8080 (Connection refused)", said("ECONNREFUSED", KERNEL, peer="10.0.2.20:8080", stage="connect")),
    ('{"level":"error","msg":"upstream","error":"Connection reset by peer","attempt":1}', said("ECONNRESET", KERNEL)),
    ("PHP Warning:  stream_socket_client(): Unable to connect to tcp://10.0.0.1:6379 (Connection timed out)", said("TIMEOUT", LIBRARY, "php", peer="10.0.0.1:6379", default_ms=60_000)),
]  # fmt: skip
FAMILIES = {
    "node": NODE, "redis": REDIS, "sql": SQL, "mongodb": MONGODB, "http": HTTP, "grpc": GRPC, "python": PYTHON, "java": JAVA,
    "dotnet": DOTNET, "go": GO, "others": OTHERS,
}  # fmt: skip
LINES = [(f"{family}: {text[:70]!r}", text, want) for family, rows in FAMILIES.items() for text, want in rows]


@pytest.mark.parametrize(("text", "want"), [row[1:] for row in LINES], ids=[row[0] for row in LINES])
def test_line(text, want):
    found = recognise(text)
    if want is None:
        assert found is None
        return
    assert found is not None and (found.layer, found.kind) == ("app", "error")
    assert {k: found.attrs.get(k) for k in want} == want


PROSE = (
    "retrying on ECONNRESET, ETIMEDOUT, EPIPE",
    "retryable codes: ECONNRESET, ETIMEDOUT",
    "maxRetries=3 retryOn=[ECONNRESET,ETIMEDOUT]",
    '{"retryableStatusCodes":["UNAVAILABLE","DEADLINE_EXCEEDED"]}',
    "if(event.op==='x'){Promise.reject(new Error('read ECONNRESET'));}",
    "if err == context.DeadlineExceeded {",
    "fixed the handling of ECONNRESET in the client",
    "connection timeout set to 5000 ms",
    "timeout of 3000 ms configured",
    "REPORT RequestId: x Status: timeout",
    "redis connected, will reconnect when the connection is closed",
    "upload finished: EOF marker written",
    "2026-11-21T00:00:00Z Task timed out after 3.00 seconds",
    "export MYSQL connectTimeoutMS: default",
    "[Errno 2] No such file or directory",
    "invalid connection string",
    "pq: canceling statement due to user request",
    "There was an error communicating with the server.",
    "decode: EOF",
    "PHP Warning:  file_get_contents(x.json): Failed to open stream: No such file or directory",
    "ActiveRecord::RecordNotFound: Couldn't find User with 'id'=1",
    "Too many connections in the pool is a warning sign",
    'retryOn = ["Connection reset by peer", "Connection refused"]',
    "a Connection reset by peer is retried",
    "handler: closing connection to server at shutdown",
    "[mysql] 2026/11/21 10:51:00 packets.go:122: closing bad idle connection: connection reset by peer",  # replaced before use
)


@pytest.mark.parametrize("text", PROSE)
def test_a_mention_is_no_error(text):
    assert recognise(text) is None or recognise(text).kind != "error"


def families() -> list[object]:
    found = modules(recognisers.__name__, recognisers.__path__)
    return [module for module in found if module.__name__.rpartition(".")[2].startswith("errors_")]


@pytest.mark.parametrize("family", families(), ids=lambda module: module.__name__.rpartition(".")[2])
def test_needles_find_every_row_that_makes_an_error(family):
    """A file is searched for needles alone; they stay few, and say something."""
    rows = family.FAMILY.rows if hasattr(family, "FAMILY") else ()
    assert [row.word for row in rows if row.code and not any(needle in row.word for needle in family.NEEDLES)] == []
    assert all(compiled(pattern) for row in rows for pattern in (row.pattern, row.adds))
    assert len(family.NEEDLES) < 80 and min(map(len, family.NEEDLES)) >= 4
    assert not any("\n" in needle or '"' in needle for needle in family.NEEDLES)


def test_the_innermost_error_gives_the_errno_and_the_outermost_names_the_library():
    body = (
        "Traceback (most recent call last):\nConnectionResetError: [Errno 104] Connection reset by peer\n\nDuring handling of the above exception, another exception occurred:\n\n"
        "urllib3.exceptions.ProtocolError: ('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))\n\n"
        'botocore.exceptions.ConnectionClosedError: Connection was closed before we received a valid response from endpoint URL: "https://s3.example.test/".'
    )
    attrs = recognise(body).attrs
    assert (attrs["code"], attrs["errno"], attrs["library"], attrs["peer"]) == (
        "ECONNRESET",
        104,
        "botocore",
        "s3.example.test",
    )


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([row[1] for row in LINES]), st.data())
def test_mutated_lines_raise_nothing(text, data):
    at, size = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 12))
    found = recognise(text[:at] + data.draw(st.text(max_size=12)) + text[at + size :])
    assert found is None or found.attrs["code"] or found.layer == "grpc"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(sorted({word for _, text, _ in LINES for word in re.split(r"(?<= )", text)})), max_size=40)
)
def test_shuffled_words_raise_nothing(words):
    recognise("".join(words))


BOMBS = {
    "repeated error": "Error: read ECONNRESET errno: -",
    "repeated address": "connect ETIMEDOUT aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "letters": "a",
    "dots": "x.x-",
    "exceptions": "java.net.SocketException(",
    "go": "read tcp 1:1->",
    "timeouts": "timed out (connect timeout=",
    "packages": "node_modules/.pnpm/",
    "urls": "endpoint URL: https://",
    "quotes": 'connection to server at "',
    "numbers": "(104, 'Connection reset by peer ",
}


@pytest.mark.parametrize("unit", BOMBS.values(), ids=BOMBS)
def test_time_is_linear_and_bounded(unit):
    """A body is looked at up to `INSPECT`; whatever it repeats, it takes no longer than a few milliseconds."""
    heads = (
        "ETIMEDOUT [Errno java.net. SocketException dial tcp (os error Errno::E DEADLINE_EXCEEDED TimeoutError ",
        "read ECONNRESET ",
        "botocore. Read timed out ",
    )
    for head in heads:
        body = head + unit * (1_000_000 // len(unit))
        began = time.perf_counter()
        recognise(body)
        assert time.perf_counter() - began < 0.5
        short = head + unit * (INSPECT // 8 // len(unit))
        began = time.perf_counter()
        recognise(short)
        assert time.perf_counter() - began < 0.25


@pytest.mark.shared
@pytest.mark.parametrize(
    "folder",
    [
        "cases/4_healthy",
        "cases/6_ephemeral",
        "cases/8_clean_half_close",
        "cases/10_freeze_drift",
        "samples/grpc/lambda-grpc-js",
    ],
)
def test_no_error_where_nothing_failed(shared, folder):
    """Healthy functions and traces: what they print beside their work is no error (scenarios of gRPC fail in gRPC's own lines)."""
    looked_at = 0
    for path in sorted((shared / folder).rglob("*")):
        if path.suffix not in (".log", ".txt", ".json") or ("samples" in folder and "healthy" not in path.name):
            continue
        choice = pick(path.read_bytes()[:65536])
        if choice.envelope is not None:
            looked_at += 1
            with path.open("rb") as stream:
                errors = [
                    e.text for e in read_log(stream, str(path), choice).events if e.layer == "app" and e.kind == "error"
                ]
            assert errors == [], path.name
    assert looked_at


def test_a_json_log_keeps_the_key_that_libraries_misspell():
    line = '{"timestamp":"2026-11-21T00:00:00.000Z","level":"ERROR","requestId":"x","message":{"errorType":"Error","errorMessage":"connect ETIMEDOUT","errorno":"ETIMEDOUT","code":"ETIMEDOUT","syscall":"connect"}}'
    assert recognise(runtimes.parse(line).body).attrs["told_by"] == "errorno without errno"
