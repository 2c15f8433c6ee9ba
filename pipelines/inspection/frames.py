"""A websocket message: its fields, the commit inside, the operations on the tree.

The checks are made in the order of `pipelines.verdict`: first the blocks, the commit and its
signature, then what the message claims, so that a bad message about a real commit is seen as such.
"""

from collections.abc import Iterator

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.commit import (
    AuthenticCommit,
    OpenedCommit,
    authenticate,
    prove_commit,
    prove_sync,
)
from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import (
    Action,
    CommitMessage,
    Envelope,
    Kind,
    Message,
    SyncMessage,
    parse_envelope,
    parse_message,
)
from pipelines.atproto.keys import VerifyingKey
from pipelines.inspection.commits import COMMIT_OBJECT, NO_KEY, SIGNATURE, commit_section
from pipelines.inspection.report import (
    Checklist,
    Fact,
    RecordView,
    Report,
    Section,
    Step,
    record_view,
    section,
    shown,
)
from pipelines.inspection.tree import survey_tree
from pipelines.verdict import check_arrival, open_envelope

_ENVELOPE = (
    Step.of("canonical CBOR within the limits", Reason.FRAME_TOO_LARGE, Reason.FRAME_NOT_CBOR),
    Step.of(
        "a header, and a payload with sequence number and account",
        Reason.FRAME_HEADER,
        Reason.FRAME_FIELD,
    ),
)
_FIELDS = Step.of(
    "every field of the message",
    Reason.FRAME_FIELD,
    Reason.FRAME_TOO_MANY_OPS,
    Reason.FRAME_BLOCKS_SIZE,
)
_OPERATIONS = Step.of("every operation by itself", Reason.FRAME_OP)
_OPEN = (
    Step.of(
        "every block has the hash of its CID",
        Reason.FRAME_FIELD,
        Reason.CAR_HEADER,
        Reason.CAR_SECTION,
        Reason.CAR_TRUNCATED,
        "cid",
    ),
    COMMIT_OBJECT,
    Step.of("the commit is of this account", Reason.COMMIT_DID_MISMATCH),
)
_NOT_FUTURE = Step.of(
    "the revision is not from the future", Reason.COMMIT_REV_FUTURE, Reason.SYNTAX_DATETIME
)
_SAME_REV = Step.of("the message has the commit's revision", Reason.COMMIT_REV_MISMATCH)
_CLAIMS = (
    _SAME_REV,
    Step.of("the message has the commit's CID", Reason.COMMIT_CID_MISMATCH),
    Step.of("each path stands in one operation", Reason.COMMIT_PATH_TWICE),
    Step.of("every record was sent", Reason.COMMIT_RECORD_MISSING, Reason.COMMIT_RECORD_TOO_LARGE),
    Step.of("the operations can be undone on the tree", "mst", Reason.COMMIT_OP_MISMATCH),
    Step.of(
        "undone, they give the previous root",
        Reason.COMMIT_PREV_DATA_MISMATCH,
        Reason.COMMIT_PREV_DATA_MISSING,
        Reason.COMMIT_NOT_GENESIS,
    ),
)
_MARKS = {Action.CREATE: "created", Action.UPDATE: "updated", Action.DELETE: "deleted"}


def inspect_frame(
    frame: bytes,
    *,
    signing_key: VerifyingKey | None,
    received_us: int | None,
    has_records: bool,
    max_tree_lines: int,
) -> Report:
    """Inspects a websocket message.

    Args:
        frame: the message.
        signing_key: to check a commit's signature with.
        received_us: when it was received, microseconds since the epoch; where nobody noted it,
            the frame's own time stands for it.
        has_records: whether the report shall have the records.
        max_tree_lines: of the picture.
    """
    checks = Checklist()
    envelope = checks.run(_ENVELOPE, lambda: parse_envelope(frame))
    if envelope is None:
        return Report(f"frame of {len(frame)} bytes", (), checks.results)
    title = f"{envelope.kind} frame of {len(frame)} bytes"
    if envelope.did is None or envelope.kind not in {Kind.COMMIT, Kind.SYNC}:
        message = checks.run((_FIELDS,), lambda: parse_message(envelope))
        return Report(title, tuple(_message_sections(envelope, message)), checks.results)

    did = envelope.did
    opened = checks.run(_OPEN, lambda: open_envelope(did, envelope))
    is_commit = envelope.kind is Kind.COMMIT
    claims = _CLAIMS if is_commit else (_SAME_REV,)
    parts = (_FIELDS, _OPERATIONS) if is_commit else (_FIELDS,)
    if opened is None:
        checks.skip((SIGNATURE, _NOT_FUTURE), "without a commit")
        message = checks.run(parts, lambda: parse_message(envelope))
        checks.skip(claims, "without a commit")
        return Report(title, tuple(_message_sections(envelope, message)), checks.results)

    if signing_key is None:
        checks.skip((SIGNATURE,), NO_KEY)
    else:
        checks.run((SIGNATURE,), lambda: authenticate(opened, signing_key))
    checks.run((_NOT_FUTURE,), lambda: check_arrival(opened, envelope, received_us))
    message = checks.run(parts, lambda: parse_message(envelope))
    # As if it were authentic: the line about the signature tells whether it is.
    authentic = AuthenticCommit(opened)
    if isinstance(message, CommitMessage):
        checks.run(claims, lambda: prove_commit(message, authentic))
    elif isinstance(message, SyncMessage):
        checks.run(claims, lambda: prove_sync(message, authentic))
    else:
        checks.skip(claims, f"after {_FIELDS.name!r}")
    return Report(
        title,
        (*_message_sections(envelope, message), commit_section(opened.commit, opened.commit_cid)),
        checks.results,
        tuple(_tree_lines(opened, message, max_tree_lines)),
        tuple(_records(opened, message)) if has_records else (),
    )


def _message_sections(envelope: Envelope, message: Message | None) -> Iterator[Section]:
    if message is None:  # what can be said at least
        yield section("message", seq=envelope.seq, did=envelope.did, time=envelope.time)
        return
    yield Section(
        "message",
        tuple(
            Fact(name, shown(value)) for name, value in message._asdict().items() if name != "ops"
        ),
    )
    if isinstance(message, CommitMessage):
        operations = (Fact(f"{op.action} {op.path}", _cids(op.cid, op.prev)) for op in message.ops)
        yield Section(f"operations ({len(message.ops)})", tuple(operations))


def _cids(cid: bytes | None, prev: bytes | None) -> str:
    now = "no record" if cid is None else encode_cid(cid)
    return now if prev is None else f"{now}, before {encode_cid(prev)}"


def _tree_lines(opened: OpenedCommit, message: Message | None, max_lines: int) -> Iterator[str]:
    if not isinstance(message, CommitMessage):
        return
    marks = {op.path: _MARKS[op.action] for op in message.ops}
    survey = survey_tree(opened.blocks, opened.commit.data_cid, marks=marks, max_lines=max_lines)
    yield from survey.picture()
    drawn = {path for path, _ in survey.records}
    for op in message.ops:
        if op.path not in drawn:
            yield f"not in what was sent: {op.path}  {_MARKS[op.action]}"


def _records(opened: OpenedCommit, message: Message | None) -> Iterator[RecordView]:
    for op in message.ops if isinstance(message, CommitMessage) else ():
        block = None if op.cid is None else opened.blocks.get(op.cid)
        if op.cid is not None and block is not None:
            yield record_view(op.path, op.cid, block)
