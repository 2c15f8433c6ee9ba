"""What one look at a pipeline shows: beats and lags at a moment, put together.

Pure. A process is judged by its last beat and by how long ago that was; whoever started it may
know more (`Supervised`) and is believed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipelines.kafka.beat import Beat, State
from pipelines.kafka.lag import Lag
from pipelines.status.history import History
from pipelines.status.stages import BRIDGE, STAGES, StageSpec
from pipelines.status.upstreams import Upstream, troubles_in, upstreams_in, upstreams_text

# Five beats. A process that is alive beats even while it waits for the broker's answer; the beats
# themselves may be late by a few seconds on a machine that is overloaded.
SILENT_AFTER_S = 10.0

# Groups of numbers that say what is now: those of a process that is gone count no longer. The
# others are counts since the start.
_PRESENT_GROUPS = frozenset(
    {
        "parked",
        "refused_lately",
        "repos",
        "deletions",
        "repairs",
        "last_minute",
        "last_minute_languages",
        "this_hour",
    }
)

_MAY_END = frozenset(spec.name for spec in STAGES if spec.may_end)


class Condition(StrEnum):
    """What a process is doing, as seen from outside."""

    STARTING = "starting"
    RESTORING = "restoring"
    RUNNING = "running"
    WAITING = "waiting"
    STOPPED = "stopped"
    FAILED = "failed"
    SILENT = "silent"
    RESTARTING = "restarting"

    @property
    def is_alive(self) -> bool:
        """Whether there is a process."""
        return self in _ALIVE

    @property
    def is_problem(self) -> bool:
        """Whether somebody has to do something."""
        return self in {Condition.FAILED, Condition.SILENT}


_ALIVE = frozenset({Condition.STARTING, Condition.RESTORING, Condition.RUNNING, Condition.WAITING})


@dataclass(frozen=True, slots=True)
class Supervised:
    """What the one who started a process knows of it.

    Attributes:
        condition: what it is.
        detail: why, for a person; None where there is nothing to say.
        pid: its process, if there is one.
    """

    condition: Condition
    detail: str | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a stage.

    Attributes:
        stage: its stage.
        slot: its name there.
        condition: what it is doing.
        detail: more about that, for a person; may be empty.
        machine: where it runs; None before its first beat.
        pid: its process there; None if there is none.
        seconds: how long it has been alive, or silent; None where neither is known.
    """

    stage: str
    slot: str
    condition: Condition
    detail: str
    machine: str | None
    pid: int | None
    seconds: float | None

    @property
    def name(self) -> str:
        """The key of its beats."""
        return f"{self.stage}.{self.slot}"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: the sum of its processes.

    Attributes:
        name: its name.
        processes: those it has; stopped ones only where nothing else is left.
        taken_count: what went in since they started.
        taken_per_s: and a second.
        given_count: what came out since they started.
        given_per_s: and a second.
        lag: how far it is behind its input; None if it has none, or nobody could read it.
    """

    name: str
    processes: Sequence[Process]
    taken_count: int
    taken_per_s: float
    given_count: int
    given_per_s: float
    lag: Lag | None


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything that a look shows.

    Attributes:
        time_us: when, microseconds since the epoch.
        stages: in the order of the data's flow; those that were never seen are left out.
        frames_count: frames taken in since the bridges started.
        frames_per_s: and a second.
        proven_count: commits and syncs proven since the workers started.
        refused: frames refused, by reason.
        parked: frames that wait for an identity, and the accounts they are of; empty if none do.
        records_count: record messages written.
        repos: repositories by sync state.
        last_minute: records of the last whole minute, by collection.
        last_minute_languages: records of that minute that name a language, by it.
        upstreams: what the bridges read, by host.
        problems: what somebody has to look at; empty if all is well.
    """

    time_us: int
    stages: Sequence[Stage]
    frames_count: int
    frames_per_s: float
    proven_count: int
    refused: Mapping[str, int]
    parked: Mapping[str, int]
    records_count: int
    repos: Mapping[str, int]
    last_minute: Mapping[str, int]
    last_minute_languages: Mapping[str, int]
    upstreams: Sequence[Upstream]
    problems: Sequence[str]


