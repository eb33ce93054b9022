"""Environments, invocations and freezes from platform lines; environments inferred where the export lost the stream."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

from analyzer.model.events import Event
from analyzer.model.records import Environment, Freeze, Invocation
from analyzer.model.times import MS
from analyzer.timeline.joined import Joined

#: The gap between REPORT and the next START from which on the environment is taken to have been frozen. Back-to-back
#: invocations of a busy function follow within a few ms.
MIN_FREEZE_NS = 10 * MS
#: START is stamped up to 91 ms before the guest runs again (measured); REPORT by a few ms after it stopped.
FREEZE_ERROR_NS = 100 * MS

#: After an invocation that ended so, the process is gone: what follows is no thaw of it.
ENDED = frozenset(("timeout", "crash"))

#: Error types of REPORT after which the process is gone (seen in public logs).
PROCESS_GONE = frozenset(("Runtime.ExitError", "Runtime.OutOfMemory", "Runtime.Unknown"))
#: The initialization type of environments that run all the time, many invocations at once.
MANAGED = "lambda-managed-instances"

#: With these a new process begins, of a snapshot or of the code.
BEGINS = frozenset(("init-start", "restore-start"))
#: After these a new process runs: sockets of the one before are gone.
EPOCH_ENDS = BEGINS | {"timeout", "crash"}
#: What tells how an invocation goes on, and what tells of invocations at all.
_AFTER_START = frozenset(("end", "report", "runtime-done", "timeout", "crash"))
_OF_INVOCATIONS = BEGINS | {"start"} | _AFTER_START


def infer_environments(events: list[Event]) -> None:
    """Give events without a stream an environment: by request id of a known one, by pid, else by nesting of START/REPORT."""
    lost = [e for e in events if e.environment is None]
    if not lost:
        return
    by_request = {e.request_id: e.environment for e in events if e.request_id and e.environment}
    by_pid: dict[str, set[str]] = defaultdict(set)
    for e in events:
        if e.environment and e.pid:
            by_pid[e.pid].add(e.environment)
    rest: dict[str, list[Event]] = defaultdict(list)
    for e in lost:
        known = by_request.get(e.request_id) if e.request_id else None
        if known is None and e.pid and len(by_pid.get(e.pid, ())) == 1:
            (known,) = by_pid[e.pid]
        if known is not None:
            e.environment = known
        else:
            rest[e.source].append(e)
    count = 0
    for log in _parts_joined(rest):
        count = _by_nesting(log, count)


def _parts_joined(rest: dict[str, list[Event]]) -> list[list[Event]]:
    """The lines of each log without streams, in order: inputs that share a line or a request are pages of one, or overlap."""
    parts = Joined()
    seen: dict[str, str] = {}
    for source in sorted(rest):
        for e in rest[source]:
            others = [other for other, _ in e.also if other in rest]
            if e.request_id:
                others.append(seen.setdefault(e.request_id, source))
            for other in others:
                parts.join(other, source)
    logs: dict[str, list[Event]] = defaultdict(list)
    for source in sorted(rest):
        logs[parts.root(source)] += rest[source]
    return [_by_stamps(events) for events in logs.values()]


def _by_stamps(events: list[Event]) -> list[Event]:
    """Lines of several inputs in the order of the service's stamps; those without one stay behind the line before them."""
    last, keys = 0, []
    for e in events:
        last = e.event_ns if e.event_ns is not None else last
        keys.append(last)
    return [events[k] for k in sorted(range(len(keys)), key=keys.__getitem__)]


def _by_nesting(events: list[Event], count: int) -> int:
    """One log's lines, in order, to environments; returns how many there are now."""
    platform = any(e.layer == "lambda" for e in events)
    alone = not platform and len({e.pid for e in events if e.pid}) <= 1  # one process, or nothing that tells two apart
    nesting = _Nesting(events, count, platform)
    # Managed instances run many invocations at a time in one environment: nesting tells nothing.
    only = nesting.fresh() if alone or any(map(_is_managed, events)) else None
    for e in events:
        e.environment = only or nesting.environment(e)
    return nesting.count


