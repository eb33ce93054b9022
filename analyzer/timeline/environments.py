"""Environments, invocations and freezes from platform lines; environments inferred where the export lost the stream."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

from analyzer.model.events import Event
from analyzer.model.records import Environment, Freeze, Invocation
from analyzer.model.times import MS, SECOND
from analyzer.timeline.joined import Joined

#: The gap between REPORT and the next START from which on the environment is taken to have been frozen. Back-to-back
#: invocations of a busy function follow within a few ms.
MIN_FREEZE_NS = 10 * MS
#: START is stamped up to 91 ms before the guest runs again (measured); REPORT by a few ms after it stopped.
FREEZE_ERROR_NS = 100 * MS
#: Between stamps that were cut to seconds a shorter gap may be none at all, unless the lines around prove it: gaps that were none
#: measured up to 0.48 s (captured cases, cut at six phases).
MOST_CUT_NS = SECOND // 2

#: A line so long after the end of the invocation that it names was not printed on the way into the freeze.
LONG_AFTER_NS = 1_000 * MS

#: After an invocation that ended so, the process is gone: what follows is no thaw of it.
ENDED = frozenset(("timeout", "crash"))

#: Error types of REPORT after which the process is gone (seen in public logs).
PROCESS_GONE = frozenset(("Runtime.ExitError", "Runtime.OutOfMemory", "Runtime.Unknown"))
#: How REPORT and platform.runtimeDone say that an invocation ended, and what that is to us.
_STATUS = {"timeout": "timeout", "error": "error", "failure": "error"}
#: The initialization type of environments that run all the time, many invocations at once.
MANAGED = "lambda-managed-instances"

#: What names of environments that the export lost begin with.
INFERRED = "inferred-"

#: With these a new process begins, of a snapshot or of the code.
BEGINS = frozenset(("init-start", "restore-start"))
#: After these a new process runs: sockets of the one before are gone.
EPOCH_ENDS = BEGINS | {"timeout", "crash"}
#: What REPORT says of the first invocation of a process.
_COLD = frozenset(("init_ns", "restore_ns"))
#: What tells how an invocation goes on, and what tells of invocations at all.
_AFTER_START = frozenset(("end", "report", "runtime-done", "timeout", "crash"))
_OF_INVOCATIONS = BEGINS | {"start"} | _AFTER_START


def infer_environments(events: list[Event]) -> dict[str, set[str]]:
    """Give events without a stream an environment: by request id of a known one, by pid, else by nesting of START/REPORT.

    Returns, by a source of each log, the environments made up for invocations of which it stays open where they ran.
    """
    lost = [e for e in events if e.environment is None]
    if not lost:
        return {}
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
    count, unsure = 0, dict[str, set[str]]()
    for log in _parts_joined(rest):
        count, open_ = _by_nesting(log, count)
        if open_:
            unsure.setdefault(log[0].source, set()).update(open_)
    return unsure


def _parts_joined(rest: dict[str, list[Event]]) -> list[list[Event]]:
    """The lines of each log without streams, in order: inputs that share a line or a request are pages of one, or overlap. Where
    every line tells its log group, each has a log of its own."""
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
    return [_by_stamps(group) for events in logs.values() for group in _by_log_group(events)]


def _by_log_group(events: list[Event]) -> Iterable[list[Event]]:
    groups: dict[str | None, list[Event]] = defaultdict(list)
    for e in events:
        groups[e.attrs.get("log_group")].append(e)
    return [events] if None in groups else groups.values()


def _by_stamps(events: list[Event]) -> list[Event]:
    """Lines of several inputs in the order of the service's stamps; those without one stay behind the line before them."""
    last, keys = 0, []
    for e in events:
        last = e.event_ns if e.event_ns is not None else last
        keys.append(last)
    return [events[k] for k in sorted(range(len(keys)), key=keys.__getitem__)]