def look(
    history: History,
    lags: Mapping[str, Lag],
    now_us: int,
    supervised: Mapping[str, Supervised] | None = None,
) -> Overview:
    """Returns what there is to see now.

    Args:
        history: what the processes said.
        lags: by stage.
        now_us: the time of day, microseconds since the epoch.
        supervised: what is known of processes beside their beats, by `<stage>.<slot>`; None if
            nobody says so.
    """
    known = supervised or {}
    beats = {
        name: beat
        for beat in history.latest()
        # Who supervises is not interested in processes of former runs.
        if (name := beat.key.decode()) in known
        or supervised is None
        or beat.report.state is not State.STOPPED
    }
    by_stage: dict[str, list[Process]] = {}
    for name in sorted(beats.keys() | known.keys()):
        process = _process(name, beats.get(name), known.get(name), now_us)
        by_stage.setdefault(process.stage, []).append(process)
    specs = {name: StageSpec(name) for name in by_stage} | {spec.name: spec for spec in STAGES}
    order = [spec.name for spec in STAGES if spec.name in by_stage]
    order += sorted(by_stage.keys() - set(order))  # stages of a newer version
    stages = [
        _stage(specs[name], _worth_showing(by_stage[name]), beats, history, lags.get(name))
        for name in order
    ]
    groups = _groups((process for stage in stages for process in stage.processes), beats)
    alive = [
        beats[process.name].report
        for stage in stages
        for process in stage.processes
        if process.condition.is_alive and process.name in beats
    ]
    upstreams = upstreams_in(alive)
    bridge = next((stage for stage in stages if stage.name == BRIDGE.name), None)
    return Overview(
        time_us=now_us,
        stages=stages,
        frames_count=0 if bridge is None else bridge.given_count,
        frames_per_s=0 if bridge is None else bridge.given_per_s,
        proven_count=groups["proven"].total(),
        refused=dict(groups["refused"]),
        parked=dict(+groups["parked"]),
        records_count=groups["written"]["records"],
        repos=dict(groups["repos"]),
        last_minute=dict(groups["last_minute"]),
        last_minute_languages=dict(groups["last_minute_languages"]),
        upstreams=upstreams,
        problems=[
            *_problems(stages, is_supervised=supervised is not None),
            *troubles_in(upstreams, now_us),
        ],
    )


def _process(name: str, beat: Beat | None, supervised: Supervised | None, now_us: int) -> Process:
    stage, _, slot = name.partition(".")
    if beat is None or (supervised is not None and supervised.condition is not Condition.RUNNING):
        assert supervised is not None
        started = supervised.condition is Condition.RUNNING
        condition = Condition.STARTING if started else supervised.condition
        return Process(stage, slot, condition, supervised.detail or "", None, supervised.pid, None)
    if supervised is not None and supervised.pid != beat.pid:
        # The last words of its predecessor.
        return Process(stage, slot, Condition.STARTING, "", None, supervised.pid, None)
    silent_s = (now_us - beat.updated_us) / 1e6
    condition = Condition(beat.report.state)
    detail, seconds = _activity(beat, now_us), (now_us - beat.started_us) / 1e6
    if condition.is_alive and silent_s > SILENT_AFTER_S:
        condition, seconds = Condition.SILENT, silent_s
        detail = f"no sign of life of pid {beat.pid} on {beat.machine}"
    if condition in {Condition.STOPPED, Condition.FAILED}:
        seconds = silent_s
    return Process(stage, slot, condition, detail, beat.machine, beat.pid, seconds)


def _activity(beat: Beat, now_us: int) -> str:
    if beat.report.detail is not None:
        return " ".join(beat.report.detail.split())  # an error's text may have several lines
    counters = beat.report.counters
    if counters.get("leading") == 0:
        return "stands by"
    if "last_received_us" in counters:
        seconds = max(0, now_us - counters["last_received_us"]) / 1e6
        return f"{upstreams_text(beat.report)}last frame {seconds:.1f} s ago"
    if "partitions" in counters:
        count = counters["partitions"]
        return "1 partition" if count == 1 else f"{count} partitions"
    return ""


def _stage(
    spec: StageSpec,
    processes: Sequence[Process],
    beats: Mapping[str, Beat],
    history: History,
    lag: Lag | None,
) -> Stage:
    counters = [beats[p.name].report.counters for p in processes if p.name in beats]
    alive = [process.name.encode() for process in processes if process.condition.is_alive]
    return Stage(
        name=spec.name,
        processes=processes,
        taken_count=sum(numbers.get(spec.taken, 0) for numbers in counters),
        taken_per_s=sum(history.rate(key, spec.taken) for key in alive),
        given_count=sum(numbers.get(spec.given, 0) for numbers in counters),
        given_per_s=sum(history.rate(key, spec.given) for key in alive),
        lag=lag,
    )


def _worth_showing(processes: Sequence[Process]) -> Sequence[Process]:
    """Returns the processes without stopped ones, unless there are no others.

    Slots that are no longer used, such as a bridge's for an upstream of former days, would fill
    the screen, and their counts would be taken for today's.
    """
    others = [process for process in processes if process.condition is not Condition.STOPPED]
    return others or processes


def _groups(processes: Iterable[Process], beats: Mapping[str, Beat]) -> dict[str, Counter[str]]:
    """Returns the sums over processes of all groups; empty ones where nobody has any."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for process in processes:
        if process.name in beats:
            for group, members in beats[process.name].report.groups.items():
                if process.condition.is_alive or group not in _PRESENT_GROUPS:
                    groups[group].update(members)
    return groups


def _problems(stages: Sequence[Stage], *, is_supervised: bool) -> Iterator[str]:
    alive = [stage for stage in stages if any(p.condition.is_alive for p in stage.processes)]
    if not alive and not is_supervised:
        yield "nothing runs: `standpipe up` starts a pipeline"
    for stage in stages:
        for process in stage.processes:
            if process.condition.is_problem:
                yield (
                    f"{process.name} is {process.condition}: {process.detail}; start it again, or "
                    f"forget it with `standpipe status --forget {process.name}`"
                )
        conditions = {process.condition for process in stage.processes}
        is_over = conditions == {Condition.STOPPED} and stage.name not in _MAY_END
        if alive and is_over and not is_supervised:
            yield f"no {stage.name} runs: start one with `standpipe {stage.name}`"
