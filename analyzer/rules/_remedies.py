"""What to change, for each trouble and each client library: the one place that knows settings, their price, and their traps.

Whoever freezes between invocations cannot rely on anything that runs on a background timer (a keepalive ping, a pool's reaper, an
idle time-out, a heartbeat): what helps is a check by wall clock when a connection is taken out, one safe retry, or no kept
connection at all. A setting that helps only together with another one (`needs`) is never named without it.

Settings and defaults are those of the libraries' own sources and pages: grpc-js (README, transport.ts), grpc-go (keepalive), grpc-java,
gRPC core (doc/keepalive.md), proposals A8, A9 and A18; ioredis (RedisOptions), node-redis (client options), redis-py; mysql2 and pg pools;
node-mongodb-native; undici (Client.md); smithy's node-http-handler.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import TYPE_CHECKING

from msgspec import Struct

from analyzer.model.grpc import CORE, DIALECTS, GO, JAVA, JS
from analyzer.timeline.story import Story

if TYPE_CHECKING:
    from analyzer.model.events import Event
    from analyzer.model.records import Transport


class Trouble(Enum):
    """What is to be cured."""

    STALE = auto()  # a connection was used that the other end, or a box between, had given up
    SILENT = auto()  # data goes into the void and nobody says so
    RACE = auto()  # the server's idle limit runs out as the next request leaves
    FROZEN_PING = auto()  # a keepalive timeout by a freeze
    DEAD_PING = auto()  # a keepalive timeout that was true
    BLOCKED = auto()  # a process that did not get round to reading the answer
    MANY_PINGS = auto()  # the server throws out who pings too often
    GOAWAY = auto()  # a call was lost to an orderly end of the connection
    CHURN = auto()  # a connection for every exchange
    LIMIT = auto()  # too many connections


class Remedy(Struct, frozen=True):
    """A setting: what to do, what else it takes to help (`needs`), what it costs."""

    do: str
    needs: str = ""
    cost: str = ""

    @property
    def bare(self) -> str:
        """Without its price."""
        return self.do + (f", {self.needs}" if self.needs else "")

    def __str__(self) -> str:
        return self.bare + (f"; cost: {self.cost}" if self.cost else "")


def _r(do: str, needs: str = "", cost: str = "") -> Remedy:
    return Remedy(do, needs, cost)


#: Longer than this no channel rests in a client that stays below the 350 s of NAT gateways and load balancers
#: (momento's SDK: maxIdleMillis).
REST = "240 s"
_RECREATE = f"close and recreate channels that rested longer than {REST} by wall clock"
_RETRY_CALL = "give calls a retryPolicy for UNAVAILABLE in the service config"
_PINGS_FROZEN = "as no ping is sent while frozen"
_NO_PINGS = f"and {_RECREATE}: without pings, a silently dropped connection is noticed only by deadlines"
_TWICE = "a write that is repeated may be applied twice"
_AT_THE_THAW = (
    "and retry an idempotent request once on ECONNRESET: that time is a timer's, which does not run while frozen"
)
_ANEW = "and open a new connection and channel, with one retry, after such an error or a rest longer than the path's limit by wall clock: without heartbeats nobody notices a silent drop"
#: How AMQP's heartbeats are turned off (measured with RabbitMQ: it ends the connection of a frozen client that agreed to any).
_HEARTBEATS_OFF = {
    library: f"leave AMQP heartbeats out in this function ({how}): frozen, it sends none, and the broker ends the connection after two that are missing"
    for library, how in (
        ("pika", "heartbeat=0 in ConnectionParameters"),
        ("aio-pika", "?heartbeat=0 in the URL"),
        ("amqplib", "?heartbeat=0 in the URL"),
    )
}
_HANDSHAKE = "a handshake after each long rest"
_RECONNECTS = "with a reconnectStrategy that returns a delay for SocketTimeoutError, too, after which the default (version 6) closes the client for good"

#: (trouble, library) → remedy. A library of "" is the advice where none is recognised.
_TABLE: dict[Trouble, dict[str, Remedy]] = {
    Trouble.STALE: {
        "": _r("retry an idempotent request once, on a new connection, after ECONNRESET, EPIPE or `socket hang up`"),
        JS: _r(f"{_RECREATE} (grpc.client_idle_timeout_ms is a timer, of 30 min by default), and {_RETRY_CALL}", cost=_HANDSHAKE),
        GO: _r(f"{_RECREATE} (WithIdleTimeout is a timer, of 30 min by default), and {_RETRY_CALL}", cost=_HANDSHAKE),
        JAVA: _r(f"{_RECREATE} (idleTimeout is a timer), and {_RETRY_CALL}", cost=_HANDSHAKE),
        CORE: _r(f"{_RECREATE}, and {_RETRY_CALL}", cost=_HANDSHAKE),
        "ioredis": _r("maxRetriesPerRequest 1 to 3 with a retryStrategy, and socketTimeout, which destroys a dead socket and reconnects",
                      cost=f"autoResendUnfulfilledCommands sends commands under way again: {_TWICE}"),
        "node-redis": _r("a listener for `error` that does not throw, and one retry on a new connection (pingInterval is a timer: it does not run while frozen)",
                         cost="commands under way fail and are yours to repeat"),
        "redis-py": _r("health_check_interval, a PING when a connection that rested is taken out, judged by wall clock, with retry_on_error=[ConnectionError]", cost="a round trip after each rest"),
        "mysql2": _r("ping() when a connection is taken out, and one retry on PROTOCOL_CONNECTION_LOST, EPIPE or ECONNRESET (the pool's idleTimeout is a timer, and needs maxIdle below connectionLimit)",
                     cost=f"a round trip each time; {_TWICE}"),
        "pymysql": _r("ping(reconnect=True) when a connection that rested is taken out (pool_pre_ping=True under SQLAlchemy)", cost="a round trip each time"),
        "mysql": _r("ping() when a connection is taken out, and one retry on PROTOCOL_CONNECTION_LOST, EPIPE or ECONNRESET", cost=f"a round trip each time; {_TWICE}"),
        "pg": _r("release(err) a client whose query failed, and retry once on another (idleTimeoutMillis and maxLifetimeSeconds are timers; maxUses bounds the use without one)", cost=_TWICE),
        "knex": _r("pool.min 0, and one retry on a connection error (tarn's reaper is a timer)", cost=_HANDSHAKE),
        "prisma": _r("connection_limit=1 and one retry, or $disconnect() before a long rest", cost="after $disconnect() the next query connects anew"),
        "sqlalchemy": _r("pool_pre_ping=True", cost="a round trip each time a connection is taken out"),
        "asyncpg": _r("SELECT 1 before a connection that rested is used (a pool's max_inactive_connection_lifetime is a timer)", cost="a round trip each time"),
        "redis-rb": _r("leave reconnect_attempts at 1 or more, which repeats a command once on a new connection", cost=_TWICE),
        "psycopg": _r("SELECT 1 before a connection that rested is used (pool_pre_ping=True under SQLAlchemy)", cost="a round trip each time"),
        "pika": _r(_HEARTBEATS_OFF["pika"], _ANEW, _TWICE),
        "aio-pika": _r(_HEARTBEATS_OFF["aio-pika"], f"{_ANEW} (connect_robust reconnects by a timer, and its channel refuses until then)", _TWICE),
        "amqplib": _r(_HEARTBEATS_OFF["amqplib"], _ANEW, _TWICE),
        "mongodb": _r("maxIdleTimeMS 60000, which is checked when a connection is taken out, with serverSelectionTimeoutMS below the function's time limit", cost="a handshake after each rest of a minute"),
        "pymongo": _r("maxIdleTimeMS=60000, which is checked when a connection is taken out, with serverSelectionTimeoutMS below the function's time limit", cost="a handshake after each rest of a minute"),
        "undici": _r("keepAliveTimeout and keepAliveMaxTimeout below the server's limit less 2 s, and one retry of idempotent requests (both are timers: they do not run while frozen)"),
        "aws-sdk-js-v3": _r("leave the SDK's retries on (ECONNRESET and EPIPE are among them), set requestHandler connectionTimeout and requestTimeout; keepAlive false as a last resort", cost="keepAlive false: a handshake for every call"),
        "aws-sdk-js-v2": _r("leave the SDK's retries on; AWS_NODEJS_CONNECTION_REUSE_ENABLED out as a last resort", cost="without reuse, a handshake for every call"),
    },
    Trouble.SILENT: {
        "": _r("a time limit on every request that also destroys its connection; TCP_USER_TIMEOUT where the client can set it (Node.js cannot)"),
        JS: _r(f"set deadlines on all calls, {_RECREATE}, and one whose call ran into its deadline too (Node.js cannot set TCP_USER_TIMEOUT)", cost=_HANDSHAKE),
        GO: _r("set keepalive.ClientParameters, Time 10 s or more and Timeout, which also sets TCP_USER_TIMEOUT", f"where the server permits it (MinTime, 5 min by default, else too_many_pings), and {_RECREATE}, {_PINGS_FROZEN}"),
        JAVA: _r("set keepAliveTime and keepAliveTimeout, which also sets TCP_USER_TIMEOUT", f"where the server permits it (permitKeepAliveTime, 5 min by default, else too_many_pings), and {_RECREATE}, {_PINGS_FROZEN}"),
        CORE: _r("set GRPC_ARG_KEEPALIVE_TIME_MS and GRPC_ARG_KEEPALIVE_TIMEOUT_MS, which also sets TCP_USER_TIMEOUT",
                 f"with GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA 0 (by default pings stop after 2), where the server permits it (else too_many_pings), and {_RECREATE}, {_PINGS_FROZEN}"),
        "ioredis": _r("socketTimeout, which destroys the socket and reconnects (commandTimeout alone rejects the command and leaves the dead socket in use)", cost=f"autoResendUnfulfilledCommands sends commands under way again: {_TWICE}"),
        "node-redis": _r("socket.socketTimeout", f"{_RECONNECTS} (it counts idle time, so that it runs out in a freeze)", cost="commands under way fail and are yours to repeat"),
        "redis-py": _r("socket_timeout, with health_check_interval", cost="a round trip after each rest"),
        "mysql2": _r("a timeout for each query, and destroy() of the connection when it runs out", cost=_TWICE),
        "pymysql": _r("read_timeout below the function's time limit, and close() of the connection when it runs out", cost="slow queries are cut too"),
        "mysql": _r("a timeout for each query, and destroy() of the connection when it runs out", cost=_TWICE),
        "pg": _r("query_timeout, and release(err) of the client when it runs out", cost=_TWICE),
        "mongodb": _r("socketTimeoutMS below the function's time limit, with maxIdleTimeMS 60000", cost="slow queries are cut too"),
        "pymongo": _r("socketTimeoutMS below the function's time limit, with maxIdleTimeMS=60000", cost="slow queries are cut too"),
        "undici": _r("headersTimeout and bodyTimeout below the function's time limit (300 s by default)", cost="slow answers are cut too"),
        "aws-sdk-js-v3": _r("requestHandler requestTimeout below the function's time limit; the SDK retries by itself", cost="slow answers are cut too"),
    },
    Trouble.RACE: {
        "": _r("let the client give up idle connections before the server does, by a margin above the round trip", _AT_THE_THAW),
        "undici": _r("keepAliveTimeout below the server's limit (keepAliveTimeoutThreshold, 2 s, is its margin)", _AT_THE_THAW),
        "node": _r("agentKeepAliveTimeoutBuffer, or an agent whose idle time is below the server's", _AT_THE_THAW),
        "axios": _r("an httpAgent whose idle time is below the server's (agentKeepAliveTimeoutBuffer)", _AT_THE_THAW),
    },
    Trouble.FROZEN_PING: {
        "": _r("turn keepalive pings off in this function", _NO_PINGS),
        JS: _r("turn keepalive pings off in this function (omit grpc.keepalive_time_ms and grpc.keepalive_permit_without_calls)", _NO_PINGS),
        GO: _r("leave grpc.WithKeepaliveParams out in this function", f"{_NO_PINGS} (and TCP_USER_TIMEOUT is no longer set: some 16 min)"),
        JAVA: _r("leave keepAliveTime unset in this function", _NO_PINGS),
        CORE: _r("leave GRPC_ARG_KEEPALIVE_TIME_MS unset in this function", _NO_PINGS),
    },
    Trouble.DEAD_PING: {
        "": _r("look at the server and the path at this moment; a longer keepalive timeout only if the server may pause for longer (gRPC's default is 20 s)"),
        JS: _r("look at the server and the path at this moment; a longer grpc.keepalive_timeout_ms only if the server may pause for longer (default 20 s)"),
        GO: _r("look at the server and the path at this moment; a longer keepalive.ClientParameters.Timeout only if the server may pause for longer (default 20 s)"),
        JAVA: _r("look at the server and the path at this moment; a longer keepAliveTimeout only if the server may pause for longer (default 20 s)"),
        CORE: _r("look at the server and the path at this moment; a longer GRPC_ARG_KEEPALIVE_TIMEOUT_MS only if the server may pause for longer (default 20 s)"),
    },
    Trouble.BLOCKED: {
        "": _r("move long synchronous work off the event loop (worker threads, smaller pieces), or raise the keepalive timeout above its length (gRPC's default is 20 s)"),
        JS: _r("move long synchronous work off the event loop (worker threads, smaller pieces), or raise grpc.keepalive_timeout_ms above its length (default 20 s)"),
    },
    Trouble.MANY_PINGS: {
        "": _r("a keepalive time of 5 min or more, or of what the server permits; in functions no pings at all", _NO_PINGS),
        JS: _r("grpc.keepalive_time_ms of 5 min or more, or of what the server permits, without grpc.keepalive_permit_without_calls; in functions no pings at all", _NO_PINGS),
        GO: _r("keepalive.ClientParameters.Time of 5 min or more, or of what the server permits, without PermitWithoutStream; in functions no pings at all", _NO_PINGS),
        JAVA: _r("keepAliveTime of 5 min or more, or of what the server permits, without keepAliveWithoutCalls; in functions no pings at all", _NO_PINGS),
        CORE: _r("GRPC_ARG_KEEPALIVE_TIME_MS of 5 min or more, or of what the server permits, without GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS; in functions no pings at all", _NO_PINGS),
    },
    Trouble.GOAWAY: {
        "": _r(f"{_RETRY_CALL}; a call above the GOAWAY's last stream id was not processed (RFC 9113 §6.8), one at or below may have been"),
        JS: _r(f"{_RETRY_CALL} (grpc.service_config, grpc.enable_retries); a call above the GOAWAY's last stream id was not processed (RFC 9113 §6.8), one at or below may have been"),
        GO: _r(f"{_RETRY_CALL} (WithDefaultServiceConfig); a call above the GOAWAY's last stream id was not processed (RFC 9113 §6.8), one at or below may have been"),
        JAVA: _r(f"{_RETRY_CALL} (defaultServiceConfig, enableRetry); a call above the GOAWAY's last stream id was not processed (RFC 9113 §6.8), one at or below may have been"),
    },
    Trouble.CHURN: {
        "": _r("keep the connection across invocations, checked by wall clock before reuse, if the set-up matters beside the work", cost="connections rest while frozen and may die meanwhile"),
    },
    Trouble.LIMIT: {
        "": _r("reserved concurrency of at most limit ÷ connections per environment, with a pool of one; a multiplexing proxy or an HTTP interface; idle eviction on the server",
               cost="what the server evicts, a frozen environment finds dead: check before reuse"),
        "MySQL": _r("reserved concurrency of at most max_connections (or the limit of the user that the error names) ÷ connections per environment, with a pool of one; RDS Proxy; serverless-mysql, which ends or kills idle ones",
                    cost="RDS Proxy multiplexes only while no session state pins the connection; what is killed, a frozen environment finds dead"),
        "PostgreSQL": _r("reserved concurrency of at most max_connections (or the limit of the role or database that the error names) ÷ connections per environment, with a pool of one; RDS Proxy, or PgBouncer in transaction mode",
                         cost="no session state across transactions"),
        "Redis": _r("reserved concurrency of at most maxclients ÷ connections per environment, with one client each; an HTTP interface; timeout on the server, so that idle ones go",
                    cost="what the server closes, a frozen environment finds dead: check before reuse"),
    },
}  # fmt: skip

#: Time-outs of a library by their setting (R304).
_TIMERS: dict[tuple[str, str], Remedy] = {
    ("ioredis", "commandTimeout"): _r("ioredis' commandTimeout rejects the command and leaves the dead socket in use", "so set socketTimeout too, which destroys it and reconnects", "commands under way may be applied twice"),
    ("ioredis", "connectTimeout"): _r("ioredis: keep connectTimeout below the function's time limit", "with a retryStrategy and maxRetriesPerRequest 1 to 3, so that commands do not wait for ever"),
    ("ioredis", "socketTimeout"): _r("ioredis destroyed the socket and reconnects by itself; raise socketTimeout only if commands need longer", cost="commands under way may have been applied"),
    ("mysql", "timeout"): _r("mysql: await every query and end(): a timer left running by one invocation fires in the next"),
    ("mysql2", "timeout"): _r("mysql2: await every query and end(): a timer left running by one invocation fires in the next"),
    ("mysql or mysql2", "timeout"): _r("mysql, mysql2: await every query and end(): a timer left running by one invocation fires in the next"),
    ("pg", "connectionTimeoutMillis"): _r("pg: release every client; connectionTimeoutMillis covers the wait for the pool as well as the connect"),
    ("pg", "query_timeout"): _r("pg: release(err) the client whose query timed out", "else its connection, still busy or dead, goes back to the pool"),
    ("node-redis", "socket.socketTimeout"): _r("node-redis: keep socket.socketTimeout above the longest command", _RECONNECTS, "commands under way may have been applied"),
    ("node-redis", "socket.connectTimeout"): _r("node-redis: keep socket.connectTimeout below the function's time limit, with a reconnectStrategy"),
    ("aws-sdk-js-v3", "connectionTimeout"): _r("AWS SDK: the SDK retries it by itself (maxAttempts); keep requestHandler connectionTimeout times maxAttempts below the function's time limit"),
    **{(library, "heartbeat"): _r(f"{library}: {off}", _ANEW) for library, off in _HEARTBEATS_OFF.items()},
    ("mongodb", "serverSelectionTimeoutMS"): _r("mongodb: serverSelectionTimeoutMS is over when no server answers: look at the monitor's last error"),
    ("mongodb", "socketTimeoutMS"): _r("mongodb: the driver drops the connection by itself; raise socketTimeoutMS only if queries need longer", "with maxIdleTimeMS 60000, so that idle connections are not used dead"),
    ("PostgreSQL", "statement_timeout"): _r("look at the statement first (a lock, a missing index); statement_timeout is set by the server, the role, the database or the connection's options"),
    ("PostgreSQL", "lock_timeout"): _r("find who holds the lock (pg_locks, pg_stat_activity), a transaction left open by a frozen environment among them, before raising lock_timeout"),
    ("MySQL", "max_execution_time"): _r("look at the statement first (a missing index); max_execution_time is set by the server, the session or a hint in the statement"),
    ("undici", "connect.timeout"): _r("undici: check that the address answers before raising connect.timeout (10 s by default)"),
    ("node", "autoSelectFamilyAttemptTimeout"): _r("Node.js gives each address of a host 250 ms (happy eyeballs): raise net.setDefaultAutoSelectFamilyAttemptTimeout where a handshake takes longer"),
}  # fmt: skip
#: (library, setting) of timers that count every silence of a socket, one in which nothing was asked as well: node-redis (client/socket.ts:
#: socket.setTimeout; its default reconnectStrategy gives up after it), AMQP's heartbeats (pika/heartbeat.py, aiormq/connection.py, amqplib's lib/heartbeat.js).
IDLE_TIMERS = frozenset(
    (("node-redis", "socket.socketTimeout"), *((library, "heartbeat") for library in ("pika", "aio-pika", "amqplib")))
)
_STAGES = {
    "pool": _r("find who keeps the connections: await every release, size the pool for the requests that run at a time in one environment"),
    "connect": _r("check that the address answers (C401) before raising the setting; keep it below the function's time limit"),
    "established": _r("see that the time-out also destroys the connection, else it is used again; raise it only if the work needs longer"),
}  # fmt: skip

#: What listens on a port, and which libraries speak with it, those that most use first.
_PORTS = {
    "6379": "Redis", "6380": "Redis", "3306": "MySQL", "33060": "MySQL", "5432": "PostgreSQL", "6432": "PostgreSQL", "27017": "MongoDB", "50051": "gRPC",
    "5672": "AMQP", "5671": "AMQP",
}  # fmt: skip
_SPEAK = {
    "Redis": ("ioredis", "redis-py", "node-redis", "redis-rb"),
    "MySQL": ("mysql2", "mysql", "pymysql", "prisma", "knex", "sqlalchemy"),
    "PostgreSQL": ("pg", "psycopg", "asyncpg", "sqlalchemy", "prisma", "knex"),
    "MongoDB": ("mongodb", "pymongo"),
    "gRPC": (JS, GO, JAVA, CORE),
    "AMQP": ("pika", "aio-pika", "amqplib"),
}
#: Libraries that speak with such a server too, and have no advice of their own: that of another language would only confuse.
_OTHERS = {
    "Redis": ("phpredis", "predis", "go-redis", "jedis", "lettuce"),
    "MySQL": ("mysql2-rb", "go-sql-driver", "mysql-connector-j", "mysqli", "pdo", "sqlx", "activerecord", "hikaricp"),
    "PostgreSQL": ("ruby-pg", "pgx", "pgjdbc", "npgsql", "tokio-postgres", "sqlx", "pdo", "activerecord", "hikaricp"),
    "MongoDB": ("mongodb-java", "mongo-driver", "mongo-ruby", "mongodb-csharp"),
}
#: The same library under another name of its logs.
_ALSO = {
    "grpcio": CORE, "grpc-dotnet": "", "psycopg2": "psycopg", "psycopg_pool": "psycopg", "mysqlclient": "pymysql", "pymysql or mysqlclient": "pymysql", "mysql-connector": "pymysql", "aiomysql": "pymysql", "stripe": "node", "node-fetch": "node",
    "got": "node", "request": "node", "superagent": "node", "aws-sdk": "aws-sdk-js-v3",
}  # fmt: skip
#: The server's own knob, and why turning it is rarely enough.
_SERVERS = {
    "Redis": "timeout",
    "MySQL": "wait_timeout",
    "PostgreSQL": "idle_session_timeout",
    "gRPC": "MAX_CONNECTION_IDLE",
}

CHECK_ON_BORROW = (
    "before reuse, compare the wall clock with the last use and drop a connection that rested longer than the limit less a margin "
    "(timers of pools and keepalives do not run while frozen)"
)


def service(address: str) -> str:
    """The protocol usually behind a server's port, empty where the port says nothing."""
    return _PORTS.get(address.rsplit(":", 1)[-1], "")


