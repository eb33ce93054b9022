"""Every tie of a trace: those that correlation decided, and what follows from calls and names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from analyzer.model.addresses import host
from analyzer.model.records import Call, Tie, Transport
from analyzer.model.times import MS
from analyzer.tcp import fields as f
from analyzer.timeline.calls import fitting
from analyzer.timeline.names import Names
from analyzer.timeline.story import Story
from analyzer.timeline.subjects import environment_of

#: Names that rival ties list.
LISTED = 5
#: START is stamped, and read, within this of a line that the runtime prints for it.
START_NS = 100 * MS


def all_ties(story: Story) -> Iterator[Tie]:
    """Transports, errors and environments with their connections and addresses; calls; names."""
    yield from story.ties
    yield from _call_ties(story)
    yield from _name_ties(story)


def weak_ties(story: Story, k: int) -> list[Tie]:
    """The ties of connection `k`, or of what is behind it, that are less than likely or have a rival."""
    cs = story.connections
    address = cs.client(k).rpartition(":")[0].strip("[]")
    behind = environment_of(story, k)
    return [
        tie for tie in story.ties
        if (tie.conflicts or tie.confidence == "possible")
        and (tie.right == cs.id(k) or (tie.right == address and behind in (None, tie.left)))
    ]  # fmt: skip


def _call_ties(story: Story) -> Iterator[Tie]:
    by_process: dict[tuple[str | None, str | None], list[Transport]] = defaultdict(list)
    for t in story.transports:
        by_process[t.environment, t.pid].append(t)
    for call in story.calls:
        yield from _transport_of(call, by_process[call.environment, call.pid])
        yield from _invocation_of(story, call)


def _transport_of(call: Call, transports: list[Transport]) -> Iterator[Tie]:
    kind = "call-transport"
    picked = f"to {call.remote}" if call.remote else "of its process"
    if call.subchannel:
        picked = f"of subchannel {call.subchannel}, which it picked, {picked}"
    if call.transport is not None:
        if "/" in call.id.rpartition("/call/")[2]:
            yield Tie(kind, call.id, call.transport, "certain", "the transport's own lines name its stream")
        else:
            sure = "certain" if call.subchannel else "likely"
            yield Tie(kind, call.id, call.transport, sure, f"the only transport {picked} that was open while it ran")
        return
    rivals = [t.id for t in fitting(call, transports)]
    for rank, name in enumerate(rivals[:LISTED], 1):
        why = f"one of {len(rivals)} transports {picked} that were open while it ran: left untied"
        yield Tie(kind, call.id, name, "possible", why, False, rank, [n for n in rivals[:LISTED] if n != name])


def _invocation_of(story: Story, call: Call) -> Iterator[Tie]:
    """The request whose id a call's first line carries, and the one that ran: after a thaw they may differ."""
    kind = "call-invocation"
    running = story.invocation_at(call.environment, call.start_ns, START_NS) if call.start_ns is not None else None
    ran, printed = running.request_id if running is not None else None, call.request_id
    if printed and printed == ran:
        yield Tie(kind, call.id, printed, "certain", "its line carries the id of the request that ran")
    elif printed and ran:
        yield Tie(
            kind, call.id, printed, "possible", "its line carries this id, while another request ran", True, 1, [ran]
        )
        yield Tie(
            kind, call.id, ran, "possible", "it ran then, though the line carries another id", False, 2, [printed]
        )
    elif printed:
        yield Tie(kind, call.id, printed, "likely", "its line carries this id; no invocation is known to have run then")
    elif ran:
        yield Tie(kind, call.id, ran, "likely", "it ran when the call began; the line carries no id", False)


def _name_ties(story: Story) -> Iterator[Tie]:
    """Names with addresses: asked for in a TLS handshake, answered by DNS, noted in the capture."""
    cs = story.connections
    names = Names(cs.points)
    told: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for p, point in enumerate(cs.points):
        for row in point.rows if names else ():
            address = host(int(row[f.S_HI]), int(row[f.S_LO]))
            for name in names.asked(p, int(row[f.UID])):
                told[name, address]["TLS handshake"] += 1
    for name, address, how in names.known():
        told[name, address][how] += 1
    names_of: dict[str, list[str]] = defaultdict(list)
    for name, address in sorted(told):
        names_of[address].append(name)
    for (name, address), hows in sorted(told.items()):
        why = ", ".join(f"{count} {how}{'s' if count > 1 else ''}" for how, count in sorted(hows.items()))
        others = [other for other in names_of[address] if other != name][:LISTED]
        yield Tie(
            "name-address", name, address, "likely" if set(hows) == {"note"} else "certain", why, conflicts=others
        )