class _Nesting:
    """A START while another invocation runs, a second INIT_START, or another process id, is another environment."""

    def __init__(self, events: list[Event], count: int, platform: bool) -> None:
        self.count = count
        self._platform = platform
        self._running: dict[str, str] = {}  # environment → request id
        self._idle: list[str] = []
        self._of_request: dict[str, str] = {}
        self._of_pid: dict[str, str] = {}
        self._current: str | None = None
        #: Process ids tell environments apart only where there are several (in Lambda they are often equal).
        self._told = len({e.pid for e in events if e.pid}) > 1
        self._pid_of: dict[str, str] = {}
        if self._told:
            for e in events:
                if e.pid and e.request_id:
                    self._pid_of.setdefault(e.request_id, e.pid)

    def fresh(self) -> str:
        """A new environment's name."""
        self.count += 1
        return f"inferred-{self.count}"

    def environment(self, e: Event) -> str:
        """The environment of the next line."""
        current = self._current = self._next(e)
        if self._told and e.pid:
            self._of_pid.setdefault(e.pid, current)
        return current

    def _next(self, e: Event) -> str:
        if e.kind in BEGINS:
            return self._waiting(self.fresh())
        if e.kind == "start" and e.request_id:
            return self._start(e.request_id)
        if self._told and e.pid in self._of_pid:
            return self._of_pid[e.pid or ""]
        if e.request_id in self._of_request:
            current = self._of_request[e.request_id or ""]
            if e.kind == "report" and current in self._running:
                del self._running[current]
                self._waiting(current)
            return current
        if e.pid and not self._platform:
            return self.fresh()
        return self._current or self._waiting(self.fresh())

    def _waiting(self, environment: str) -> str:
        self._idle.append(environment)
        return environment

    def _start(self, request_id: str) -> str:
        """The environment that takes an invocation: its process's, else one that waits and whose process is no other's."""
        pid = self._pid_of.get(request_id)
        found = self._of_pid.get(pid) if pid else None
        if found is None or found in self._running:
            others = set(self._of_pid.values()) if pid else ()
            free = [name for name in self._idle if name not in others]
            found = free[-1] if free else self.fresh()
        if found in self._idle:
            self._idle.remove(found)
        if pid:
            self._of_pid.setdefault(pid, found)
        self._running[found], self._of_request[request_id] = request_id, found
        return found


def invocations_of(events: list[Event]) -> list[Invocation]:
    """START … REPORT per environment, keyed by (environment, request id, ordinal); expects aligned events in time order."""
    found: list[Invocation] = []
    ordinals: dict[tuple[str, str], int] = defaultdict(int)
    open_: dict[tuple[str, str], Invocation] = {}
    cold: set[str] = set()
    for e in [e for e in events if e.kind in _OF_INVOCATIONS]:
        environment = e.environment or ""
        if e.kind in BEGINS:
            if e.attrs.get("initialization") != "provisioned-concurrency":
                cold.add(environment)
        elif e.kind == "start" and e.request_id:
            key = (environment, e.request_id)
            ordinals[key] += 1
            invocation = Invocation(
                environment,
                e.request_id,
                ordinals[key],
                e.time_ns,
                cold_start=environment in cold,
                start_ref=(e.source, e.ref),
                inferred="stamp" in e.attrs,
                error_ns=e.error_ns,
            )
            cold.discard(environment)
            open_[key] = invocation
            found.append(invocation)
        elif e.kind in _AFTER_START and e.request_id:
            current = open_.get((environment, e.request_id))
            if current is not None:
                _close(current, e)
    for number, invocation in enumerate(found):
        if invocation.end_ns is not None and invocation.status == "unknown":
            found[number].status = "success"
    return found


def _close(invocation: Invocation, e: Event) -> None:
    if e.kind == "timeout":
        invocation.status = "timeout"
    elif e.kind == "crash":
        invocation.status = "crash"
    elif e.kind in ("report", "runtime-done"):
        if invocation.status in ("unknown", "error"):
            invocation.status = _status(e, invocation.status)
        if e.kind == "report":
            invocation.duration_ns = e.attrs.get("duration_ns")
            invocation.cold_start = invocation.cold_start or "init_ns" in e.attrs
    if e.kind in ("end", "report"):
        invocation.error_ns = max(invocation.error_ns, e.error_ns)
        invocation.end_ns = max(invocation.end_ns or 0, e.time_ns)
        invocation.end_ref = (e.source, e.ref)


def _status(e: Event, before: str) -> str:
    """How a REPORT or platform.runtimeDone says that the invocation ended; as before where it says nothing."""
    if str(e.attrs.get("error_type")) in PROCESS_GONE:
        return "crash"
    return {"timeout": "timeout", "error": "error", "failure": "error"}.get(str(e.attrs.get("status")), before)