def known(
    story: Story, environment: str | None, server: str, transport: Transport | None = None, events: Iterable[Event] = ()
) -> list[str]:
    """The client libraries behind a connection: its gRPC transport's dialect, what the finding's own log lines name, else
    what the environment's errors name that speaks with such a server. Empty where nothing tells."""
    if transport is not None:
        return [transport.dialect]
    named = [str(e.attrs.get("library") or "") for e in events]
    named += story.libraries_of(environment) if environment else []
    found = dict.fromkeys(_ALSO.get(name, name) for name in named)
    speaks = (*_SPEAK.get(service(server), ()), *_OTHERS.get(service(server), ()))
    return [
        name for name in found if name and (name in speaks if speaks else any(name in rows for rows in _TABLE.values()))
    ]


def dialect_of(story: Story, e: Event) -> str:
    """The gRPC dialect of the library that printed or raised an event, empty where nothing tells."""
    named = known(story, e.environment, e.remote or "", events=[e])
    return e.dialect or next((name for name in named if name in DIALECTS), "")


def at_limit(protocol: str, server: str) -> str:
    """What to change about a server's limit of connections: by the protocol that its words are of, else by its port."""
    rows = _TABLE[Trouble.LIMIT]
    return str(rows.get(protocol or service(server), rows[""]))


