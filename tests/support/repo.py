"""Made-up repositories: signed commits and their messages, with anything in them replaceable."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support import wire
from support.oracle import Tree, build, cid_of, dag_cbor, link

from pipelines.atproto import mst
from pipelines.atproto.commit import OpenedCommit, open_commit
from pipelines.atproto.errors import ProtocolError, Reason
from pipelines.atproto.frames import Action, CommitMessage, Op, SyncMessage, parse_frame
from pipelines.atproto.keys import Curve, VerifyingKey
from pipelines.atproto.syntax import Did, Nsid, RecordKey

T = TypeVar("T")

DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
OTHER_DID = Did("did:plc:z72i7hdynmk6r22z27h6tvur")

_ORDERS: dict[Curve, int] = {
    "k256": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
}


class Signer:
    """A private key.

    Attributes:
        key: the public key that checks its signatures.
    """

    def __init__(self, curve: Curve = "k256", secret: int = 1) -> None:
        library_curve = ec.SECP256K1() if curve == "k256" else ec.SECP256R1()
        self._private = ec.derive_private_key(secret, library_curve)
        point = self._private.public_key().public_bytes(
            Encoding.X962, PublicFormat.CompressedPoint
        )
        self.key = VerifyingKey(curve, point)

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self._private.sign(message, ec.ECDSA(SHA256())))
        order = _ORDERS[self.key.curve]
        return r.to_bytes(32) + min(s, order - s).to_bytes(32)

    def with_high_s(self, signature: bytes) -> bytes:
        """Returns the other signature that the curve's equation allows."""
        s = _ORDERS[self.key.curve] - int.from_bytes(signature[32:])
        return signature[:32] + s.to_bytes(32)


SIGNER = Signer()
P256_SIGNER = Signer("p256")
OTHER_SIGNER = Signer(secret=2)


def commit_fields(data: bytes, **changes: Any) -> dict[str, Any]:
    """Returns an unsigned commit object."""
    fields = {"did": DID, "version": 3, "data": link(data), "rev": wire.rev(0), "prev": None}
    return fields | changes


def sign_commit(fields: Mapping[str, Any], signer: Signer = SIGNER) -> bytes:
    """Returns the block of a signed commit object."""
    return dag_cbor({**fields, "sig": signer.sign(dag_cbor(fields))})


def make_op(action: Action, path: str, cid: bytes | None, prev: bytes | None) -> Op:
    collection, _, rkey = path.partition("/")
    return Op(action, path, Nsid(collection), RecordKey(rkey), cid, prev)


