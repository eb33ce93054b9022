"""A finding: what a rule says of one connection, environment or server, with its proof."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from msgspec import Struct

from analyzer.model.markup import element, frame, line, table
from analyzer.model.times import MS, SECOND, stamp

#: A silence is told before the evidence that ends it, whose own stamp may be this much earlier.
ENDS_WITHIN_NS = 100 * MS


class Severity(IntEnum):
    """info < warning (will fail, or costs) < error (requests failed)."""

    INFO = 0
    WARNING = 1
    ERROR = 2

    @property
    def word(self) -> str:
        """As people write it."""
        return self.name.lower()


class Confidence(IntEnum):
    """possible < likely (one rival left) < certain (no rival survives the evidence)."""

    POSSIBLE = 0
    LIKELY = 1
    CERTAIN = 2

    @property
    def word(self) -> str:
        """As people write it."""
        return self.name.lower()


class Evidence(Struct, frozen=True):
    """One line of proof. `time_ns` is aligned, `source_ns` the raw stamp; `primary` marks the line that is the finding.

    `unproven`: the clocks do not prove that it came after the line above, which is of another source.
    """

    source: str
    ref: str
    layer: str
    time_ns: int
    source_ns: int | None
    text: str
    note: str = ""
    primary: bool = False
    also: tuple[tuple[str, str], ...] = ()
    unproven: bool = False


class Silence(Struct, frozen=True):
    """A stretch that the timeline draws because nothing happened in it."""

    start_ns: int
    end_ns: int
    text: str


class Finding(Struct):
    """See DESIGN: one a connection and rule, or one an environment or server where the rule is about those."""

    rule: str
    name: str
    severity: Severity
    confidence: Confidence
    title: str
    time_ns: int
    evidence: list[Evidence]
    why: str
    connection: str | None = None
    connections: list[str] = []
    transport: str | None = None
    environment: str | None = None
    request_ids: list[str] = []
    caused_by: list[str] = []
    silences: list[Silence] = []
    ruled_out: list[str] = []
    help: str = ""
    upgrade: str = ""
    clock: str = ""
    id: str = ""
    server: str | None = None  # the one server that it is about, where there is one
    lost_ns: int = 0  # how long requests waited for nothing because of it

    def _repr_html_(self) -> str:
        """For a notebook: the headline, the proof (places as `Trace.packet` takes them), the reasoning, what to change."""
        zero = self.evidence[0].time_ns if self.evidence else self.time_ns
        rows = [
            (
                "▸" if e.primary else "", f"{'~' * e.unproven}{(e.time_ns - zero) / SECOND:.6f}", e.layer, element("code", f"{e.source}{e.ref}"),
                e.text, element("i", e.note),
            )
            for e in self.evidence
        ]  # fmt: skip
        about = [self.id, self.connection, self.environment, *self.request_ids[:2], stamp(self.time_ns)]
        notes = [
            ("why", self.why),
            ("ruled out", "; ".join(self.ruled_out)),
            ("clock", self.clock),
            ("help", self.help),
        ]
        notes += [("would settle it", self.upgrade), ("caused by", ", ".join(self.caused_by))]
        notes.append(("confidence", self.confidence.word))
        return frame(
            line(element("b", f"{self.severity.word}[{self.rule}] {self.title}")),
            line(" · ".join(part for part in about if part), dim=True),
            table(("", "s", "", "place", "", ""), rows),
            *(line(element("b", name), ": ", text) for name, text in notes if text),
        )

    @property
    def silence_ns(self) -> int:
        """The longest silence that it draws."""
        return max((s.end_ns - s.start_ns for s in self.silences), default=0)

    def told(self) -> Iterator[Evidence | Silence]:
        """The evidence in its order, each silence before what ended it."""
        silences = sorted(self.silences, key=lambda s: s.start_ns)
        for e in self.evidence:
            while silences and e.time_ns >= silences[0].end_ns - ENDS_WITHIN_NS:
                yield silences.pop(0)
            yield e