def _by_nesting(events: list[Event], count: int) -> tuple[int, set[str]]:
    """One log's lines, in order, to environments; returns how many there are now, and those of invocations that may be any's."""
    platform = any(e.layer == "lambda" for e in events)
    alone = not platform and len({e.pid for e in events if e.pid}) <= 1  # one process, or nothing that tells two apart
    nesting = _Nesting(events, count, platform)
    # Managed instances run many invocations at a time in one environment: nesting tells nothing.
    only = nesting.fresh() if alone or any(map(_is_managed, events)) else None
    names = [only or nesting.environment(e) for e in events]
    if nesting.older_ran:
        nesting = _Nesting(events, count, platform, nesting.older)
        names = [nesting.environment(e) for e in events]
    for e, name in zip(events, names, strict=True):
        e.environment = name
    return nesting.count, nesting.unsure


class _Nesting:
    """A START while another invocation runs, a second INIT_START, or another process id, is another environment.

    Where several idle environments could have taken an invocation, nothing tells which did: it stands by itself, in an environment
    of its own. A line that still carries the id of an ended invocation tells: it is printed where that one ran. An invocation for
    which no environment is free, and which was no cold start, ran in one that is `older` than the log: where there are several of
    these, they could have taken the invocations before, too.
    """

    def __init__(self, events: list[Event], count: int, platform: bool, older: int = 0) -> None:
        self.count = count
        #: Environments that began before the log did, and whether any but the first to run showed itself.
        self.older, self.older_ran = 0, False
        self.unsure = set[str]()
        self._platform = platform
        self._running: dict[str, str] = {}  # environment → request id
        self._waiting: dict[str, None] = {}  # initialised, not used yet
        self._unused = {f"older-{n}" for n in range(older)}
        #: Used before, or older; `_left` of them are there, the others have taken invocations.
        self._idle: dict[str, None] = dict.fromkeys(sorted(self._unused))
        self._left = older
        self._ended: set[str] = set()  # those whose process is gone
        self._of_request: dict[str, str] = {}
        self._of_pid: dict[str, str] = {}
        self._current: str | None = None
        self._began = False  # whether no START came since the latest process began
        self._reports = {e.request_id: e.attrs for e in events if e.kind == "report"}
        self._told_cold = any(not _COLD.isdisjoint(attrs) for attrs in self._reports.values())
        self._follows = _stale_ids(events)
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
        return f"{INFERRED}{self.count}"

    def environment(self, e: Event) -> str:
        """The environment of the next line."""
        current = self._current = self._next(e)
        if self._told and e.pid:
            self._of_pid.setdefault(e.pid, current)
        return current

    def _next(self, e: Event) -> str:
        if e.kind in BEGINS:
            return self._begin()
        if e.kind == "start" and e.request_id:
            return self._start(e.request_id)
        if self._told and e.pid in self._of_pid:
            return self._of_pid[e.pid or ""]
        if e.request_id in self._of_request:
            current = self._of_request[e.request_id or ""]
            if e.kind in ENDED:
                self._ended.add(current)
            if e.kind == "report" and current in self._running:
                del self._running[current]
                self._idle[current] = None
                self._left += 1
            return current
        if e.pid and not self._platform:
            return self.fresh()
        return self._current or self._begin()

    def _begin(self) -> str:
        """A process is initialised; one that is gone needs no longer be waited for."""
        for name in self._ended & self._idle.keys():
            self._take(name)
        self._ended.clear()
        self._began = True
        name = self.fresh()
        self._waiting[name] = None
        return name

    def _start(self, request_id: str) -> str:
        """The environment that takes an invocation: its process's, that whose lines go on in it, else the only one it may be."""
        pid = self._pid_of.get(request_id)
        before = self._follows.get(request_id)
        found = self._of_pid.get(pid) if pid else self._of_request.get(before) if before else None
        if found is None or found in self._running:
            found = self._only(request_id, set(self._of_pid.values()) if pid else set())
        self._take(found)
        self._began = False
        if pid:
            self._of_pid.setdefault(pid, found)
        self._running[found], self._of_request[request_id] = request_id, found
        return found

    def _only(self, request_id: str, others: set[str]) -> str:
        """The only environment that may have taken an invocation, else a new one; `others` are of other processes."""
        report = self._reports.get(request_id)
        oldest = next((name for name in self._waiting if name not in others), None)
        if report is not None and not _COLD.isdisjoint(report):
            return oldest or self.fresh()
        if oldest and self._began and not self._told_cold:
            return next(reversed(self._waiting))  # the very next START, where reports never say which was the first one
        if oldest and not self._left:
            return oldest  # nothing is known of these but when they began
        if not oldest and self._left == len(self._idle):
            idle = [name for name in self._idle if name not in others]
            if idle and self._unused.issuperset(idle):  # each like the other
                self._take(idle[0])
                return self.fresh()
            if len(idle) == 1:
                return idle[0]
        if self._left:
            self._left -= 1
            if not self._left:
                self._idle.clear()
            found = self.fresh()
            self.unsure.add(found)
            return found
        if request_id not in self._pid_of:
            self.older += 1
            self.older_ran |= bool(self._of_request)
        return self.fresh()

    def _take(self, environment: str) -> None:
        self._waiting.pop(environment, None)
        if environment in self._idle:
            del self._idle[environment]
            self._left -= 1
            if not self._left:
                self._idle.clear()


