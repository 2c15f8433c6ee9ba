"""What is asked for and not done, and its form in the topic `repairs` (schema: `schemas/json`).

One message under a repository's DID says what is to be done, a null that nothing is. So what is
pending outlives the process, with the times of its next tries. Pure.
"""

from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Final

import orjson

from pipelines.atproto.syntax import Did, Tid
from pipelines.kafka.messages import OutputMessage
from pipelines.repair.requests import Cause, Request

# After the first failure, and the longest; in between it is doubled each time. spec: I-07
MIN_BACK_OFF_US: Final = 60_000_000
MAX_BACK_OFF_US: Final = 3_600_000_000
# By so much a wait is longer at most, by the DID and the try: what failed together does not come
# back together.
_SPREAD: Final = 0.25
# Of an error that is noted: it may quote one of any length.
MAX_ERROR_LENGTH: Final = 500

_MAX_DOUBLINGS: Final = 10


@dataclass(frozen=True, slots=True)
class Job:
    """A repository that is to be fetched.

    Attributes:
        did: the repository.
        cause: why, as the newest request says.
        reason: what broke, or None where nothing did.
        min_rev: revision that the repository has to have reached, or None if any will do.
        host: origin of the server to ask first; None for the one in the DID document.
        requested_us: when it became necessary, microseconds since the epoch.
        request_offset: offset of the newest request in its partition of `resyncs`.
        attempts: how often it was tried in vain.
        not_before_us: when to try again at the earliest, microseconds since the epoch.
        last_error: why the last try was in vain, for a person, or None.
    """

    did: Did
    cause: Cause
    reason: str | None
    min_rev: Tid | None
    host: str | None
    requested_us: int
    request_offset: int
    attempts: int
    not_before_us: int
    last_error: str | None


def job_of(request: Request, offset: int, pending: Job | None, not_before_us: int) -> Job:
    """Returns the job for a request.

    Args:
        request: the request.
        offset: where it is in its partition.
        pending: what is asked for of the repository already. Its tries count on: whoever asks
            again and again is not served sooner.
        not_before_us: when to try a new job at the earliest, microseconds since the epoch.
    """
    job = Job(
        did=request.did,
        cause=request.cause,
        reason=request.reason,
        min_rev=request.min_rev,
        host=request.host,
        requested_us=request.requested_us,
        request_offset=offset,
        attempts=0,
        not_before_us=not_before_us,
        last_error=None,
    )
    if pending is None:
        return job
    return replace(
        job,
        min_rev=max(filter(None, (job.min_rev, pending.min_rev)), default=None),
        requested_us=min(job.requested_us, pending.requested_us),
        attempts=pending.attempts,
        not_before_us=pending.not_before_us,
        last_error=pending.last_error,
    )


def failed(job: Job, error: str, now_us: int, *, is_last_source: bool) -> Job:
    """Returns a job after a try in vain.

    Args:
        job: what was tried.
        error: why it failed.
        now_us: the time, microseconds since the epoch.
        is_last_source: whether there is no other server to ask; else that is done at once.
    """
    attempts = job.attempts + 1
    wait_us = back_off_us(job.did, attempts) if is_last_source else 0
    return replace(
        job,
        attempts=attempts,
        not_before_us=now_us + wait_us,
        last_error=error[:MAX_ERROR_LENGTH],
    )


def back_off_us(did: Did, attempts: int) -> int:
    """Returns how long to wait after a number of tries in vain, microseconds.

    Args:
        did: the repository.
        attempts: from 1.
    """
    digest = sha256(f"{did}/{attempts}".encode()).digest()
    chance = int.from_bytes(digest[:4]) / 2**32
    doubled_us = MIN_BACK_OFF_US << min(attempts - 1, _MAX_DOUBLINGS)
    return min(MAX_BACK_OFF_US, int(doubled_us * (1 + _SPREAD * chance)))


def is_satisfied(job: Job, rev: Tid) -> bool:
    """Tells whether a repository of a revision is as new as was asked for. spec: I-05."""
    return job.min_rev is None or rev >= job.min_rev


def job_message(job: Job, partition: int, topic: str) -> OutputMessage:
    """Returns the message that keeps a job: JSON, version 1.

    Args:
        job: what is to be done.
        partition: of the repository.
        topic: physical name of `repairs`.
    """
    return _message(job, partition, topic, orjson.dumps(asdict(job)))


def done_message(job: Job, partition: int, topic: str) -> OutputMessage:
    """Returns the message that ends a job."""
    return _message(job, partition, topic, None)


def parse_job(value: bytes) -> Job:
    """Takes a message value apart.

    Args:
        value: JSON, version 1.

    Raises:
        ValueError: it is of another shape, which a newer version may have written.
    """
    try:
        fields = orjson.loads(value)
        return Job(**fields | {"cause": Cause(fields["cause"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a job of version 1: {error!r}") from error


def _message(job: Job, partition: int, topic: str, value: bytes | None) -> OutputMessage:
    did = job.did.encode()
    return OutputMessage(topic, partition, did, value, [("did", did)], job.requested_us // 1_000)
