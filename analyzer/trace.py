"""The result that everything shares: command line, notebook and Python API."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.model.findings import Finding
from analyzer.model.problems import InputError, Problem
from analyzer.model.tables import frame
from analyzer.model.times import SECOND, parse_iso
from analyzer.report import document as doc
from analyzer.timeline.story import Story, event_text

if TYPE_CHECKING:
    import pandas as pd

    from analyzer.deep import DeepFrame
    from analyzer.rules import RuleSet
    from analyzer.tcp.segments import Place


class Trace:
    """Sources read, correlated and examined.

    Tables are pandas DataFrames whose columns, dtypes and meanings are listed in `analyzer.model.tables.TABLES`; times are
    `datetime64[ns, UTC]`, aligned to the reference clock. They are built on first use and are yours to change.
    """

    def __init__(self, story: Story, findings: list[Finding]) -> None:
        self.story = story
        #: List of `analyzer.model.findings.Finding`, by time.
        self.findings = findings
        #: HTTP/2 and gRPC frames by number of connection, where `deepen` found some.
        self.deep: dict[int, list[DeepFrame]] = {}

    def __repr__(self) -> str:
        return (
            f"<Trace: {len(self.story.sources)} sources, {len(self.story.connections)} connections, "
            f"{len(self.story.events)} log events, {len(self.findings)} findings>"
        )

    def _repr_html_(self) -> str:
        from html import escape

        from analyzer.report.style import Style
        from analyzer.report.text import report

        return f"<pre>{escape(report(self.story, self.findings, Style(width=120)))}</pre>"

    @cached_property
    def sources(self) -> pd.DataFrame:
        """Inputs: one row a source."""
        return frame("sources", doc.sources(self.story))

    @cached_property
    def environments(self) -> pd.DataFrame:
        """Execution environments."""
        return frame("environments", doc.environments(self.story))

    @cached_property
    def invocations(self) -> pd.DataFrame:
        """Invocations, by start."""
        return frame("invocations", doc.invocations(self.story))

    @cached_property
    def freezes(self) -> pd.DataFrame:
        """Freezes between invocations, by start."""
        return frame("freezes", doc.freezes(self.story))

    @cached_property
    def connections(self) -> pd.DataFrame:
        """TCP connections, one row each however many captures saw it."""
        return frame("connections", list(doc.connections(self.story)))

    @cached_property
    def transports(self) -> pd.DataFrame:
        """gRPC transports."""
        return frame("transports", doc.transports(self.story))

    @cached_property
    def pings(self) -> pd.DataFrame:
        """gRPC keepalive pings."""
        return frame("pings", doc.pings(self.story))

    @cached_property
    def calls(self) -> pd.DataFrame:
        """RPCs."""
        return frame("calls", doc.calls(self.story))

    @cached_property
    def events(self) -> pd.DataFrame:
        """Events of all sources in order of time: log lines, and the TCP events of connections (see `tcp_events`)."""
        rows = [_log_row(e) for e in self.story.events] + self._tcp_rows(range(len(self.story.connections)))
        rows += self._deep_rows(self.deep) + self._icmp_rows(range(len(self.story.connections)))
        rows.sort(key=lambda r: (r["time_ns"], r["source"], r["order"]))
        return frame("events", rows)

    @cached_property
    def findings_frame(self) -> pd.DataFrame:
        """Findings as a table, without their evidence."""
        return frame("findings", [doc.finding(self.story, f) for f in self.findings])

    def timeline(self, connection: str) -> pd.DataFrame:
        """Everything about one connection (`C7`, or `ip:port` of its client), every segment and every log line of its environment
        that fell into its life, in order. Raises `KeyError` for an unknown one."""
        k = self.index(connection)
        rows = self._tcp_rows([k], notable=False) + self._deep_rows([k]) + self._icmp_rows([k])
        env = self.story.connections.environment.get(k)
        if rows and env and self.story.aligned:
            first, last = self.span(k)
            rows += [_log_row(e) for e in self.story.events_between(first, last, env)]
        rows.sort(key=lambda r: (r["time_ns"], r["source"], r["order"]))
        return frame("events", rows)

    def deepen(
        self, connections: Iterable[str] | None = None, keylog: str | Path | None = None, decode_as: Iterable[str] = ()
    ) -> list[str]:
        """Look into connections (`C7`, `ip:port`; by default those with findings) through tshark, and return what it could not see.

        Their HTTP/2 and gRPC frames, decrypted with `keylog` (an SSLKEYLOGFILE) or with the secrets inside a pcapng, appear in
        `timeline`, in `events` (layers `http2` and `grpc`) and beside the findings' evidence. `decode_as` are tshark's own words
        (`tcp.port==8443,http2`). Needs pyshark (extra `deep`) and tshark; raises `InputError` without, `KeyError` for an unknown
        connection.
        """
        from analyzer.deep import deepen, with_frames

        names = connections if connections is not None else [c for f in self.findings for c in f.connections]
        found = deepen(self.story, [self.index(c) for c in names], str(keylog) if keylog else None, decode_as)
        self.deep |= found.frames
        self.__dict__.pop("events", None)
        for finding in self.findings:
            frames = [f for c in finding.connections for f in self.deep.get(self.index(c), [])]
            with_frames(finding, frames, lambda frame: self._ref(frame.place))
        for source, note in found.notes:
            self.story.source(source).problems.append(Problem("", note))
        return [note for _, note in found.notes]

    def span(self, k: int) -> tuple[int, int]:
        """Aligned ns from a second before connection `k` to a second after it, or as far as its findings' evidence goes."""
        times = [s.time_ns for s in self.story.connections.segments(k)]
        name = self.story.connections.id(k)
        told = [e.time_ns for f in self.findings if name in f.connections for e in f.evidence]
        return min([times[0] - SECOND, *told]), max([times[-1] + SECOND, *told])

    def index(self, connection: str) -> int:
        """The number behind `C7`, `ip:port` (client) or `ip:port-ip:port`; raises `KeyError`."""
        cs = self.story.connections
        name = connection.strip()
        if name[:1] in "Cc" and name[1:].isdigit() and 1 <= int(name[1:]) <= len(cs):
            return int(name[1:]) - 1
        for k in range(len(cs)):
            if name in (cs.client(k), f"{cs.client(k)}-{cs.server(k)}"):
                return k
        raise KeyError(
            f"no connection {connection!r}: there are C1 … C{len(cs)}" if len(cs) else "no connections in this trace"
        )

    def packet(self, ref: str) -> Any:
        """The packet behind an evidence ref, `s2#1042` (source id and packet number), as a scapy packet.

        Needs scapy (extra `scapy`). Raises `KeyError` for an unknown source or packet.
        """
        from analyzer.capture.scapy_bridge import packet

        source_id, _, number = ref.rpartition("#")
        source_id, _, member = source_id.partition("!")
        for point in self.story.connections.points:
            if point.source.id == source_id and number.isdigit():
                return packet(
                    str(Path(point.source.path).with_name(member)) if member else point.source.path, int(number)
                )
        raise KeyError(f"no packet {ref!r}: refs look like s1#42, in a ring buffer s1!trace.pcap2#42")

    def save(self, path: str | Path) -> None:
        """Write the trace as a folder of Parquet tables that `analyzer.load` and every command read; see `analyzer.saved`.

        Raises `InputError` where the name is taken by something else, or cannot be written.
        """
        from analyzer.saved import save

        save(self, path)

    def document(self) -> dict[str, Any]:
        """The JSON document (schema `analyzer/1`)."""
        return doc.document(self.story, self.findings)

    def _full_ref(self, place: Any) -> str:
        ref = self.story.source(place.source).packet_ref(place.no)
        return f"{place.source}{ref if ref.startswith('#') else '!' + ref}"

    def _tcp_rows(self, ks: Collection[int], notable: bool = True) -> list[dict[str, Any]]:
        connections = self.story.connections
        connections.load(ks)
        return [
            self._row(k, min(s.places, key=lambda p: p.time_ns), "tcp", kind_of(s), s.describe(), s.places)
            for k in ks for s in connections.segments(k) if is_notable(s) or not notable
        ]  # fmt: skip

    def _icmp_rows(self, ks: Iterable[int]) -> list[dict[str, Any]]:
        return [
            self._row(k, min(e.places, key=lambda p: p.time_ns), "icmp", "icmp-error", e.describe(), e.places)
            for k in ks for e in self.story.connections.icmp(k)
        ]  # fmt: skip

    def _deep_rows(self, ks: Iterable[int]) -> list[dict[str, Any]]:
        return [self._row(k, f.place, f.layer, f.kind, f.describe()) for k in ks for f in self.deep.get(k, [])]

    def _row(
        self, k: int, place: Place, layer: str, kind: str, text: str, places: Iterable[Place] = ()
    ) -> dict[str, Any]:
        """Something that captures saw of connection `k`: first at `place`, and at the others of `places`."""
        connections = self.story.connections
        return {
            "time_ns": place.time_ns, "time": place.time_ns, "source_time": place.source_ns, "source": place.source,
            "ref": self._ref(place), "layer": layer, "kind": kind, "text": text,
            "connection": connections.id(k), "environment": connections.environment.get(k),
            "transport": None, "request_id": None, "level": None, "order": place.no,
            "also": [self._full_ref(p) for p in places if p is not place],
        }  # fmt: skip

    def _ref(self, place: Place) -> str:
        return self.story.source(place.source).packet_ref(place.no)


