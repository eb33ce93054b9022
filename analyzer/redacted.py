"""A trace that may leave the house: the same story and findings under pseudonyms, which every output then tells.

Redaction happens once, here, and not in each output: a `Trace` goes in, a `Trace` comes out that has never held an address, a name, a
path or a word of anybody's, so that no report, table, picture or saved folder made of it can give one away. Lengths, ports, times,
counts and states stay true; what links (request ids, environments, transports) stays linkable under one key.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from analyzer.capture import columns as col
from analyzer.model.addresses import halves, host
from analyzer.model.findings import Evidence, Finding
from analyzer.model.problems import UnknownNameError
from analyzer.payload import http2
from analyzer.redact.lines import body, cut
from analyzer.redact.words import clean, masked
from analyzer.tcp import fields as f
from analyzer.timeline.points import Connections, Point
from analyzer.timeline.story import Story, event_text
from analyzer.timeline.subjects import CONNECTION
from analyzer.trace import Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.capture.reader import CaptureData
    from analyzer.model.events import Event
    from analyzer.model.records import Source
    from analyzer.redact import Redactor

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SUFFIX = re.compile(r"\.(?:pcapng|pcap|cap|json|jsonl|csv|log|txt|gz|zst)")
_PORT = re.compile(r"[0-9]{1,5}")
_NUMBERED = re.compile(r"(?:/[0-9]{1,20}){0,4}")
_MEMBER = re.compile(r"^[^#:\[\]]+(?=[#:\[])")


def redacted(trace: Trace, redactor: Redactor) -> Trace:
    """`trace` under the redactor's pseudonyms. The one given is left as it is."""
    return _Redaction(trace.story, redactor).trace(trace)


def pseudonym(trace: Trace, name: str, redactor: Redactor) -> str:
    """What the redacted trace calls the thing that `name` stands for; a name that stands for nothing here stays."""
    try:
        about = trace.find(name)
    except UnknownNameError:
        return name
    names = _Redaction(trace.story, redactor)
    match about.kind:
        case "request":
            return names.request(about.id) or name
        case "environment":
            return names.env(about.id) or name
    return f"C{about.connections[0] + 1}" if about.kind == CONNECTION else about.id


