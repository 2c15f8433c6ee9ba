"""What reports of frames and of CARs say alike: the commit object and its signature."""

from datetime import UTC, datetime, timedelta

from pipelines.atproto.commit import SignedCommit
from pipelines.atproto.errors import Reason
from pipelines.atproto.syntax import Tid, tid_time_us
from pipelines.inspection.report import Section, Step, section

COMMIT_OBJECT = Step.of(
    "the root is a commit object",
    Reason.CAR_ROOT_MISSING,
    Reason.COMMIT_FIELD,
    Reason.COMMIT_VERSION,
)
SIGNATURE = Step.of("the signature is of the given key", "signature")
NO_KEY = "give the key with --key did:key:z…"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def commit_section(commit: SignedCommit, commit_cid: bytes) -> Section:
    """Describes a commit object."""
    return section(
        "commit",
        cid=commit_cid,
        did=commit.did,
        rev=commit.rev,
        rev_time=tid_time(commit.rev),
        data=commit.data_cid,
        prev=commit.prev,
        signature=commit.signature.hex(),
    )


def tid_time(tid: Tid) -> str:
    """Returns the time that a TID claims, RFC 3339 with microseconds."""
    time = _EPOCH + timedelta(microseconds=tid_time_us(tid))
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
