"""What a stage process says about itself: a message of the topic `status`, to bytes and back.

Pure. The form of a message is that of `schemas/json/status/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import orjson

TOPIC = "status"
# Of a detail: it may quote an error of any length, and only its beginning fits on a screen.
MAX_DETAIL_LENGTH = 500


class State(StrEnum):
    """What a stage process is doing."""

    STARTING = "starting"
    RESTORING = "restoring"
    RUNNING = "running"
    WAITING = "waiting"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Report:
    """What a stage says about itself.

    Attributes:
        state: what it is doing.
        detail: what it waits for, or why it failed; else None.
        counters: numbers by name: counts since the process started, or what is now.
        groups: counts by the name of the group and of its member, such as `refused` by reason.
    """

    state: State
    detail: str | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Beat:
    """One message of the topic `status`.

    Attributes:
        stage: name of the stage.
        slot: name of the process among those of its stage.
        machine: name of the host that it runs on.
        pid: its process there.
        started_us: when it started, microseconds since the epoch.
        updated_us: when this was written, by the same clock.
        report: what it says.
    """

    stage: str
    slot: str
    machine: str
    pid: int
    started_us: int
    updated_us: int
    report: Report

    @property
    def key(self) -> bytes:
        """The message key: the last beat of each process is kept."""
        return f"{self.stage}.{self.slot}".encode()


def encode_beat(beat: Beat) -> bytes:
    """Returns the message value of a beat."""
    report = beat.report
    fields = {
        "stage": beat.stage,
        "slot": beat.slot,
        "machine": beat.machine,
        "pid": beat.pid,
        "started_us": beat.started_us,
        "updated_us": beat.updated_us,
        "state": report.state,
        "detail": None if report.detail is None else report.detail[:MAX_DETAIL_LENGTH],
        "counters": dict(report.counters),
        "groups": {group: dict(members) for group, members in report.groups.items()},
    }
    return orjson.dumps(fields, option=orjson.OPT_NON_STR_KEYS)  # a member may be of a StrEnum


def parse_beat(value: bytes) -> Beat:
    """Returns the beat in a message value.

    Raises:
        ValueError: it is none. A newer version may have written it.
    """
    try:
        fields = orjson.loads(value)
        return Beat(
            stage=fields["stage"],
            slot=fields["slot"],
            machine=fields["machine"],
            pid=fields["pid"],
            started_us=fields["started_us"],
            updated_us=fields["updated_us"],
            report=Report(
                state=State(fields["state"]),
                detail=fields["detail"],
                counters=fields["counters"],
                groups=fields["groups"],
            ),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a message of the topic {TOPIC}: {error}") from None