def mark_errors(invocations: list[Invocation], events: list[Event]) -> None:
    """An invocation whose runtime printed `Invoke Error` failed, though its REPORT need not say so."""
    failed: set[tuple[str, str | None]] = set()
    running: dict[str, str | None] = {}  # some runtimes print no id with an unhandled error
    for e in [e for e in events if e.kind == "start" or (e.layer != "lambda" and "invoke_error" in e.attrs)]:
        if e.environment is None:
            continue
        if e.kind == "start":
            running[e.environment] = e.request_id
        else:
            failed.add((e.environment, e.request_id or running.get(e.environment)))
    for invocation in invocations:
        if (invocation.environment, invocation.request_id) in failed and invocation.status in ("unknown", "success"):
            invocation.status = "error"


def freezes_of(invocations: list[Invocation], events: list[Event], concurrent: set[str]) -> list[Freeze]:
    """The gaps between invocations of one environment; none where invocations overlap (no freeze between those), nor where a new
    process began in between: what follows is no thaw of the one before."""
    signs: dict[str, list[int]] = defaultdict(list)
    begun: dict[str, list[int]] = defaultdict(list)
    for e in events:
        if e.environment and e.layer in ("app", "grpc"):
            signs[e.environment].append(e.time_ns)
        elif e.environment and e.kind in BEGINS:
            begun[e.environment].append(e.time_ns)
    by_environment: dict[str, list[Invocation]] = defaultdict(list)
    for invocation in invocations:
        by_environment[invocation.environment].append(invocation)
    found = []
    for environment, sequence in by_environment.items():
        if environment in concurrent:
            continue
        for before, after in pairwise(sequence):
            if before.end_ns is None or after.start_ns - before.end_ns < MIN_FREEZE_NS:
                continue
            part = _silent_part(before.end_ns, after.start_ns, signs[environment])
            if part is None or part[1] - part[0] < MIN_FREEZE_NS or before.status in ENDED:
                continue
            if bisect_right(begun[environment], after.start_ns) > bisect_right(begun[environment], before.end_ns):
                continue
            found.append(_freeze(environment, *part, before, after))
    return sorted(found, key=lambda z: (z.start_ns, z.environment))


def _freeze(environment: str, start: int, end: int, before: Invocation, after: Invocation) -> Freeze:
    """A freeze between two invocations; where their lines carry no stamp of their own, the bounds are the neighbours'."""
    source = "neighbours" if before.inferred or after.inferred else "platform"
    error = FREEZE_ERROR_NS + max(before.error_ns, after.error_ns)
    return Freeze(environment, start, end, error, source, before.request_id, after.request_id)


def _silent_part(start: int, end: int, signs: list[int]) -> tuple[int, int] | None:
    """The longest stretch of [start, end] without a line of the guest, None where its lines fill most of it.

    A guest that logs between REPORT and START was running: after its response for a moment, before START was stamped, or all
    the time (extensions, streaming).
    """
    inside = signs[bisect_right(signs, start) : bisect_left(signs, end)]
    first, last = max(pairwise([start, *inside, end]), key=lambda piece: piece[1] - piece[0])
    return (first, last) if 2 * (last - first) >= end - start else None


def _is_managed(e: Event) -> bool:
    """Whether a platform event tells of Lambda Managed Instances, which always run."""
    return e.layer == "lambda" and ("managed" in e.attrs or e.attrs.get("initialization") == MANAGED)


def concurrent_environments(invocations: list[Invocation], events: Iterable[Event] = ()) -> set[str]:
    """Environments that are never frozen: managed instances by their own word, others in which invocations overlap."""
    ends: dict[str, int] = {}
    found = {e.environment for e in events if e.layer == "lambda" and e.attrs and e.environment and _is_managed(e)}
    for invocation in invocations:
        end = invocation.end_ns if invocation.end_ns is not None else invocation.start_ns
        if invocation.start_ns < ends.get(invocation.environment, 0):
            found.add(invocation.environment)
        ends[invocation.environment] = max(ends.get(invocation.environment, 0), end)
    return found


def environments_of(events: list[Event], invocations: list[Invocation]) -> list[Environment]:
    """Every environment that any line names or implies; events in time order."""
    first = {e.environment: e.time_ns for e in reversed(events)}
    last = {e.environment: e.time_ns for e in events}
    group = {e.environment: e.attrs["log_group"] for e in events if "log_group" in e.attrs}
    count = Counter(i.environment for i in invocations)
    found = [
        Environment(
            name, group.get(name), first[name], last[name], count[name], inferred=name.startswith("inferred-")
        )
        for name in first if name is not None
    ]  # fmt: skip
    return sorted(found, key=lambda env: (env.first_ns or 0, env.id))