class _Redaction:
    """One trace on its way out."""

    def __init__(self, story: Story, redactor: Redactor) -> None:
        self._story = story
        self._redactor = redactor
        self._environments = {e.id: self._environment(e.id) for e in story.environments}
        self._labels = {s.label: _path(s) for s in reversed(story.sources)}
        longest = sorted(self._labels, key=len, reverse=True)
        self._label = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])")
        self._sources = {s.id: self._source(s) for s in story.sources}
        self._texts: dict[tuple[str, str], str] = {}

    def trace(self, trace: Trace) -> Trace:
        story, env = self._story, self.env
        flagged = sorted({int(c[1:]) - 1 for finding in trace.findings for c in finding.connections})
        found = Story(
            sources=list(self._sources.values()),
            connections=self._connections(flagged),
            events=[self._event(e) for e in story.events],
            environments=[
                replace(e, id=env(e.id) or "", log_group=e.log_group and f"group-{self._redactor.tag('group', e.log_group)}",
                        addresses={self._redactor.text(a) for a in e.addresses})
                for e in story.environments
            ],
            invocations=[
                replace(i, environment=env(i.environment) or "", request_id=self.request(i.request_id) or "", start_ref=self._place(i.start_ref), end_ref=self._place(i.end_ref))
                for i in story.invocations
            ],
            freezes=[
                replace(z, environment=env(z.environment) or "", before=self.request(z.before) or "", after=self.request(z.after) or "") for z in story.freezes
            ],
            transports=[replace(t, id=self._id(t.id), environment=env(t.environment), remote=self._remote(t.remote), local=self._remote(t.local), tie=self._clean(t.tie),
                        pid=self._word(t.pid), number=self._word(t.number) or "", version=self._word(t.version), subchannel=self._word(t.subchannel)) for t in story.transports],
            pings=[replace(p, transport=self._id(p.transport)) for p in story.pings],
            calls=[
                replace(c, id=self._id(c.id), environment=env(c.environment), pid=self._word(c.pid), request_id=self.request(c.request_id), method=c.method and f"/{self._redactor.tag('method', c.method)}",
                        details=c.details and self._clean(c.details), remote=self._remote(c.remote), transport=c.transport and self._id(c.transport), subchannel=self._word(c.subchannel))
                for c in story.calls
            ],
            ties=[replace(x, left=self._end(x.left), right=self._end(x.right), evidence=self._clean(x.evidence), conflicts=[self._end(c) for c in x.conflicts], refs=[self._ref(r) for r in x.refs])
                  for x in story.ties],
            skipped=[(f"file-{self._redactor.tag('path', path)}", why and self._clean(why)) for path, why in story.skipped],
            aligned=story.aligned, interrupted=story.interrupted, outside=story.outside, window=story.window,
        )  # fmt: skip
        found.examined = story.examined
        return Trace(found, [self._finding(x) for x in trace.findings])

    # ---- words

    def _clean(self, text: str) -> str:
        if self._labels:
            text = self._label.sub(lambda m: self._labels[m[0]], text)
        return clean(text, self._redactor)

    def _word(self, text: str | None) -> str | None:
        return text and self._clean(text)

    def env(self, name: str | None) -> str | None:
        if name is None:
            return None
        if name not in self._environments:
            self._environments[name] = self._environment(name)
        return self._environments[name]

    def _environment(self, name: str) -> str:
        if name.startswith("inferred-") and name[9:].isdigit():
            return name
        return self._redactor.text(name) if name.startswith("ip:") else self._redactor.stream(name)

    def request(self, request_id: str | None) -> str | None:
        if not request_id:
            return request_id
        return (
            self._redactor.text(request_id)
            if _UUID.fullmatch(request_id)
            else f"request-{self._redactor.tag('request', request_id)}"
        )

    def _id(self, name: str) -> str:
        """`environment/pid/tracer/number`, for transports and calls."""
        slashes = (at for at, c in enumerate(name) if c == "/")
        env = next((name[:at] for at in slashes if name[:at] in self._environments), None)
        rest = name[len(env) :] if env is not None else name
        return (self.env(env) or "") + (rest if _NUMBERED.fullmatch(rest) else f"/{self._redactor.tag('id', rest)}")

    def _end(self, name: str) -> str:
        """One end of a tie: an environment, a transport of one, an address, a connection, an error's place."""
        if name in self._environments:
            return self._environments[name]
        if "/transport/" in name:
            return self._id(name)
        return self._redactor.text(name) if _is_address(name) else self._ref(name)

    def _remote(self, address: str | None) -> str | None:
        """`ip:port` or `name:port`."""
        if not address:
            return address
        told = self._redactor.text(address)
        name, _, port = address.rpartition(":")
        if told != address or _is_address(name):
            return told
        if not name or not _PORT.fullmatch(port):
            return f"h{self._redactor.tag('host', address)}.example"
        return f"h{self._redactor.tag('host', name)}.example:{port}"

    # ---- sources and events

    def _source(self, s: Source) -> Source:
        parts = [(before, f"{s.id}-{n}{_suffix(s)}") for n, (before, _) in enumerate(s.parts, 1)]
        problems = [replace(p, ref=self._ref(p.ref), what=clean(p.what, self._redactor)) for p in s.problems]
        return replace(
            s,
            path=_path(s),
            name="",
            parts=parts,
            problems=problems,
            clocks=[replace(c, how=self._clean(c.how)) for c in s.clocks],
        )

    def _ref(self, ref: str) -> str:
        """A place without the name of the member or file that it is in."""
        return _MEMBER.sub(lambda m: f"m{self._redactor.tag('member', m[0])}", ref)

    def _place(self, place: tuple[str, str] | None) -> tuple[str, str] | None:
        return place and (place[0], self._ref(place[1]))

    def _event(self, e: Event) -> Event:
        if e.layer == "app":
            text = cut(e.text) if e.kind == "line" else clean(body(e.text, self._redactor), self._redactor)
        else:
            text = self._clean(e.text)
        made = replace(
            e, ref=self._ref(e.ref), text=text, environment=self.env(e.environment), request_id=self.request(e.request_id),
            remote=self._remote(e.remote), attrs=self._attrs(e.attrs), also=tuple((s, self._ref(r)) for s, r in e.also),
            transport=e.transport and self._id(e.transport), level=self._word(e.level), pid=self._word(e.pid), tracer=self._word(e.tracer),
            number=self._word(e.number), version=self._word(e.version),
        )  # fmt: skip
        self._texts[made.source, made.ref] = event_text(made)
        return made

    def _attrs(self, attrs: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in attrs.items():
            if name in ("peer", "local") and isinstance(value, str):
                found[name] = self._remote(value)
            elif isinstance(value, str):
                found[name] = self._clean(value)
            elif isinstance(value, list | tuple):
                found[name] = [self._remote(v) if isinstance(v, str) else v for v in value]
            elif not isinstance(value, dict):
                found[name] = value
        return found

    # ---- packets

    def _connections(self, flagged: list[int]) -> Connections:
        cs = self._story.connections
        points = []
        for p, point in enumerate(cs.points):
            data = point.data
            kept = (data.uids, data.kinds, data.segments) if data.complete else cs.kept(p, flagged)
            points.append(Point(self._sources[point.source.id], self._data(data, *kept)))
        made = Connections(points, cs.members, cs.nearness)
        made.listed = cs.listed
        made.environment = {k: self.env(env) or "" for k, env in cs.environment.items()}
        made.environment_tie = {k: self._clean(tie) for k, tie in cs.environment_tie.items()}
        made.transports = {k: [self._id(t) for t in ts] for k, ts in cs.transports.items()}
        return made

    def _data(
        self, data: CaptureData, uids: NDArray[np.int64], kinds: NDArray[np.int64], segments: NDArray[np.int64]
    ) -> CaptureData:
        """A capture's columns with other addresses, and payload of which only our own words are left."""
        texts = {number: text for number, text in ((n, _payload(t)) for n, t in data.texts.items()) if text}
        return replace(
            data, rows=self._moved(data.rows, (f.C_HI, f.S_HI)), segments=self._moved(segments, (col.SRC_HI, col.DST_HI)), uids=uids, kinds=kinds, complete=True,
            texts=texts, dns=[], queries=[], names={}, comments=[], has_secrets=False,
            parts=[(before, f"part-{n}") for n, (before, _) in enumerate(data.parts, 1)],
            paths={number: self._clean(path) for number, path in data.paths.items()},
            problems=[replace(p, ref=self._ref(p.ref), what=self._clean(p.what)) for p in data.problems],
            icmp=[replace(e, sender=self._redactor.text(e.sender), source=self._redactor.text(e.source), target=self._redactor.text(e.target)) for e in data.icmp],
        )  # fmt: skip

    def _moved(self, table: NDArray[np.int64], columns: tuple[int, ...]) -> NDArray[np.int64]:
        """A copy whose pairs of address columns (upper half at these, lower half next to it) hold pseudonyms."""
        found = table.copy()
        for at in columns if len(table) else ():
            distinct, which = np.unique(table[:, [at, at + 1]], axis=0, return_inverse=True)
            found[:, [at, at + 1]] = np.array([self._pair(hi, lo) for hi, lo in distinct.tolist()], np.int64)[
                which.reshape(-1)
            ]
        return found

    def _pair(self, hi: int, lo: int) -> tuple[int, int]:
        return halves(self._redactor.addresses.text(host(hi, lo)))

    # ---- findings

    def _finding(self, x: Finding) -> Finding:
        said = self._clean
        return replace(
            x, title=said(x.title), why=said(x.why), help=said(x.help), upgrade=said(x.upgrade), clock=said(x.clock), ruled_out=[said(r) for r in x.ruled_out],
            transport=x.transport and self._id(x.transport), environment=self.env(x.environment), request_ids=[self.request(r) or "" for r in x.request_ids],
            server=self._remote(x.server), silences=[replace(s, text=said(s.text)) for s in x.silences], evidence=[self._evidence(e) for e in x.evidence],
        )  # fmt: skip

    def _evidence(self, e: Evidence) -> Evidence:
        ref = self._ref(e.ref)
        text = self._texts.get((e.source, ref)) if e.layer in ("app", "grpc", "lambda") else None
        return replace(
            e, ref=ref, text=self._clean(e.text) if text is None else text, note=self._clean(e.note), also=tuple((s, self._ref(r)) for s, r in e.also)
        )  # fmt: skip


def _suffix(s: Source) -> str:
    return "".join(_SUFFIX.findall(s.path.lower())[-2:])


def _path(s: Source) -> str:
    return f"{s.id}{_suffix(s)}"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _payload(text: bytes) -> bytes:
    """What may be kept of a payload: a GOAWAY's code, an alert, an error reply with our own words; nothing of names and requests."""
    if (goaway := http2.goaway(text)) is not None:
        code, said = goaway
        debug = masked(said.encode("ascii", "replace"))
        return (8 + len(debug)).to_bytes(3) + b"\x07" + bytes(9) + code.to_bytes(4) + debug
    if text[:1] == b"\x15":
        return text[:7]
    if text[:1] in (b"-", b"E") or text[4:5] == b"\xff":
        return masked(text)
    return b""
