"""The one error family of the protocol core, and the stable reasons it carries.

Every public function of `pipelines.atproto` returns or raises `ProtocolError`. An error means:
these bytes are proven bad, now and on every later try. The reason is a stable string that is at
once the quarantine header, the metric label and the test id; it is never renamed.
"""

from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why data was refused. `area.what`; the area is the layer that noticed."""

    # Frames: the websocket message and its two items.
    FRAME_TOO_LARGE = "frame.too_large"
    FRAME_NOT_CBOR = "frame.not_cbor"
    FRAME_HEADER = "frame.header"
    FRAME_FIELD = "frame.field"
    FRAME_TOO_MANY_OPS = "frame.too_many_ops"
    FRAME_BLOCKS_SIZE = "frame.blocks_size"
    FRAME_OP = "frame.op"
    # Identifiers.
    SYNTAX_DID = "syntax.did"
    SYNTAX_HANDLE = "syntax.handle"
    SYNTAX_NSID = "syntax.nsid"
    SYNTAX_RECORD_KEY = "syntax.record_key"
    SYNTAX_TID = "syntax.tid"
    SYNTAX_PATH = "syntax.path"
    SYNTAX_AT_URI = "syntax.at_uri"
    SYNTAX_DATETIME = "syntax.datetime"
    SYNTAX_URI = "syntax.uri"
    SYNTAX_LANGUAGE = "syntax.language"
    SYNTAX_CID = "syntax.cid"
    # Encodings.
    CBOR_INVALID = "cbor.invalid"
    CBOR_NOT_CANONICAL = "cbor.not_canonical"
    CBOR_DEPTH = "cbor.depth"
    CBOR_DATA_MODEL = "cbor.data_model"
    JSON_INVALID = "json.invalid"
    JSON_AMBIGUOUS = "json.ambiguous"
    JSON_TOO_LARGE = "json.too_large"
    CID_INVALID = "cid.invalid"
    CID_UNSUPPORTED = "cid.unsupported"
    CID_HASH_MISMATCH = "cid.hash_mismatch"
    CAR_HEADER = "car.header"
    CAR_TRUNCATED = "car.truncated"
    CAR_SECTION = "car.section"
    CAR_TOO_LARGE = "car.too_large"
    CAR_ROOT_MISSING = "car.root_missing"
    # Keys and signatures.
    KEY_INVALID = "key.invalid"
    KEY_UNSUPPORTED = "key.unsupported"
    SIGNATURE_ENCODING = "signature.encoding"
    SIGNATURE_FORM = "signature.form"
    SIGNATURE_HIGH_S = "signature.high_s"
    SIGNATURE_INVALID = "signature.invalid"
    # Merkle search tree.
    MST_NODE = "mst.node"
    MST_KEY = "mst.key"
    MST_KEY_ORDER = "mst.key_order"
    MST_PREFIX = "mst.prefix"
    MST_LAYER = "mst.layer"
    MST_RANGE = "mst.range"
    MST_RECURRENCE = "mst.recurrence"
    MST_BLOCK_MISSING = "mst.block_missing"
    MST_TOO_LARGE = "mst.too_large"
    # Commits: object, envelope, operations.
    COMMIT_FIELD = "commit.field"
    COMMIT_VERSION = "commit.version"
    COMMIT_DID_MISMATCH = "commit.did_mismatch"
    COMMIT_REV_MISMATCH = "commit.rev_mismatch"
    COMMIT_CID_MISMATCH = "commit.cid_mismatch"
    COMMIT_REV_FUTURE = "commit.rev_future"
    COMMIT_OP_MISMATCH = "commit.op_mismatch"
    COMMIT_PATH_TWICE = "commit.path_twice"
    COMMIT_RECORD_MISSING = "commit.record_missing"
    COMMIT_RECORD_TOO_LARGE = "commit.record_too_large"
    COMMIT_PREV_DATA_MISSING = "commit.prev_data_missing"
    COMMIT_PREV_DATA_MISMATCH = "commit.prev_data_mismatch"
    COMMIT_NOT_GENESIS = "commit.not_genesis"
    # Identity: who may sign for the repository.
    IDENTITY_UNSUPPORTED_METHOD = "identity.unsupported_method"
    IDENTITY_NOT_FOUND = "identity.not_found"
    IDENTITY_DOCUMENT = "identity.document"
    IDENTITY_NO_KEY = "identity.no_key"
    IDENTITY_LOG = "identity.log"
    # Not proven: nobody could tell for too long.
    IDENTITY_UNAVAILABLE = "identity.unavailable"
    IDENTITY_OTHER_SERVER = "identity.other_server"
    IDENTITY_HANDLE = "identity.handle"
    # PLC: operations of a did:plc, and their log.
    PLC_ENTRY = "plc.entry"
    PLC_OPERATION = "plc.operation"
    PLC_TOO_LARGE = "plc.too_large"
    PLC_CID_MISMATCH = "plc.cid_mismatch"
    PLC_DID_MISMATCH = "plc.did_mismatch"
    PLC_FIRST = "plc.first"
    PLC_PREV_UNKNOWN = "plc.prev_unknown"
    PLC_PREV_NULLIFIED = "plc.prev_nullified"
    PLC_TOMBSTONED = "plc.tombstoned"
    PLC_KEY_PRIORITY = "plc.key_priority"
    PLC_TIME_ORDER = "plc.time_order"
    PLC_TOO_LATE = "plc.too_late"


class ProtocolError(Exception):
    """Data that is proven bad.

    Attributes:
        reason: the stable reason.
        detail: one sentence for a person; may change between versions.
        did: the repository concerned, where it is known.
        rev: the revision concerned, where it is known.
        path: the record path (`collection/rkey`) concerned, where there is one.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        did: str | None = None,
        rev: str | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.did = did
        self.rev = rev
        self.path = path

    def __str__(self) -> str:
        about = " ".join(
            f"{name}={value}"
            for name, value in (("did", self.did), ("rev", self.rev), ("path", self.path))
            if value is not None
        )
        return f"{self.reason}: {self.detail}" + (f" ({about})" if about else "")

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call __init__ with `args` alone and lose the keyword fields.
        state = {"did": self.did, "rev": self.rev, "path": self.path}
        return (type(self), (self.reason, self.detail), state)


class FrameError(ProtocolError):
    """A websocket message is not a well-formed event."""


class IdentifierError(ProtocolError):
    """A DID, handle, NSID, record key, TID, path, URI, time, language or CID has bad syntax."""


class DagCborError(ProtocolError):
    """Bytes are not canonical DAG-CBOR within the AT data model."""


class CidError(ProtocolError):
    """A CID is malformed, of an unsupported kind, or does not match its block."""


class CarError(ProtocolError):
    """A CAR file is malformed or incomplete."""


class KeyFormatError(ProtocolError):
    """A public key is malformed or of an unsupported kind."""


class SignatureError(ProtocolError):
    """A signature is malformed or was not made by the expected key."""


class MstError(ProtocolError):
    """A Merkle search tree breaks a rule, or lacks a node that is needed."""


class CommitError(ProtocolError):
    """A commit contradicts itself, its message or its tree."""


class IdentityError(ProtocolError):
    """A DID has no identity that could sign: unknown, unsupported, or without a usable key."""


class PlcError(IdentityError):
    """An operation of a did:plc, or its log, breaks a rule: whoever serves it is wrong or lies."""


class MessageError(ProtocolError):
    """A message in a topic of ours is not what the topic's contract says."""
