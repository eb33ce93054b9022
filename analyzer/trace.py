"""The result that everything shares: command line, notebook and Python API."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.model.findings import Finding
from analyzer.model.problems import InputError, Problem, UnknownNameError
from analyzer.model.tables import frame, frame_of
from analyzer.model.times import MS, moment
from analyzer.model.timing import timed
from analyzer.report import document as doc
from analyzer.timeline.steps import Step, all_steps
from analyzer.timeline.story import Story
from analyzer.timeline.subjects import CONNECTION, Subject, subject
from analyzer.timeline.timelines import WHOLE, Cut, Time, Timeline, span_of, timeline_of

if TYPE_CHECKING:
    import pandas as pd

    from analyzer.connection import Connection
    from analyzer.deep import DeepFrame
    from analyzer.rules import RuleSet
    from analyzer.timeline.filters import Network


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
        from analyzer.report.notebook import trace_html

        return trace_html(self)

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
    def ties(self) -> pd.DataFrame:
        """What is tied to what, how surely, by which evidence, and what else it might be: gRPC transports, application errors and
        environments with connections and addresses, calls with transports and invocations, names with addresses."""
        return frame("ties", doc.ties(self.story))

    @cached_property
    def events(self) -> pd.DataFrame:
        """Events of all sources in order of time: every log line; of connections what opens, ends, repeats, probes, wakes,
        changes a state or carries a marker (`timeline` has every segment)."""
        return frame_of("events", _columns(all_steps(self.story, self.deep)))

    @cached_property
    def findings_frame(self) -> pd.DataFrame:
        """Findings as a table, without their evidence."""
        return frame("findings", [doc.finding(self.story, f) for f in self.findings])

    def connection(self, name: str) -> Connection:
        """One connection as an object: `C7`, or the client's `ip:port`; raises `UnknownNameError` (a `KeyError`)."""
        from analyzer.connection import Connection

        return Connection(self, self.index(name))

    def view(
        self,
        *,
        connection: str | Iterable[str] | None = None,
        environment: str | None = None,
        request_id: str | None = None,
        since: Time | None = None,
        until: Time | None = None,
        client: Iterable[str] | None = None,
        server: Iterable[str] | None = None,
        port: Iterable[int] | None = None,
    ) -> Trace:
        """The same trace, narrower: every table, and the findings, hold what lies inside; ids stay what they are.

        `connection` is a name or several (`C7`, `ip:port`): with it comes what its environment did in its life. `environment`
        is a part of its id, `request_id` its beginning, `since` and `until` are times (ISO 8601, a datetime, ns since the epoch),
        `client` and `server` addresses or prefixes (`10.0.0.0/16`), `port` the server's. All of them must hold. Nothing is
        examined anew: a freeze that began before the view still explains what lies inside. Raises `UnknownNameError` (a
        `KeyError`) for an unknown connection, `InputError` for text that is no time, address or prefix.
        """
        from analyzer.timeline.filters import View, narrowed

        names = [connection] if isinstance(connection, str) else connection
        view = View(
            time_of("since", since), time_of("until", until), environment, request_id, *_networks(client, server),
            tuple(port or ()), None if names is None else frozenset(self.index(name) for name in names),
        )  # fmt: skip
        found = Trace(*narrowed(self.story, self.findings, view))
        found.deep = self.deep
        return found

    def timeline(
        self,
        name: str,
        *,
        since: Time | None = None,
        until: Time | None = None,
        around: str | int | None = None,
        at: Time | None = None,
    ) -> pd.DataFrame:
        """The story of a connection, a request, an environment or a finding, as rows of the events table in order of time.

        `name` is `C7`, a client's `ip:port` (with the server's behind a dash), `F3`, the beginning of a request id, or a part of
        an environment's name. A connection's story has every segment, and what its environment printed meanwhile; an
        environment's its log lines, and what is notable of its connections; a request's begins at the end of the invocation
        before it, so that the freeze between them is there; a finding's is what was around its proof.

        `since` and `until` narrow it, as does `around` (`"5s"`, or ns) with `at`, the centre: a time, a finding, a request; by
        default the request itself, or the gravest finding's line. Times are ISO 8601, datetimes, ns since the epoch, or text
        such as `"13.25"`: seconds as the text form's gutter counts them. Raises `UnknownNameError` (a `KeyError`) for a name that
        stands for nothing, or for several things; `InputError` for a time that is none.
        """
        return frame_of("events", _columns(self.story_of(name, Cut(since, until, around, at)).steps))

    def find(self, name: str) -> Subject:
        """What a name stands for, as `timeline` takes it; raises `UnknownNameError`."""
        return subject(self.story, self.findings, name)

    def story_of(self, name: str, cut: Cut = WHOLE) -> Timeline:
        """What `timeline` returns, before it is a table: for reports."""
        return timeline_of(self.story, self.findings, self.deep, name, cut)

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
            with_frames(finding, frames, lambda frame: self.story.source(frame.place.source).packet_ref(frame.place.no))
        for source, note in found.notes:
            self.story.source(source).problems.append(Problem("", note))
        return [note for _, note in found.notes]

    def span(self, k: int) -> tuple[int, int]:
        """Aligned ns from a second before connection `k` to a second after it, or as far as its findings' evidence goes."""
        return span_of(self.story, self.findings, k)

    def index(self, connection: str) -> int:
        """The number behind `C7`, a client's `ip:port` or `ip:port-ip:port`; raises `UnknownNameError` (a `KeyError`)."""
        about = self.find(connection)
        if about.kind != CONNECTION:
            raise UnknownNameError(f"{connection!r} names no connection: it is of kind {about.kind}")
        return about.connections[0]

    def packet(self, ref: str) -> Any:
        """The packet behind an evidence ref, `s2#1042` (source id and packet number), as a scapy packet.

        Needs scapy (extra `scapy`). Raises `KeyError` for an unknown source or packet, `InputError` where the capture is not
        there any more.
        """
        from analyzer.capture.scapy_bridge import packet

        source_id, _, number = ref.rpartition("#")
        source_id, _, member = source_id.partition("!")
        for point in self.story.connections.points:
            if point.source.id == source_id and number.isdigit():
                path = Path(point.source.path).with_name(member) if member else Path(point.source.path)
                if not path.is_file():
                    raise InputError(f"{path}: the capture is not there any more: packets are read from it")
                return packet(str(path), int(number))
        raise KeyError(f"no packet {ref!r}: refs look like s1#42, in a ring buffer s1!trace.pcap2#42")

    def save(self, path: str | Path) -> None:
        """Write the trace as a folder of Parquet tables that `analyzer.load` and every command read; see `analyzer.saved`.

        Raises `InputError` where the name is taken by something else, or cannot be written.
        """
        from analyzer.saved import save

        save(self, path)

    def report(self, path: str | Path, everything: bool = False) -> None:
        """Write the report as one HTML file that opens from disk, without a network: verdict, findings with evidence and
        timelines, connections, sources. `everything` raises the bounds of what a page of a big trace shows.

        Needs jinja2 and bokeh (extra `report`); raises `InputError` without, `OSError` where the file cannot be written.
        """
        from analyzer.report.html import write

        write(self, path, everything)

    def redacted(self, key: str | None = None) -> Trace:
        """This trace as it may be shown to others: pseudonyms for addresses, names and ids, message bodies and payload cut.

        Every table, report, picture and saved folder made of it inherits that. Equal keys give equal pseudonyms in several runs;
        without one they are random.
        """
        return self.redacted_with(key)[0]

    def redacted_with(self, key: str | None, names: Iterable[str] = ()) -> tuple[Trace, list[str]]:
        """What `redacted` returns, and what it calls the things that `names` stand for here (as `timeline` takes names).

        Raises `InputError` for an empty key. A name that stands for nothing stays what it is.
        """
        from analyzer.redact import Redactor
        from analyzer.redacted import pseudonym, redacted

        redactor = Redactor(key)
        return redacted(self, redactor), [pseudonym(self, name, redactor) for name in names]

    def document(self) -> dict[str, Any]:
        """The JSON document (schema `analyzer/1`)."""
        return doc.document(self.story, self.findings)