def _stale_ids(events: list[Event]) -> dict[str, str]:
    """Invocations in which lines carry the id of one that ended long before, and that one: where no other ran, they are of one process.

    A guest prints with the id it read last: after a thaw, until it reads the next event, that is the previous one's.
    """
    found: dict[str, str] = {}
    running: dict[str, None] = {}
    ended: dict[str, int | None] = {}
    for e in events:
        if e.request_id is None:
            continue
        if e.kind == "start":
            running[e.request_id] = None
        elif e.kind == "report":
            running.pop(e.request_id, None)
            ended[e.request_id] = e.event_ns
        elif e.layer != "lambda" and len(running) == 1 and e.event_ns is not None:
            end = ended.get(e.request_id)
            if end is not None and e.event_ns - end >= LONG_AFTER_NS:
                found.setdefault(next(iter(running)), e.request_id)
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
    if "error_type" in e.attrs and str(e.attrs["error_type"]) in PROCESS_GONE:
        return "crash"
    return _STATUS.get(str(e.attrs["status"]), before) if "status" in e.attrs else before


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
    process began in between: what follows is no thaw of the one before. A gap that cut stamps may have made is none."""
    signs: dict[str, list[int]] = defaultdict(list)
    begun: dict[str, list[int]] = defaultdict(list)
    cut: dict[tuple[str, str] | None, int] = {}
    for e in events:
        if e.placed_ns and e.layer == "lambda" and e.resolution_ns >= SECOND:
            cut[e.source, e.ref] = e.placed_ns
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
            least = MIN_FREEZE_NS + min(cut.get(before.end_ref, 0) + cut.get(after.start_ref, 0), MOST_CUT_NS)
            if before.end_ns is None or after.start_ns - before.end_ns < least:
                continue
            part = _silent_part(before.end_ns, after.start_ns, signs[environment])
            if part is None or part[1] - part[0] < MIN_FREEZE_NS or before.status in ENDED:
                continue
            anew = begun.get(environment)
            if anew and bisect_right(anew, after.start_ns) > bisect_right(anew, before.end_ns):
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
    if not inside:
        return start, end
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
    first: dict[str | None, int] = {}
    last: dict[str | None, int] = {}
    group: dict[str | None, str] = {}
    for e in events:  # once: a look at each of a million lines waits for memory
        last[e.environment] = e.time_ns
        first.setdefault(e.environment, e.time_ns)
        if e.layer == "lambda" and "log_group" in e.attrs:
            group[e.environment] = e.attrs["log_group"]
    count = Counter(i.environment for i in invocations)
    found = [
        Environment(
            name, group.get(name), first[name], last[name], count[name], inferred=name.startswith(INFERRED)
        )
        for name in first if name is not None
    ]  # fmt: skip
    return sorted(found, key=lambda env: (env.first_ns or 0, env.id))