def is_notable(segment: Any) -> bool:
    """Whether a segment is an event of its own: it opens, ends, repeats, probes, wakes, changes a state or carries a marker."""
    from analyzer.capture.columns import M_NOTABLE
    from analyzer.tcp import fields as f

    notable_kinds = f.K_RETX | f.K_KEEPALIVE | f.K_ZERO_PROBE | f.K_WAKE | f.K_STATE | f.K_LOST | f.K_ACKED_UNSEEN
    return bool(segment.syn or segment.fin or segment.rst or segment.kinds & notable_kinds or segment.marks & M_NOTABLE)


def kind_of(segment: Any) -> str:
    """The event kind of a segment, in the field's words."""
    from analyzer.capture.columns import ACK_FLAG, M_H2_GOAWAY, M_PING, M_PING_ACK

    if segment.rst:
        return "rst"
    if segment.syn:
        return "syn-ack" if segment.flags & ACK_FLAG else "syn"
    if segment.fin:
        return "fin-retransmission" if segment.retransmitted else "fin"
    for mark, name in ((M_H2_GOAWAY, "goaway"), (M_PING, "ping"), (M_PING_ACK, "ping-ack")):
        if segment.marks & mark:
            return name
    if segment.retransmitted:
        return "retransmission"
    if segment.keepalive:
        return "keepalive-probe"
    return "data" if segment.payload else "ack"