def make_ops(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> tuple[Op, ...]:
    """Returns the operations that lead from one state to another."""
    ops = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        if old is None:
            ops.append(make_op(Action.CREATE, path, new, None))
        elif new is None:
            ops.append(make_op(Action.DELETE, path, None, old))
        else:
            ops.append(make_op(Action.UPDATE, path, new, old))
    return tuple(ops)


def op_fields(op: Op) -> dict[str, Any]:
    """Returns an operation as a message has it."""
    fields: dict[str, Any] = {
        "action": str(op.action),
        "path": op.path,
        "cid": None if op.cid is None else link(op.cid),
    }
    return fields if op.prev is None else fields | {"prev": link(op.prev)}


@dataclass(frozen=True)
class Step:
    """One commit of a repository, and what its message has to say.

    Attributes:
        signer: who signed it.
        rev: its revision.
        since: the revision before, or None.
        before: the tree before.
        after: the tree after.
        ops: the difference.
        records: CID → block, of the records that were created or updated.
        commit: the block of the signed commit object.
    """

    signer: Signer
    rev: str
    since: str | None
    before: Tree
    after: Tree
    ops: tuple[Op, ...]
    records: Mapping[bytes, bytes]
    commit: bytes

    @cached_property
    def blocks(self) -> dict[bytes, bytes]:
        """The commit, its records, and the whole tree."""
        return {cid_of(self.commit): self.commit, **self.after.nodes, **self.records}

    @cached_property
    def needed_nodes(self) -> dict[bytes, bytes]:
        """The nodes without any one of which inversion fails, found by trial."""
        nodes = dict(self.after.nodes)
        for cid in self.after.nodes:
            without = {other: block for other, block in nodes.items() if other != cid}
            try:
                data_before = mst.invert(without, self.after.root, self.ops)
            except ProtocolError:
                continue
            if data_before == self.before.root:
                nodes = without
        return nodes

    @property
    def car(self) -> bytes:
        return wire.car(cid_of(self.commit), self.blocks.values())

    @property
    def needed_car(self) -> bytes:
        """The smallest CAR that proves the commit."""
        blocks = [self.commit, *self.needed_nodes.values(), *self.records.values()]
        return wire.car(cid_of(self.commit), blocks)

    def payload(self, **changes: Any) -> dict[str, Any]:
        """Returns the payload of the `#commit`; a change to `...` leaves the field out."""
        fields = {
            "seq": 1,
            "rebase": False,
            "tooBig": False,
            "repo": DID,
            "commit": link(cid_of(self.commit)),
            "rev": self.rev,
            "since": self.since,
            "blocks": self.car,
            "ops": [op_fields(op) for op in self.ops],
            "blobs": [],
            "time": wire.START_TIME,
            "prevData": ... if self.since is None else link(self.before.root),
        }
        return _without_absent(fields | changes)

    def frame(self, **changes: Any) -> bytes:
        return wire.frame("#commit", self.payload(**changes))

    def message(self, **changes: Any) -> CommitMessage:
        message = parse_frame(self.frame(**changes))
        assert isinstance(message, CommitMessage)
        return message

    def opened(self) -> OpenedCommit:
        return open_commit(DID, self.car)

    def sync_frame(self, **changes: Any) -> bytes:
        """Returns the `#sync` to this commit."""
        fields = {
            "seq": 1,
            "did": DID,
            "rev": self.rev,
            "blocks": wire.car(cid_of(self.commit), [self.commit]),
            "time": wire.START_TIME,
        }
        return wire.frame("#sync", _without_absent(fields | changes))

    def sync_message(self, **changes: Any) -> SyncMessage:
        message = parse_frame(self.sync_frame(**changes))
        assert isinstance(message, SyncMessage)
        return message


def _without_absent(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not ...}


class Repo:
    """A repository that grows commit by commit, a second apart."""

    def __init__(self, signer: Signer = SIGNER) -> None:
        self.signer = signer
        self.records: dict[str, bytes] = {}
        self._step_count = 0

    def apply(self, changes: Mapping[str, Any], rev: str | None = None) -> Step:
        """Makes the next commit.

        Args:
            changes: path → record value; None deletes.
            rev: its revision, if it shall not be a second after the one before.
        """
        before = dict(self.records)
        blocks: dict[bytes, bytes] = {}
        for path, value in changes.items():
            if value is None:
                del self.records[path]
            else:
                block = dag_cbor(value)
                blocks[cid_of(block)] = block
                self.records[path] = cid_of(block)
        after = build(self.records)
        rev = rev or wire.rev(self._step_count)
        step = Step(
            signer=self.signer,
            rev=rev,
            since=wire.rev(self._step_count - 1) if self._step_count else None,
            before=build(before),
            after=after,
            ops=make_ops(before, self.records),
            records=blocks,
            commit=sign_commit(commit_fields(after.root, rev=rev), self.signer),
        )
        self._step_count += 1
        return step


def record(text: str) -> dict[str, Any]:
    """Returns the value of a small record."""
    return {"$type": "com.example.note", "text": text}


def make_step(signer: Signer = SIGNER) -> Step:
    """Returns a commit with a create, an update and a delete, in a repository of 12 records."""
    repo = Repo(signer)
    repo.apply({f"com.example.note/{n:04}": record(f"first {n}") for n in range(12)})
    return repo.apply(
        {
            "com.example.note/0003": None,
            "com.example.note/0005": record("second"),
            "com.example.note/0005a": record("new"),
        }
    )


class ScriptedKeys:
    """Keys for the judge, as a test wants them; remembers what it was asked for."""

    def __init__(
        self,
        current: VerifyingKey | Exception = SIGNER.key,
        refreshed: VerifyingKey | Exception | None = None,
        past: VerifyingKey | Exception | None = None,
    ) -> None:
        self._current = current
        self._refreshed = refreshed
        self._past = past
        self.asked: list[tuple[Any, ...]] = []

    def current_key(self, did: Did) -> VerifyingKey:
        self.asked.append(("current", did))
        if isinstance(self._current, Exception):
            raise self._current
        return self._current

    def refreshed_key(self, did: Did, since_us: int | None) -> VerifyingKey | None:
        self.asked.append(("refreshed", did, since_us))
        return _answer(self._refreshed)

    def key_at(self, did: Did, time_us: int) -> VerifyingKey | None:
        self.asked.append(("at", did, time_us))
        return _answer(self._past)


def _answer(scripted: VerifyingKey | Exception | None) -> VerifyingKey | None:
    if isinstance(scripted, Exception):
        raise scripted
    return scripted


def refusal(call: Callable[[], object]) -> ProtocolError:
    """Returns the error that a call raises."""
    try:
        outcome = call()
    except ProtocolError as error:
        return error
    raise AssertionError(f"accepted: {outcome!r:.200}")


def outcome(call: Callable[[], T], family: type[ProtocolError] = ProtocolError) -> T | Reason:
    """Returns what a call returns, or the reason of the error it raises.

    Args:
        call: what to try.
        family: the errors that are expected; any other one comes through.
    """
    try:
        return call()
    except family as error:
        return error.reason
