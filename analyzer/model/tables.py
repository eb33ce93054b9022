"""The tables of the Python API: every column with its dtype and meaning, and how rows become a DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    import pandas as pd

TIME = "datetime64[ns, UTC]"


class Column(Struct, frozen=True):
    """One column: `dtype` as pandas names it (`object` holds lists)."""

    name: str
    dtype: str
    doc: str


def _columns(text: str) -> tuple[Column, ...]:
    """`name dtype meaning` a line; dtypes abbreviated: time, str, int, float, bool, list."""
    names = {"time": TIME, "str": "str", "int": "Int64", "float": "float64", "bool": "bool", "list": "object"}
    rows = (line.strip().split(None, 2) for line in text.strip().splitlines())
    return tuple(Column(name, names[kind], doc) for name, kind, doc in rows)


TABLES: dict[str, tuple[Column, ...]] = {
    "sources": _columns("""
        id str source id, s1 … by path
        path str as given
        kind str pcap, grpc-log or lambda-log
        format str the recognised shape
        records int packets or log events
        first time aligned time of the first record
        last time aligned time of the last record
        clocks list the source's clocks: name, reference, offset_ms, error_ms, drift_ppm, anchors
        problems list what could not be read: ref, what
    """),
    "environments": _columns("""
        id str log stream name; inferred-N where the export lost it
        log_group str log group, where known
        first time first sign of life
        last time last sign of life
        invocations int number of invocations
        inferred bool whether the environment is inferred rather than named
    """),
    "invocations": _columns("""
        environment str environment id
        request_id str AWS request id
        ordinal int 1 for the first run of this request id in this environment
        start time START line
        end time REPORT line; missing while unfinished
        duration_ms float as REPORT says, ms
        status str success, error, timeout, crash or unknown
        cold_start bool whether the environment was initialised for it
    """),
    "freezes": _columns("""
        environment str environment id; ip:A.B.C.D where only packets know it
        start time last sign of life before
        end time first sign of life after
        seconds float length, s
        error_ms float how far either end may be off, ms
        from str what it was derived from: platform (START and REPORT lines), neighbours (of such lines without a stamp); inferred, and explaining no finding: tsval, retransmissions, ping-overshoot
    """),
    "connections": _columns("""
        id str C1 … by first packet
        client str ip:port at the capture point nearest the client
        server str ip:port there
        seen_as list per source: source, client, server (NAT), path (tags and tunnels around it)
        opened time first packet
        closed time last packet, missing while open
        duration_s float first to last packet, s
        client_packets int at the point that saw most
        server_packets int likewise
        client_bytes int payload by sequence space: a retransmission counts once
        server_bytes int likewise
        client_retransmits int as tshark's tcp.analysis.retransmission counts
        server_retransmits int likewise
        missed_bytes int sequence space that the capture never saw
        conn_state str Zeek's conn_state
        history str Zeek's history letters
        client_state str RFC 9293 state at the end of the capture, as far as packets prove it
        server_state str likewise
        ended_by str client-fin, server-fin, client-rst or server-rst: the first segment that began the end
        handshake_rtt_ms float SYN to the client's ACK of the SYN-ACK, ms
        longest_idle_s float longest silence between two packets, s
        oddities list what is unusual about how it opened or was captured
        one_sided str client or server where the capture saw nothing of that side although it was there
        names list host names of the server
        sources list source ids that saw it
        environment str environment behind the client, where tied
        transports list gRPC transports tied to it
    """),
    "transports": _columns("""
        id str environment/pid/tracer/number
        environment str environment id
        pid int process id as logged
        dialect str grpc-js, c-core, grpc-go or grpc-java
        remote str ip:port
        connection str the TCP connection tied to it
        opened time connected
        closed time first line that ended it
        closed_by str goaway, keepalive-timeout, socket-error or close
    """),
    "pings": _columns("""
        transport str transport id
        connection str connection id, where tied
        sent time ping line
        acked time answer line
        timed_out time timeout line
        timeout_ms int configured timeout, ms
        running_ms float time the environment ran between sent and timed_out, ms
    """),
    "calls": _columns("""
        id str environment/pid/call/number
        transport str transport id, where known
        environment str environment id
        request_id str request during which it was started
        method str /package.Service/Method
        start time started
        end time ended
        status int gRPC status code
        details str status details
    """),
    "ties": _columns("""
        kind str transport-connection, error-connection, environment-address, environment-connection, call-transport, call-invocation or name-address
        left str the transport, the error's place, the environment, the call, the name
        right str the connection, the address, the transport, the request id
        confidence str certain, likely or possible
        evidence str what speaks for it
        used bool whether the trace goes by it; what fits no better than another is told and left untied
        rank int 1 for the one that fits best among rivals
        conflicts list rivals: what else left or right may be tied to, or is
        refs list places: source id and packet, line or event
    """),
    "events": _columns("""
        time time aligned time
        error_ms float how far time may be off the reference clock, ms: by the clocks, or by a stamp that was cut; missing where unaligned
        source_time time raw stamp in the source's own clock
        ingested time when the log service took the line in, where the export tells; no order inside a stream
        source str source id
        ref str place in the source: #packet, :line or [n]
        layer str lambda, app, grpc, tcp, icmp (an error about the connection), or http2 (deep mode)
        kind str what happened
        text str the line, or the segment in words
        note str what other captures add: lost before one of them, made on the way
        client_state str RFC 9293 state of the client after a segment, as far as packets prove it
        server_state str likewise of the server
        environment str environment id
        request_id str as printed: after a thaw it may be the previous one
        transport str gRPC transport id
        connection str connection id
        level str log level
        also list refs of the same line or segment in other inputs
    """),
    "findings": _columns("""
        id str F1 … by time
        rule str code
        name str rule name
        severity str error, warning or info
        confidence str certain, likely or possible
        title str headline
        time time of the primary evidence
        connection str connection id; missing where the rule is about an environment or server
        connections list all connections concerned
        transport str gRPC transport id
        environment str environment id
        request_ids list requests concerned
        caused_by list findings that caused it
        silence_s float longest silence drawn, s
        why str the reasoning
        ruled_out list rivals and why they were rejected
        help str what to change
        upgrade str what evidence would settle it
        server str the one server that it is about
        lost_s float how long requests waited for nothing because of it, s
    """),
}


def _strings(values: list[str | None]) -> pd.Series[str]:
    """Text; what cannot be encoded (lone surrogates of hostile input) becomes `?`."""
    import pandas as pd

    try:
        return pd.Series(values, dtype="str")
    except UnicodeEncodeError:
        return pd.Series([v and v.encode("utf-8", "replace").decode() for v in values], dtype="str")


def frame(table: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a DataFrame with exactly the table's columns and dtypes."""
    return frame_of(table, {column.name: [row.get(column.name) for row in rows] for column in TABLES[table]})


def frame_of(table: str, columns: dict[str, list[Any]]) -> pd.DataFrame:
    """Columns as a DataFrame with exactly the table's columns and dtypes, and the table's name in its `attrs`. Times are ns
    since the epoch, or ISO 8601."""
    import pandas as pd

    found = pd.DataFrame({column.name: _series(column, columns[column.name]) for column in TABLES[table]})
    found.attrs["table"] = table
    return found


def _series(column: Column, values: list[Any]) -> pd.Series[Any]:
    import pandas as pd

    if column.dtype == TIME and any(isinstance(v, str) for v in values):
        texts = pd.Series(values, dtype="object")
        return pd.Series(pd.to_datetime(texts, utc=True, format="ISO8601")).dt.as_unit("ns")
    if column.dtype == TIME:
        return pd.Series(pd.array(values, dtype="Int64")).astype("datetime64[ns]").dt.tz_localize("UTC")
    return _strings(values) if column.dtype == "str" else pd.Series(values, dtype=column.dtype)
