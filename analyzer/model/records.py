"""The nouns of a trace: sources, environments, invocations, freezes, transports, pings, calls."""

from __future__ import annotations

from bisect import bisect_left

from msgspec import Struct

from analyzer.model.clocks import Clock
from analyzer.model.problems import Problem


class Source(Struct):
    """One input as read."""

    id: str
    path: str
    kind: str
    format: str
    records: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    clocks: list[Clock] = []
    problems: list[Problem] = []
    #: The files of a ring buffer: (records before it, its name); empty for a single file.
    parts: list[tuple[int, str]] = []
    #: What tells it apart from other files of the same name; empty where its own name does.
    name: str = ""

    def packet_ref(self, number: int) -> str:
        """Where packet `number` is: `#17`, in a ring buffer `trace.pcap2#17`, counted as Wireshark counts that file."""
        at = bisect_left(self.parts, (number, "")) - 1
        return f"{self.parts[at][1]}#{number - self.parts[at][0]}" if at >= 0 else f"#{number}"

    def at(self, ref: str) -> str:
        """A place in this source for a gutter: `fn.log:12`, `server.pcap#17`, `trace.pcap2#17` of a ring buffer."""
        return ref if self.parts else f"{self.label}{ref}"

    @property
    def label(self) -> str:
        """The file's own name, for a gutter, with as many folders as tell it apart."""
        if self.name:
            return self.name
        if self.path == "-":
            return "stdin"
        return self.path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


class Environment(Struct):
    """An execution environment (CloudWatch log stream), or what stands for one where the export lost it."""

    id: str
    log_group: str | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    invocations: int = 0
    inferred: bool = False
    addresses: set[str] = set()
    concurrent: bool = False
    frame: int = 0  # of the clocks of its lines


class Invocation(Struct):
    """One START … REPORT. Times are aligned; `end_ns` None while unfinished."""

    environment: str
    request_id: str
    ordinal: int
    start_ns: int
    end_ns: int | None = None
    duration_ns: int | None = None
    status: str = "unknown"
    cold_start: bool = False
    start_ref: tuple[str, str] | None = None
    end_ref: tuple[str, str] | None = None
    inferred: bool = False  # its platform lines carried no stamp
    error_ns: int = 0  # of its start and end, beside its environment's clock


class Freeze(Struct):
    """From the last sign of life of one invocation to the first of the next. `error_ns` bounds each end."""

    environment: str
    start_ns: int
    end_ns: int
    error_ns: int
    source: str
    before: str = ""
    after: str = ""

    @property
    def length_ns(self) -> int:
        """How long it lasted."""
        return self.end_ns - self.start_ns

    def overlap(self, start: int, end: int) -> int:
        """Nanoseconds of [start, end] that lie inside."""
        return max(0, min(end, self.end_ns) - max(start, self.start_ns))


class Transport(Struct):
    """gRPC's view of one connection."""

    id: str
    environment: str | None
    pid: str | None
    number: str
    dialect: str
    version: str | None
    remote: str | None
    opened_ns: int | None = None
    closed_ns: int | None = None
    closed_by: str | None = None
    connection: str | None = None
    tie: str = ""
    keepalive_ms: int | None = None
    cause: int | None = None  # the event that tells why it ended
    local: str | None = None  # the client's own ip:port, which few dialects print
    subchannel: str | None = None  # its number, where lines name it


class Ping(Struct):
    """One keepalive ping of a transport; events are indices into the trace's event list."""

    transport: str
    sent_ns: int
    sent: int
    timeout_ms: int | None = None
    acked_ns: int | None = None
    acked: int | None = None
    timed_out_ns: int | None = None
    timed_out: int | None = None
    late_ack: int | None = None
    cancelled: int | None = None
    bandwidth: bool = False  # sent to measure the bandwidth-delay product, not to keep alive
    resolution_ns: int = 0  # what its stamps were cut to
    running_ns: int | None = None


class Call(Struct):
    """One RPC."""

    id: str
    environment: str | None
    pid: str | None
    request_id: str | None
    method: str | None
    start_ns: int | None = None
    end_ns: int | None = None
    status: int | None = None
    details: str | None = None
    remote: str | None = None
    transport: str | None = None
    deadline_ns: int | None = None
    answered: bool = False  # the status is the server's own
    subchannel: str | None = None  # the number of the one that it picked, where lines name it


class Tie(Struct):
    """Two names that may stand for one thing, or belong together, and what says so.

    `used`: the trace goes by it. What fits as well is kept: among the rivals for one name, `rank` 1 fits best, and `conflicts`
    lists the others' names.
    """

    kind: str
    left: str
    right: str
    confidence: str
    evidence: str
    used: bool = True
    rank: int = 1
    conflicts: list[str] = []
    refs: list[str] = []


class Examined(Struct):
    """What findings were looked for with: the rules that are told, from which confidence on, the thresholds that were changed
    (by `K101.overshoot_ms`, in their own units), and how many findings of other rules or less confidence were left out."""

    rules: list[str]
    min_confidence: str = "possible"
    thresholds: dict[str, float] = {}
    left_out: int = 0