def _log_row(e: Any) -> dict[str, Any]:
    return {
        "time_ns": e.time_ns, "time": e.time_ns, "source_time": e.source_ns, "ingested": e.ingestion_ns,
        "source": e.source, "ref": e.ref, "layer": e.layer, "kind": e.kind, "text": event_text(e), "connection": e.connection, "environment": e.environment, "transport": e.transport,
        "request_id": e.request_id, "level": e.level, "order": e.order, "also": [f"{s}{r}" for s, r in e.also],
    }  # fmt: skip


def read(
    *paths: str | Any,
    kinds: frozenset[str] = frozenset(("pcap", "log")),
    progress: Any = None,
    live: Callable[[Trace], None] | None = None,
    since: str | int | None = None,
    until: str | int | None = None,
    environment: str | None = None,
    request_id: str | None = None,
    client: Iterable[str] | None = None,
    server: Iterable[str] | None = None,
    port: Iterable[int] | None = None,
    checksums: str = "sample",
    shape: str | None = None,
    year: int | None = None,
    tz: str | None = None,
    counter: Iterable[str] | None = None,
    rules: RuleSet | None = None,
) -> Trace:
    """Read files, folders and globs, correlate them, run the rules; or load a saved trace.

    `progress` is called now and then with (bytes done, packets done, bytes in all or None) of the capture being read;
    `live` with a trace of what there is so far, every few seconds while a capture comes from standard input. Raises `analyzer.InputError` when a named path cannot be opened or nothing is readable; damage inside files is reported
    in `trace.sources` instead.

    `since` and `until` (ISO 8601, or ns since the epoch), `environment` (a part of its id) and `request_id` (its beginning),
    `client` and `server` (addresses or prefixes: `10.0.0.0/16`) and `port` (the server's) narrow what the trace tells, after everything was correlated. `shape` names the envelope of the logs instead of a guess;
    `year` and `tz` (`+02:00`) complete stamps that lack them; `counter` are patterns of lines that print a background counter
    beside the wall clock, with the groups `wall` and `counted` in seconds. `client` and `server` also tell the direction of connections
    that begin in mid-stream. `rules` chooses rules and changes thresholds (`analyzer.rule_set`). `checksums="drop"` leaves packets with a bad checksum out, `"check"` counts all of them (by
    default those among the first packets are counted, and said).
    """
    from analyzer.capture.reader import CHECKSUMS, How
    from analyzer.inputs import Inputs, is_saved, read_inputs
    from analyzer.rules import run
    from analyzer.rules._ruleset import RuleSet
    from analyzer.tcp.tracker import sides_of
    from analyzer.timeline.build import build
    from analyzer.timeline.filters import View, narrowed, network

    if not paths:
        raise InputError("no input: give files, folders or globs")
    if checksums not in CHECKSUMS:
        raise InputError(f"checksums {checksums!r}: one of {', '.join(CHECKSUMS)}")
    clients = tuple(network(c, "--client") for c in client or ())
    servers = tuple(network(s, "--server") for s in server or ())
    how = How(checksums, sides_of(clients, servers))
    view = View(
        time_of("since", since), time_of("until", until), environment, request_id,
        clients, servers, tuple(port or ()),
    )  # fmt: skip

    chosen = rules or RuleSet()

    def trace(inputs: Inputs) -> Trace:
        story = build(inputs.points, inputs.logs)
        story.skipped, story.interrupted = inputs.skipped, inputs.interrupted
        return told(story, run(story, chosen.settings))

    def told(story: Story, findings: list[Finding]) -> Trace:
        findings, story.examined = chosen.told(findings, story.examined)
        return Trace(*narrowed(story, findings, view)) if view else Trace(story, findings)

    saved = [str(p) for p in paths if is_saved(p)]
    if saved:
        if len(paths) > 1:
            raise InputError(f"{saved[0]}: a saved trace stands alone, it cannot be read with other inputs")
        from analyzer.saved import load

        whole = load(saved[0])
        if whole.story.examined is not None:
            chosen.of_saved(whole.story.examined, saved[0])
        return told(whole.story, whole.findings)
    look = None if live is None else lambda so_far: live(trace(so_far))
    return trace(read_inputs([str(p) for p in paths], kinds, progress, look, shape, year, tz, how, counter or ()))


def time_of(name: str, value: str | int | None) -> int | None:
    """A time that the user gave, in ns since the epoch; raises `InputError` for text that is none."""
    if value is None or isinstance(value, int):
        return value
    text = value.strip().replace(" ", "T")
    date, _, clock = text.partition("T")
    plain = clock.rstrip("Z").partition("+")[0].partition("-")[0]
    missing = {0: "00:00:00", 2: ":00:00", 5: ":00"}.get(len(plain))
    found = parse_iso(f"{date}T{plain}{missing or ''}{clock[len(plain) :]}")
    if found is None:
        raise InputError(f"--{name} {value!r} is no time: write 2026-11-21T00:06 or 2026-11-21T00:06:05.860Z")
    return found
