"""From a change to its message in `identities`. Pure."""

from pipelines.atproto.errors import Reason
from pipelines.atproto.syntax import Did
from pipelines.identity.entries import IdentityEntry, Origin, encode_entry
from pipelines.identity.operation import Form, Operation
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.mirror.intake import Change


def entry_of(did: Did, change: Change, directory: str, learned_us: int) -> IdentityEntry:
    """Returns what is known of a DID by its newest operation.

    Args:
        did: the account.
        change: the operation and when it came.
        directory: base URL of the directory.
        learned_us: when the directory said so, microseconds since the epoch. An operation from
            the future is one of then: readers keep the newest, and nothing would ever be newer.
    """
    operation = change.operation
    return IdentityEntry(
        did=did,
        signing_key=operation.signing_key,
        pds=operation.pds,
        handle=operation.handle,
        reason=_why_no_key(operation),
        origin=Origin.OPERATION,
        source=directory,
        as_of_us=min(max(0, change.created_us), learned_us),
        seq=change.seq,
        fetched_us=learned_us,
    )


def identity_message(entry: IdentityEntry, topic: str, partitions_count: int) -> OutputMessage:
    """Returns the message of an entry.

    Args:
        entry: what is known.
        topic: physical name of `identities`.
        partitions_count: of that topic.
    """
    key = entry.did.encode()
    return OutputMessage(
        topic,
        partition_for(entry.did, partitions_count),
        key,
        encode_entry(entry),
        [("did", key)],
        entry.fetched_us // 1000,
    )


def _why_no_key(operation: Operation) -> Reason | None:
    if operation.form is Form.TOMBSTONE:
        return Reason.IDENTITY_NOT_FOUND
    return None if operation.signing_key is not None else Reason.IDENTITY_NO_KEY
