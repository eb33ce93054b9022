"""The connections that matter, as lines for a person."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from analyzer.model.problems import InputError
from analyzer.model.times import seconds
from analyzer.report.escape import clip, count, terminal
from analyzer.report.wrapping import wrap
from analyzer.tcp import fields as f
from analyzer.tcp import signs
from analyzer.timeline.points import CLIENT, SERVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from analyzer.model.findings import Finding
    from analyzer.report.style import Style
    from analyzer.timeline.points import Connections
    from analyzer.timeline.story import Story

#: Connections shown in a summary; `--all` shows the rest.
SHOWN = 12
#: Of those without findings, how many are looked through for it.
LOOKED_THROUGH = 10_000


def _sent(rows: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    sent: NDArray[np.int64] = rows[:, side + f.NXT] - rows[:, side + f.START]
    return sent


#: What `--sort` takes: from a point's rows to a number, the largest first.
SORTS: dict[str, Callable[[NDArray[np.int64]], NDArray[np.int64]]] = {
    "packets": lambda rows: rows[:, CLIENT + f.PKTS] + rows[:, SERVER + f.PKTS],
    "bytes": lambda rows: _sent(rows, CLIENT) + _sent(rows, SERVER),
    "duration": lambda rows: rows[:, f.LAST_TS] - rows[:, f.FIRST_TS],
    "idle": lambda rows: rows[:, f.IDLE_NS],
    "retransmits": lambda rows: rows[:, CLIENT + f.RETX] + rows[:, SERVER + f.RETX],
}
#: Lines of what all captures hold.
TOTALS = 3
#: Eighths, and how many parts of the time a connection's activity is drawn in.
BARS, PARTS = " ▁▂▃▄▅▆▇█", 16


def section(
    story: Story,
    findings: list[Finding],
    style: Style,
    everything: bool = False,
    sort: str | None = None,
    limit: int | None = None,
) -> str:
    """Connections with findings first, then the others in order, or those with most of what `sort` names first.

    Beside each stands its activity over the time of all that are shown, where the packets are at hand. Raises `InputError` for an
    unknown `sort`.
    """
    cs = story.connections
    flagged: dict[str, list[str]] = {}
    for item in findings:
        for c in item.connections:
            if item.rule not in flagged.setdefault(c, []):
                flagged[c].append(item.rule)
    listed = cs.in_view()
    if sort is not None:
        order = iter(by(cs, listed, sort).tolist())
    else:
        first = {int(c[1:]) - 1 for c in flagged}
        order = chain(sorted(first), (k for k in map(int, listed) if k not in first))
    shown = list(islice(order, limit if limit is not None or everything else SHOWN))
    lines = [style.paint(f"connections ({len(listed):,})", "bold")]
    sparks = _activity(cs, shown)
    table = [_row(story, k, flagged.get(cs.id(k), [])) for k in shown]
    widths = [max(len(r[c]) for r in table) for c in range(4)] if table else [0] * 4
    for k, r in zip(shown, table, strict=True):
        left = "  " + "  ".join(f"{cell:<{w}}" for cell, w in zip(r[:4], widths, strict=True))
        activity = f"▕{sparks[k]}▏ " if k in sparks else ""
        if len(left) + 2 + len(activity) + len(r[4]) <= style.width:
            lines.append(f"{left}  {activity}{r[4]}")
            continue
        below = f"      {activity}{r[4]}"
        lines.append(clip(left.rstrip(), style.width))
        lines += wrap(
            below if len(below) <= style.width else f"      {r[4]}", style.width, subsequent_indent="        "
        )
    if len(listed) > len(shown):
        lines.append(f"  … {len(listed) - len(shown):,} more (`--all` shows them)")
    lines += wrap(f"  {_totals(story)}", style.width, subsequent_indent="    ", max_lines=TOTALS, placeholder=" …")
    return "\n".join(lines)


def by(cs: Connections, ks: NDArray[np.int64], sort: str) -> NDArray[np.int64]:
    """These connections, those with most of it first; raises `InputError` for what cannot be sorted by."""
    if sort not in SORTS:
        raise InputError(f"--sort {sort!r}: one of {', '.join(SORTS)}, or a column of the table with --format csv")
    most = np.zeros(len(cs), np.int64)
    for p, point in enumerate(cs.points):
        at = cs.members[:, p]
        here = at >= 0
        if here.any():
            most[here] = np.maximum(most[here], SORTS[sort](point.rows)[at[here]])
    return ks[np.argsort(-most[ks], kind="stable")]


def _activity(cs: Connections, ks: list[int]) -> dict[int, str]:
    """Packets over the time of all of these; nothing where a capture would have to be read again for it."""
    if not ks or len(ks) > LOOKED_THROUGH or not all(point.data.complete for point in cs.points):
        return {}
    times = {k: np.array([s.time_ns for s in cs.segments(k)], np.int64) for k in ks}
    times = {k: t for k, t in times.items() if len(t)}
    if not times:
        return {}
    first, last = min(int(t.min()) for t in times.values()), max(int(t.max()) for t in times.values())
    width = (last - first) // PARTS + 1
    return {k: spark(np.bincount((t - first) // width, minlength=PARTS)) for k, t in times.items()}


def spark(counts: NDArray[np.int64]) -> str:
    """Counts as bars; what is not zero is seen."""
    most = max(int(counts.max()), 1)
    return "".join(BARS[-(-int(n) * (len(BARS) - 1) // most)] for n in counts)


def _row(story: Story, k: int, rules: list[str]) -> tuple[str, str, str, str, str]:
    cs = story.connections
    r = cs.record(k)
    end = r.ended_by or "open"
    detail = (
        f"{r.a.state} / {r.b.state}, {count(r.a.packets + r.b.packets, 'packet')} in {seconds(r.last_ns - r.first_ns)}"
    )
    retransmits = r.a.retransmits + r.b.retransmits
    detail += f", {retransmits:,} retransmitted" if retransmits else ""
    return (
        cs.id(k),
        f"{cs.client(k)} → {cs.server(k)}",
        f"{r.conn_state}",
        f"{end}",
        (f"[{' '.join(rules)}] " if rules else "") + detail,
    )


def _totals(story: Story) -> str:
    parts = []
    for point in story.connections.points:
        rows = point.rows
        if not len(rows):
            continue
        packets = int(rows[:, [CLIENT + f.PKTS, SERVER + f.PKTS]].sum())
        repeated = np.flatnonzero(point.signs & signs.REPEATED)[:, None]
        again = int(rows[repeated, [CLIENT + f.RETX, SERVER + f.RETX]].sum())
        # Signs of resets go by their times, which captures without stamps have none of.
        resets = int(np.count_nonzero(rows[:, [CLIENT + f.RSTS, SERVER + f.RSTS]].any(axis=1)))
        parts.append(
            f"{point.source.label}: {count(packets, 'segment')}, {again:,} retransmitted, {count(resets, 'connection')} reset"
        )
    return terminal("; ".join(parts))