def _columns(steps: list[Step]) -> dict[str, list[Any]]:
    """Steps as columns of the events table."""
    plain = (
        "source",
        "ref",
        "layer",
        "kind",
        "text",
        "note",
        "environment",
        "request_id",
        "transport",
        "connection",
        "level",
    )
    columns: dict[str, list[Any]] = {name: [getattr(s, name) for s in steps] for name in plain}
    columns["note"] = [note or None for note in columns["note"]]
    for name, field in (("time", "time_ns"), ("source_time", "source_ns"), ("ingested", "ingested_ns")):
        columns[name] = [getattr(s, field) for s in steps]
    columns["error_ms"] = [None if s.error_ns is None else s.error_ns / MS for s in steps]
    for at, name in enumerate(("client_state", "server_state")):
        columns[name] = [s.states[at] if s.states else None for s in steps]
    columns["also"] = [[f"{source}{'' if ref[:1] in '#:[' else '!'}{ref}" for source, ref in s.also] for s in steps]
    return columns


def read(
    *paths: str | Any,
    kinds: frozenset[str] = frozenset(("pcap", "log")),
    progress: Any = None,
    live: Callable[[Trace], None] | None = None,
    since: Time | None = None,
    until: Time | None = None,
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
    from analyzer.timeline.filters import View, narrowed

    if not paths:
        raise InputError("no input: give files, folders or globs")
    if checksums not in CHECKSUMS:
        raise InputError(f"checksums {checksums!r}: one of {', '.join(CHECKSUMS)}")
    clients, servers = _networks(client, server)
    how = How(checksums, sides_of(clients, servers))
    view = View(
        time_of("since", since), time_of("until", until), environment, request_id,
        clients, servers, tuple(port or ()),
    )  # fmt: skip

    chosen = rules or RuleSet()

    def trace(inputs: Inputs) -> Trace:
        with timed("correlated") as done:
            story = build(inputs.points, inputs.logs)
            done += [f"{len(story.connections):,} connections", f"{len(story.events):,} log events"]
        story.skipped, story.interrupted = inputs.skipped, inputs.interrupted
        with timed("all rules") as done:
            findings = run(story, chosen.settings)
            done.append(f"{len(findings):,} findings")
        return told(story, findings)

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


def _networks(
    client: Iterable[str] | None, server: Iterable[str] | None
) -> tuple[tuple[Network, ...], tuple[Network, ...]]:
    """Addresses and prefixes of clients and servers that the user gave; raises `InputError` for text that is none."""
    from analyzer.timeline.filters import network

    return tuple(network(c, "--client") for c in client or ()), tuple(network(s, "--server") for s in server or ())


def time_of(name: str, value: Time | None) -> int | None:
    """A time that the user gave, in ns since the epoch; raises `InputError` for text that is none."""
    found = moment(value) if value is not None else None
    if value is not None and found is None:
        raise InputError(f"--{name} {value!r} is no time: write 2026-11-21T00:06 or 2026-11-21T00:06:05.860Z")
    return found
