"""Signs of life for tests of what is made of them."""

from collections.abc import Mapping

from pipelines.kafka.beat import Beat, Report, State

NOW_US = 1_790_000_000_000_000


def beat(
    stage: str,
    slot: str = "0",
    *,
    state: State = State.RUNNING,
    detail: str | None = None,
    age_s: float = 0,
    started_s: float = 60,
    pid: int = 17,
    counters: Mapping[str, int] | None = None,
    groups: Mapping[str, Mapping[str, int]] | None = None,
) -> Beat:
    """Returns a beat written `age_s` before NOW_US by a process started `started_s` before it."""
    return Beat(
        stage=stage,
        slot=slot,
        machine="worker-1",
        pid=pid,
        started_us=NOW_US - round(started_s * 1e6),
        updated_us=NOW_US - round(age_s * 1e6),
        report=Report(state, detail, counters or {}, groups or {}),
    )
