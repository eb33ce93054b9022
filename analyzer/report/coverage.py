"""What could not be seen from these inputs: the worth of a report that finds nothing, and of one that finds something."""

from __future__ import annotations

from analyzer.capture import columns as col
from analyzer.tcp import fields as f
from analyzer.timeline.story import Story


def unseen(story: Story) -> list[str]:
    """A sentence each, the heaviest first."""
    found = []
    if not story.connections.points:
        found.append("no capture: what only packets prove (closes, resets, drops) could not be looked for")
    if not story.events and story.connections.points:
        found.append("no log: what the application saw, and when it was frozen, is unknown")
    elif not story.invocations:
        found.append("no platform lines: freezes are unknown")
    if _speaks_grpc(story) and not story.transports:
        found.append("no gRPC trace: pings and calls are not seen from inside")
    if sealed := _in_tls(story):
        found.append(
            f"{sealed:,} connection{'s' if sealed > 1 else ''} in TLS: frames and errors inside are not seen without keys (--keylog)"
        )
    if any(s.records and not s.clocks for s in story.sources):
        found.append(
            "lines without time stamps cannot be placed: give the export that stamps them (CloudWatch, docker)"
        )
    return found


def _marked(story: Story, marks: int) -> int:
    """Connections of the fullest capture that show any of these markers."""
    counts = [
        int(((point.rows[:, f.MARKS_SEEN] & marks) != 0).sum()) for point in story.connections.points if len(point.rows)
    ]
    return max(counts, default=0)


def _in_tls(story: Story) -> int:
    return _marked(story, col.M_TLS)


def _speaks_grpc(story: Story) -> bool:
    """Whether gRPC is used, as far as the log's errors or frames in the clear tell."""
    named = any("grpc" in str(e.attrs.get("library", "")) for e in story.events if e.kind == "error")
    return named or _marked(story, col.M_H2) > 0
