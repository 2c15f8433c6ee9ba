"""The answer to a request for a repository, and its form in the topic `snapshots`. Pure."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TypeAlias

import orjson

from pipelines.atproto.syntax import Did, Tid
from pipelines.kafka.messages import OutputMessage
from pipelines.repair.requests import Cause


class RepoError(StrEnum):
    """What a server answers instead of a repository (lexicon com.atproto.sync.getRepo)."""

    NOT_FOUND = "RepoNotFound"
    TAKENDOWN = "RepoTakendown"
    SUSPENDED = "RepoSuspended"
    DEACTIVATED = "RepoDeactivated"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository, proven against its signature, whose records are in `chunks`.

    Attributes:
        did: the repository.
        rev: revision of its commit.
        commit: CID of the commit block, as text.
        data: CID of the tree's root, as text: the records have exactly this root.
        commit_block: the signed commit block in base64.
        records_count: records in all chunks.
        chunks_count: chunks; 0 for an empty repository.
        chunks_sha256: SHA-256 over the chunks' values one after the other, in hexadecimal.
        first_chunk_offset: from which offset on the chunks lie, in the partition of `chunks` that
            has the manifest's number.
        end_chunk_offset: up to which they lie, itself not included.
        host: the host that gave it, with its port where that is not the default.
        fetched_us: when, microseconds since the epoch.
        cause: of the request.
    """

    did: Did
    rev: Tid
    commit: str
    data: str
    commit_block: str
    records_count: int
    chunks_count: int
    chunks_sha256: str
    first_chunk_offset: int
    end_chunk_offset: int
    host: str
    fetched_us: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Absent:
    """A server has no repository to give.

    Attributes:
        did: the repository.
        error: name of the server's error.
        status: what that makes of the account (deleted, takendown, suspended, deactivated); None
            where the server merely does not know it.
        host: the host that was asked, with its port where that is not the default.
        fetched_us: when, microseconds since the epoch.
        cause: of the request.
    """

    did: Did
    error: RepoError
    status: str | None
    host: str
    fetched_us: int
    cause: Cause


Manifest: TypeAlias = Snapshot | Absent

_SNAPSHOT, _ABSENT = "snapshot", "absent"


def manifest_message(manifest: Manifest, partition: int, topic: str) -> OutputMessage:
    """Returns the message of an answer: JSON, version 1.

    Args:
        manifest: the answer.
        partition: of the repository.
        topic: physical name of `snapshots`.
    """
    kind = _SNAPSHOT if isinstance(manifest, Snapshot) else _ABSENT
    did = manifest.did.encode()
    return OutputMessage(
        topic,
        partition,
        did,
        orjson.dumps({"kind": kind, **asdict(manifest)}),
        [("did", did), ("kind", kind.encode())],
        manifest.fetched_us // 1_000,
    )


def parse_manifest(value: bytes) -> Manifest:
    """Takes a message value apart.

    Args:
        value: JSON, version 1.

    Raises:
        ValueError: it is of another shape, which a newer version may have written.
    """
    try:
        fields = orjson.loads(value)
        kind = fields.pop("kind")
        fields["cause"] = Cause(fields["cause"])
        if kind == _SNAPSHOT:
            return Snapshot(**fields)
        if kind == _ABSENT:
            return Absent(**fields | {"error": RepoError(fields["error"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an answer of version 1: {error!r}") from error
    raise ValueError(f"not an answer of version 1: kind {kind!r}")
