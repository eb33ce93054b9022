"""One connection of a trace, as an object: `trace.connection("C7")`."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from analyzer.model.tables import TABLES, frame, frame_of
from analyzer.report.document import connection
from analyzer.tcp.states import STATES
from analyzer.timeline.endpoints import states
from analyzer.timeline.whereabouts import fates

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analyzer.model.findings import Finding
    from analyzer.timeline.timelines import Time
    from analyzer.trace import Trace


class Connection:
    """One connection. Every column of the connections table is an attribute: `id`, `client`, `server`, `opened`, `conn_state` …

    It is a view of its trace and holds nothing of its own.
    """

    def __init__(self, trace: Trace, k: int) -> None:
        self._trace, self._k = trace, k

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and any(column.name == name for column in TABLES["connections"]):
            return self.row[name]
        raise AttributeError(f"a connection has no {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(column.name for column in TABLES["connections"])]

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.client} → {self.server}: {self.client_state} / {self.server_state}>"

    def _repr_html_(self) -> str:
        from analyzer.report.notebook import connection_html

        return connection_html(self)

    @cached_property
    def row(self) -> pd.Series[Any]:
        """Its row of the connections table."""
        cs = self._trace.story.connections
        records = {p: cs.record(self._k, p) for p in cs.seen_at(self._k)}
        return frame("connections", [connection(self._trace.story, self._k, records)]).iloc[0]

    @property
    def findings(self) -> list[Finding]:
        """The findings about it, by time."""
        return [f for f in self._trace.findings if self.id in (f.connection, *f.connections)]

    @property
    def states(self) -> pd.DataFrame:
        """When an endpoint changed its state, as far as packets prove it: `time` (datetime64[ns, UTC]), `client_state`,
        `server_state` (str, RFC 9293). Empty where no packets were kept."""
        cs = self._trace.story.connections
        segments = cs.segments(self._k)
        series = states(segments, fates(cs, self._k))
        changed = [now for n, now in enumerate(series) if not n or now[1:] != series[n - 1][1:]]
        columns: dict[str, list[Any]] = {column.name: [None] * len(changed) for column in TABLES["events"]}
        columns["time"] = [t for t, _, _ in changed]
        columns["client_state"] = [STATES[a] for _, a, _ in changed]
        columns["server_state"] = [STATES[b] for _, _, b in changed]
        return frame_of("events", columns)[["time", "client_state", "server_state"]]

    def timeline(
        self,
        *,
        since: Time | None = None,
        until: Time | None = None,
        around: str | int | None = None,
        at: Time | None = None,
    ) -> pd.DataFrame:
        """Everything about it from every source, as `Trace.timeline` gives it."""
        return self._trace.timeline(self.id, since=since, until=until, around=around, at=at)

    def plot(self, **how: Any) -> Figure:
        """Its picture, as `analyzer.plot.timeline` draws it and with the same options."""
        from analyzer.plot import timeline

        return timeline(self._trace, self.id, **how)