def advice(trouble: Trouble, server: str, libraries: list[str], closes: bool = True) -> str:
    """What to change: with its price for a library that is recognised, else for those that usually speak with such a server.

    `closes`: whether it may be the server whose limit ended the connection.
    """
    rows = _TABLE[trouble]
    here = service(server)
    if trouble is Trouble.LIMIT:
        return at_limit("", server)
    names = [name for name in libraries if name in rows][:2]
    usual = (
        [name for name in _SPEAK.get(here, ()) if name in rows][:2]
        if trouble in (Trouble.STALE, Trouble.SILENT) and not libraries
        else []
    )
    if names:
        said = "; ".join(str(rows[name]) if name in DIALECTS else f"{name}: {rows[name]}" for name in names)
    elif here == "gRPC" and trouble in (Trouble.STALE, Trouble.SILENT):
        said = str(rows[JS])
    elif usual:
        said = f"{rows['']}; " + "; ".join(f"{name}: {rows[name].bare}" for name in usual)
    else:
        said = str(rows[""])
    if trouble is not Trouble.STALE:
        return said
    lead = "" if names and names[0] in DIALECTS else f"{CHECK_ON_BORROW}; "
    knob = (
        f"; raising the server's {_SERVERS[here]} helps only above the longest rest (environments outlive 300 s)"
        if here in _SERVERS and closes
        else ""
    )
    return f"{lead}{said}{knob}"


def timer(library: str, setting: str, stage: str) -> str:
    """What to change about a library's time-out."""
    return str(_TIMERS.get((library, setting)) or _STAGES.get(stage) or _STAGES["established"])


def for_connection(story: Story, k: int, trouble: Trouble, events: Iterable[Event] = (), closes: bool = True) -> str:
    """`advice` for connection `k`; `events` are the finding's own log lines."""
    server = story.connections.server(k)
    transports = story.connections.transports.get(k)
    transport = story.transport(transports[0]) if transports else None
    libraries = known(story, story.connections.environment.get(k), server, transport, events)
    return advice(trouble, server, libraries, closes)


def for_transport(trouble: Trouble, transport: Transport | None) -> str:
    """`advice` for a gRPC transport, None where only frames were seen."""
    return advice(trouble, (transport.remote if transport else "") or "", [transport.dialect] if transport else [])
