"""A narrower view of a story: a stretch of time, an environment, a request.

The view is cut after everything is correlated and examined, so that a freeze that began before it, or a close that another
request saw, still explains what lies inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from analyzer.model.events import Event
from analyzer.model.findings import Finding
from analyzer.model.records import Invocation
from analyzer.timeline.story import Story


@dataclass(frozen=True, slots=True)
class View:
    """What to keep. Times are aligned ns; `environment` is a part of its id, `request_id` the beginning of an id."""

    since_ns: int | None = None
    until_ns: int | None = None
    environment: str | None = None
    request_id: str | None = None

    def __bool__(self) -> bool:
        return self != View()

    def covers(self, first_ns: int, last_ns: int | None = None) -> bool:
        """Whether [first, last] reaches into the stretch of time; an open end does."""
        if self.until_ns is not None and first_ns > self.until_ns:
            return False
        return self.since_ns is None or last_ns is None or last_ns >= self.since_ns

    def names(self, environment: str | None) -> bool:
        """Whether an environment is wanted."""
        return self.environment is None or (environment is not None and self.environment in environment)

    def asks(self, request_ids: Iterable[str | None]) -> bool:
        """Whether one of these requests is wanted."""
        wanted = self.request_id
        return wanted is None or any(r is not None and r.startswith(wanted) for r in request_ids)


def narrowed(story: Story, findings: list[Finding], view: View) -> tuple[Story, list[Finding]]:
    """The story and the findings inside a view. Connections stay: rows of captures are chosen by their own options."""
    invocations = [i for i in story.invocations if _invocation(i, view)]
    kept = {(i.environment, i.request_id) for i in invocations}
    events = [e for e in story.events if _event(e, view)]
    environments = {e.environment for e in events} | {i.environment for i in invocations}
    transports = [t for t in story.transports if t.environment is None or t.environment in environments]
    names = {t.id for t in transports}
    return (
        replace(
            story,
            events=events,
            invocations=invocations,
            environments=[e for e in story.environments if e.id in environments],
            freezes=[
                z for z in story.freezes
                if view.names(z.environment) and view.covers(z.start_ns, z.end_ns)
                and (view.request_id is None or {(z.environment, z.before), (z.environment, z.after)} & kept)
            ],
            transports=transports,
            pings=[p for p in story.pings if p.transport in names and view.covers(p.sent_ns, p.sent_ns)],
            calls=[
                c for c in story.calls
                if view.names(c.environment) and view.asks([c.request_id])
                and (c.start_ns is None or view.covers(c.start_ns, c.end_ns))
            ],
        ),
        [f for f in findings if _finding(f, view)],
    )  # fmt: skip


def _event(e: Event, view: View) -> bool:
    return view.covers(e.time_ns, e.time_ns) and view.names(e.environment) and view.asks([e.request_id])


def _invocation(i: Invocation, view: View) -> bool:
    return view.covers(i.start_ns, i.end_ns) and view.names(i.environment) and view.asks([i.request_id])


def _finding(f: Finding, view: View) -> bool:
    times = [e.time_ns for e in f.evidence] or [f.time_ns]
    return (
        view.covers(min(times), max(times))
        and (f.environment is None or view.names(f.environment))
        and (not f.request_ids or view.asks(f.request_ids))
    )
